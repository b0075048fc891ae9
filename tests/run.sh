#!/bin/sh
# Builds and tests everything. The last line is "N passed, N failed, N skipped"; exit code 1 if anything failed.
#
#	tests/run.sh                  plain, ASan+UBSan and TSan builds, a minute of everything at once, a few mutants
#	tests/run.sh --quick          plain build without stress
#	tests/run.sh --full           also clang, -O3 with LTO, -O0, valgrind, longer stress, mutants, models
#	tests/run.sh --soak MINUTES   random operations and faults with fresh seeds for so long
set -u
cd "$(dirname "$0")/.." || exit 1
mode=default
minutes=0
while [ $# -gt 0 ]; do
	case $1 in
	--quick) mode=quick ;;
	--full) mode=full ;;
	--soak) mode=soak; minutes=${2:?minutes}; shift ;;
	*) sed -n '2,7s/^# \{0,1\}//p' "$0" >&2; exit 2 ;;
	esac
	shift
done

if [ -f tools/deps.sh ]; then
	# shellcheck source=/dev/null
	(. tools/deps.sh) || { echo "0 passed, 1 failed, 0 skipped"; exit 1; }
fi
unset RINGBUS_DIR RINGBUS_PORT RINGBUS_LOG DESTDIR
logs=
counted=
broken=0
found=0
missed=0
absent=0
begin=$(date +%s)

say() {
	echo "== $(($(date +%s) - begin)) s: $*"
}

# fails TEXT FILE: counts a build that did not come about and shows why.
fails() {
	echo "== $1"
	grep -A12 -E 'error|ERROR|FAILED|warning' "$2" || tail -n 20 "$2"
	broken=$((broken + 1))
	return 1
}

# build DIR OPTIONS...: sets up or updates; false if it does not compile.
build() {
	dir=$1
	shift
	say "build $dir $*"
	mkdir -p "$dir"
	if [ ! -f "$dir/build.ninja" ]; then
		meson setup "$dir" --werror "$@" >"$dir/setup.log" 2>&1
	else
		meson setup --reconfigure "$dir" "$@" >"$dir/setup.log" 2>&1
	fi || fails "setup of $dir" "$dir/setup.log" || return
	ninja -C "$dir" >"$dir/ninja.log" 2>&1 || fails "build of $dir" "$dir/ninja.log"
}

# run DIR NAME ARGUMENTS...: meson test; its log is counted at the end.
run() {
	dir=$1
	log=$2
	shift 2
	say "test $dir: $log"
	meson test -C "$dir" --no-rebuild --logbase "$log" --print-errorlogs "$@" 2>&1 |
		grep -vE '^(ninja:|$|Full log|Ok:|Expected|Unexpected|Skipped:|Timeout:|Fail:)'
	json=$dir/meson-logs/$log.json
	[ -f "$json" ] || json=$dir/meson-logs/$log-valgrind.json # a wrapper adds its name
	logs="$logs $json"
}

asan() {
	build build-tests-asan -Dbuildtype=debugoptimized -Db_sanitize=address,undefined -Db_lundef=false \
		-Dbench=false || return
	ASAN_OPTIONS=abort_on_error=0:detect_stack_use_after_return=1 UBSAN_OPTIONS=halt_on_error=1:print_stacktrace=1 \
		HARNESS_SLOW=4 run build-tests-asan asan --suite quick --suite lies --timeout-multiplier 4
	asan_tools
}

# The tools over damaged regions, where a read beyond a buffer ends in no crash by itself. A report of a sanitizer
# has an exit code of its own, for 1 is a verdict.
asan_tools() {
	damages=60
	[ "$mode" != full ] || damages=500
	export ASAN_OPTIONS=detect_stack_use_after_return=1:exitcode=99
	export UBSAN_OPTIONS=halt_on_error=1:print_stacktrace=1:exitcode=99
	RINGBUS_DAMAGES=$damages run build-tests-asan asan-damage e2e_inspect --timeout-multiplier 20 --test-args \
		"damaged_files_are_answered_for a_bus_that_is_damaged_while_looked_at_crashes_nobody"
	run build-tests-asan asan-tap e2e_tap --timeout-multiplier 4
	unset ASAN_OPTIONS UBSAN_OPTIONS
}

