#!/bin/sh
# Each public header alone is valid C11 and C++17 for every compiler that is there: headers.sh ROOT
set -eu
root=$1
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
count=0
for header in "$root"/include/*.h; do
	name=$(basename "$header")
	printf '#include "%s"\n#include "%s"\nint main(void) { return 0; }\n' "$name" "$name" >"$work/alone.c"
	cp "$work/alone.c" "$work/alone.cc"
	for cc in gcc clang; do
		command -v "$cc" >/dev/null || continue
		"$cc" -std=c11 -pedantic -Wall -Wextra -Werror -fsyntax-only -I"$root/include" "$work/alone.c"
		count=$((count + 1))
	done
	for cxx in g++ clang++; do
		command -v "$cxx" >/dev/null || continue
		"$cxx" -std=c++17 -pedantic -Wall -Wextra -Werror -fsyntax-only -I"$root/include" "$work/alone.cc"
		count=$((count + 1))
	done
done
echo "$count compilations"
[ "$count" -gt 0 ]
