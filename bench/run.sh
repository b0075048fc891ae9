#!/bin/sh
# Runs the standard table (under 10 minutes) and writes a page with plots: OUT/report.html, beside
# OUT/rows.json and OUT/*.hgrm.
#
# Usage: bench/run.sh [--readme] [-b BUILD] [-r RUNS] [-o OUT] [ringbus-bench options]
# BUILD is a Meson build directory; without it a release build is made in build-bench.
# --readme keeps the figures in bench/results and writes their table into README.md.
set -eu

here=$(dirname -- "$0")
build=
runs=7
out=bench-report
readme=
if [ "${1:-}" = --readme ]; then
	readme=yes
	shift
fi
while getopts b:r:o:h option; do
	case $option in
	b) build=$OPTARG ;;
	r) runs=$OPTARG ;;
	o) out=$OPTARG ;;
	*)
		sed -n '2,7s/^# \{0,1\}//p' "$0"
		[ "$option" = h ] && exit 0
		exit 2
		;;
	esac
done
shift $((OPTIND - 1))

if [ -z "$build" ]; then
	build=$here/../build-bench
	if [ ! -d "$build" ]; then
		meson setup --buildtype=release "$build" "$here/.."
	fi
	ninja -C "$build" bench/ringbus-bench
fi

load=$(cut -d ' ' -f 1 /proc/loadavg)
case $load in
0.*) ;;
*) echo "run.sh: the load is $load; figures of a busy machine say little" >&2 ;;
esac

# 1 says that a row failed or lost messages; the report shows which
status=0
"$build/bench/ringbus-bench" compare --runs "$runs" --budget 540 --report "$out" "$@" || status=$?
[ "$status" -le 1 ] || exit "$status"
python3 "$here/report.py" "$out" >"$out/report.html"
if [ -n "$readme" ]; then
	python3 "$here/report.py" --save "$out"
	python3 "$here/report.py" --readme
fi
echo "$out/report.html"
exit "$status"