tsan() {
	build build-tests-tsan -Dbuildtype=debugoptimized -Db_sanitize=thread -Db_lundef=false \
		-Dbench=false || return
	TSAN_OPTIONS="die_after_fork=0:halt_on_error=1:second_deadlock_stack=1:suppressions=$PWD/tests/tsan.supp" \
		HARNESS_SLOW=8 run build-tests-tsan tsan --suite quick --timeout-multiplier 8
}

soak() {
	build build-tests -Dbuildtype=debugoptimized || { echo "0 passed, 1 failed, 0 skipped"; exit 1; }
	exec python3 tests/soak.py build-tests --minutes "$minutes"
}

# count NAME COMMAND...: a script that ends with "N passed, N failed, N skipped"; added to the sums.
count() {
	say "$1"
	log=build-tests/$1.log
	shift
	"$@" >"$log" 2>&1
	grep -vE '^(killed|equivalent|ok|ledger:) ' "$log"
	counted="$counted $log"
	# shellcheck disable=SC2046
	set -- $(tail -n 1 "$log" | grep -E '^[0-9]+ passed, [0-9]+ failed')
	found=$((found + ${1:-0}))
	missed=$((missed + ${3:-1}))
	absent=$((absent + ${5:-0}))
}

# What the tests run through, and the tests again and again: figures of the table.
covered() {
	build build-tests-cov -Dbuildtype=debug -Doptimization=0 -Db_coverage=true -Dbench=false \
		"-Dc_args=-fprofile-update=atomic -DHARNESS_COVERAGE" || return
	find build-tests-cov -name '*.gcda' -exec rm -f {} +
	# with the lengths of the default run: what is run longer runs through nothing else
	for name in $lengths; do
		unset "$name"
	done
	HARNESS_SLOW=4 run build-tests-cov cov --suite quick --suite hostile --suite lies --suite e2e \
		--timeout-multiplier 4
	count coverage python3 tests/coverage.py build-tests-cov --rest build-tests/coverage.txt --least 85 60
}

repeated() {
	# shellcheck disable=SC2046
	run build-tests repeats --repeat 20 $(meson test -C build-tests --list --suite quick 2>/dev/null |
		sed -n 's,^ringbus:quick / \(\(contract\|api\|unit\|bad\)_[a-z_0-9]*\)$,\1,p')
	if python3 tests/tally.py build-tests/meson-logs/repeats.json | grep -q ' passed, 0 failed, '; then
		figure suite-repeats 20
	fi
}

# figure NAME VALUE: what this script itself adds to the table.
figure() {
	echo "ledger: $1 $2" >>build-tests/figures.log
}

# The faults of tests/mutants.txt, each of which must be found; counted as tests.
mutants() {
	count mutants python3 tests/mutants.py --jobs "$(nproc)"
}

# aside COMMAND: in the background, for what takes one processor; joined() takes over its output, logs and failures.
aside() {
	# shellcheck disable=SC2030
	(
		logs=
		broken=0
		"$@"
		echo "$logs" >build-tests/aside.logs
		echo "$broken" >build-tests/aside.broken
	) >build-tests/aside.out 2>&1 &
	beside=$!
}

joined() {
	wait "$beside"
	cat build-tests/aside.out
	# shellcheck disable=SC2031
	logs="$logs $(cat build-tests/aside.logs)"
	broken=$((broken + $(cat build-tests/aside.broken || echo 1)))
}

# is_there PROGRAM: what is left out without it counts as skipped.
is_there() {
	command -v "$1" >/dev/null && return
	say "$1 is not installed: its tests are left out"
	absent=$((absent + 1))
	return 1
}

full() {
	unset HOSTILE_JUDGE # times were judged in the plain build
	rm -f build-tests/aside.*
	aside asan
	tsan
	if is_there clang; then
		CC=clang build build-tests-clang -Dbuildtype=debugoptimized -Dbench=false &&
			run build-tests-clang clang --suite quick --suite hostile
	fi
	build build-tests-lto -Dbuildtype=release -Db_lto=true -Doptimization=3 -Dbench=false &&
		run build-tests-lto lto --suite quick --suite hostile --suite e2e
	build build-tests-o0 -Dbuildtype=debug -Doptimization=0 -Dbench=false &&
		run build-tests-o0 o0 --suite quick --suite hostile
	# the programs that fill filesystems, truncate the region or filter system calls have nothing to say there
	if is_there valgrind; then
		HARNESS_SLOW=20 run build-tests-o0 valgrind --timeout-multiplier 20 \
			--wrap "valgrind -q --error-exitcode=9 --leak-check=full --errors-for-leak-kinds=definite
				--suppressions=$PWD/tests/valgrind.supp" \
			contract_events contract_signals contract_nodes contract_delivery contract_faults bad_input \
			unit_notice
	fi
	joined
	mutants
	count models tests/models/run.sh
	repeated
	covered
}

