#!/bin/bash
# Checks the models of this directory: every run that a model names at its head must end as it says there.
#
#	tests/models/run.sh [-j JOBS] [PATTERN]...     PATTERN: beginnings of names of models; all if there is none
#
# A model names its runs in lines of its first comment: "holds: DEFINITIONS" (every state that can be reached was
# visited, and none breaks a property) and "fails: DEFINITIONS" (a control: a step of the protocol is left out, and spin
# must find what goes wrong without it); "pan: OPTIONS" are options for its compiler.
# Needs spin and gcc; exit code 77 without. One line for each run; the last line is "N passed, N failed, N skipped".
set -u
cd "$(dirname "$0")" || exit 1
jobs=$(nproc)
if [ "${1:-}" = -j ]; then
	jobs=$2
	shift 2
fi
for tool in spin gcc; do
	if ! command -v $tool >/dev/null; then
		echo "models: no $tool, nothing was checked"
		echo "0 passed, 0 failed, 1 skipped"
		exit 77
	fi
done
work=$(mktemp -d) || exit 1
trap 'rm -rf "$work"' EXIT
export work here=$PWD

# one NUMBER MODEL EXPECTED DEFINITIONS...: checks, and leaves a line in row.NUMBER.
one() {
	local number=$1 model=$2 expected=$3 found=broken states begin=$SECONDS verdict=ok
	shift 3
	mkdir "$work/$number"
	cd "$work/$number" || exit 1
	# shellcheck disable=SC2046
	if spin "$@" -a "$here/$model.pml" >spin.out 2>&1 &&
		gcc -O2 -w -DSAFETY -DMEMLIM=3000 $(sed -n 's/^ \* pan: //p' "$here/$model.pml") -o pan pan.c \
			2>>spin.out; then
		timeout 900 ./pan -m400000 >pan.out 2>&1
		if grep -q 'errors: 0' pan.out && ! grep -qE 'depth too small|not completed|out of memory' pan.out; then
			found=holds
		elif grep -qE 'assertion violated|invalid end state' pan.out && grep -q 'errors: 1' pan.out; then
			found=fails
		fi
	fi
	states=$(sed -n 's/^ *\([0-9.e+]*\) states, stored.*/\1/p' pan.out 2>/dev/null)
	[ $found = "$expected" ] || verdict=WRONG
	printf '%-5s %-13s %-5s %-6s %10s states %3d s  %s\n' $verdict "$model" "$expected" $found "${states:-no}" \
		$((SECONDS - begin)) "$*" | tee "$work/row.$number"
	[ $verdict = ok ] || tail -n 3 spin.out
	rm -rf "${work:?}/$number"
}
export -f one

for model in *.pml; do
	model=${model%.pml}
	wanted=$#
	for pattern in "$@"; do
		[ "${model#"$pattern"}" = "$model" ] || wanted=0
	done
	[ $wanted -eq 0 ] || continue
	sed -n '/\*\//q; s/^ \* \(holds\|fails\):/\1/p' "$model.pml" | sed "s/^/$model /"
done >"$work/list"
awk '{ printf "%03d %s\n", NR, $0 }' "$work/list" | xargs -r -P "$jobs" -L 1 bash -c 'one "$@"' one
total=$(wc -l <"$work/list")
passed=$(cat "$work"/row.* 2>/dev/null | grep -c '^ok')
echo "$(grep -c holds "$work/list") runs that hold, $(grep -c fails "$work/list") controls that are refuted," \
	"$(cat "$work"/row.* 2>/dev/null | awk '{ n += $5 } END { printf "%.0f", n }') states"
echo "ledger: models $(cut -d ' ' -f 1 "$work/list" | sort -u | wc -l)"
echo "ledger: controls-refuted $(cat "$work"/row.* 2>/dev/null | grep -c '^ok.*fails')"
echo "$passed passed, $((total - passed)) failed, 0 skipped"
[ "$total" -gt 0 ] && [ "$passed" -eq "$total" ]