[ "$mode" != soak ] || soak
lengths="HOSTILE_LOADS CHAOS_ROUNDS MEMORY_ROUNDS PIDREUSE_ROUNDS GROUP_ROUNDS CLOSE_ROUNDS BELL_ROUNDS CYCLES"
if build build-tests -Dbuildtype=debugoptimized; then
	: >build-tests/figures.log
	if [ "$mode" = full ]; then
		export HOSTILE_LOADS=24000000 CHAOS_ROUNDS=100000 MEMORY_ROUNDS=300 HOSTILE_JUDGE=1
		export PIDREUSE_ROUNDS=10000 GROUP_ROUNDS=300 CLOSE_ROUNDS=5000 BELL_ROUNDS=20000 CYCLES=100000
	fi
	run build-tests style --suite style
	run build-tests quick --suite quick
	[ "$mode" = quick ] || run build-tests hostile --suite hostile
	if [ "$mode" = full ]; then
		RINGBUS_DAMAGES=10000 RINGBUS_JUDGE=1 run build-tests e2e --suite e2e --timeout-multiplier 10
	else
		RINGBUS_DAMAGES=250 run build-tests e2e --suite e2e
	fi
	if [ "$mode" = full ]; then
		export KILLAT_ALL=1 KILLAT_KILLS=70000 KILLAT_STOPS=6000
		export KILLAT_SERVICE=3000 KILLAT_IMAGES=64 KILLAT_JUDGE=1
		export STRESS_EACH=1000000 STOP_SECONDS=30 WAKE_ROUNDS=1500000 KILL_ROUNDS=600 EXPLORE_SCALE=10
		export KILL_BUSES=40 SERVICE_KILLS=10000 STRESS_SMALL=750000000 BYSTANDER_MS=1000 BYSTANDER_JUDGE=1
		together=600
	fi
	# what measures times, or sees to it itself who runs where, has the machine for itself where times are judged
	if [ "$mode" = full ]; then
		run build-tests stress-alone --num-processes 1 --timeout-multiplier 4 stress_bystander stress_stop \
			killat_slot stress_wake stress_delivery stress_service stress_cycles
		HARNESS_SLOW=2 run build-tests stress-together --num-processes 2 --timeout-multiplier 8 killat \
			stress_kill explore
	elif [ "$mode" != quick ]; then
		HARNESS_SLOW=2 run build-tests stress --suite stress --num-processes 2 --timeout-multiplier 4
	fi
	if [ "$mode" != quick ]; then
		count together python3 tests/soak.py build-tests --together "${together:-60}"
	fi
	[ "$mode" != default ] || count changed python3 tests/mutants.py --changed --jobs 1 --seconds 45
fi
case $mode in
default)
	rm -f build-tests/aside.*
	aside asan
	tsan
	joined
	;;
full) full ;;
esac
say "done; figures of this run:"
clean=0
for log in $logs; do
	case $log in
	*/asan*.json | */tsan*.json | */valgrind*.json)
		# shellcheck disable=SC2046
		set -- $(python3 tests/tally.py "$log" | tail -n 1)
		clean=$((clean + ${1:-0}))
		;;
	esac
done
[ $clean -eq 0 ] || figure tests-under-sanitizers $clean
counted="$counted build-tests/figures.log"
# shellcheck disable=SC2086
python3 tests/ledger.py $logs $counted | tee build-tests/ledger.txt
[ "$mode" != full ] || echo "python3 tests/ledger.py --write tests/README.md$logs$counted" >build-tests/ledger.sh
# shellcheck disable=SC2086
summary=$(python3 tests/tally.py $logs)
printf '%s\n' "$summary" | sed '$d'
last=$(printf '%s\n' "$summary" | tail -n 1)
# a build that does not compile is a failed test, and so is a count that does not come about
case $last in
*" passed, "*" failed, "*" skipped") ;;
*) printf '%s\n' "$last"; last="0 passed, 1 failed, 0 skipped" ;;
esac
set -- $last
echo "$(($1 + found)) passed, $(($3 + broken + missed)) failed, $(($5 + absent)) skipped"
[ $(($3 + broken + missed)) -eq 0 ] && [ "$1" -gt 0 ]
