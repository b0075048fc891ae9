#!/usr/bin/env python3
"""What the tests have run through of the library and the tools: lines and branches, by gcov.

    coverage.py BUILD [--rest FILE] [--least LINES BRANCHES] [--most LINES]
    coverage.py --reasons

BUILD was made with -Db_coverage=true and its tests have run. The sources are built several times (library, with hooks,
for killat): a line counts if one of them ran it, and of its branches those of the build that took most. --rest: a file
for what was never run or taken; --least: percentages that fail if not reached; --most: so many lines of lib/ may be
unrun without a reason. unrun.txt gives the reasons: "why: TEXT", then "FILE: LINE OF CODE" for each line that it holds
for. --reasons looks only whether all those lines are still there. The last line is "N passed, N failed, N skipped".
"""
import argparse
import collections
import glob
import json
import os
import subprocess
import sys

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
PARTS = ("lib/", "tools/")


def documents(build):
    """gcov's view of each object file, run or not."""
    objects = sorted(glob.glob(os.path.join(build, "**", "*.gcno"), recursive=True))
    for at in range(0, len(objects), 20):
        done = subprocess.run(["gcov", "--json-format", "--stdout", "--branch-probabilities"] + objects[at:at + 20],
                              capture_output=True, cwd=build, check=False)
        for line in done.stdout.splitlines():
            if line.startswith(b"{"):
                yield json.loads(line)


def gather(build):
    """file -> line -> [runs, branches taken, branches]"""
    files = collections.defaultdict(dict)
    for document in documents(build):
        for source in document["files"]:
            name = os.path.relpath(os.path.join(document["current_working_directory"], source["file"]), ROOT)
            if not name.startswith(PARTS):
                continue
            lines = files[name]
            for number, (runs, taken, branches) in merged(source["lines"]).items():
                old = lines.get(number, [0, 0, 0])
                share = max((old[1], old[2]), (taken, branches), key=lambda b: b[0] / b[1] if b[1] else 0)
                lines[number] = [old[0] + runs, *share]
    return files


def merged(lines):
    """One entry a line of one object: inlined copies of a function add up branch by branch."""
    out = {}
    for line in lines:
        runs, branches = out.get(line["line_number"], (0, []))
        counts = [branch["count"] for branch in line["branches"] if not branch["throw"]]
        if len(counts) == len(branches):
            branches = [a + b for a, b in zip(branches, counts)]
        elif sum(map(bool, counts)) > sum(map(bool, branches)) or not branches:
            branches = counts
        out[line["line_number"]] = (runs + line["count"], branches)
    return {number: (runs, sum(map(bool, branches)), len(branches)) for number, (runs, branches) in out.items()}


def ranges(numbers):
    """1 2 3 7 -> 1-3, 7"""
    parts = []
    for number in sorted(numbers):
        if parts and number == parts[-1][1] + 1:
            parts[-1][1] = number
        else:
            parts.append([number, number])
    return ", ".join(str(a) if a == b else f"{a}-{b}" for a, b in parts)


def percent(a, b):
    return 100.0 * a / b if b else 0.0


def reasons():
    """(file, line of code) of unrun.txt -> why it is not run"""
    out, why = {}, None
    with open(os.path.join(ROOT, "tests", "unrun.txt"), encoding="utf-8") as file:
        for line in file:
            word, _, rest = line.strip().partition(": ")
            if word == "why":
                why = rest
            elif rest and not line.startswith("#"):
                out[word, rest] = why
    return out


def source(name):
    with open(os.path.join(ROOT, name), encoding="utf-8") as file:
        return [line.strip() for line in file]


def check_reasons():
    stale = [key for key in reasons() if not os.path.exists(os.path.join(ROOT, key[0])) or key[1] not in source(key[0])]
    for name, line in stale:
        print(f"unrun.txt: not in {name} any more: {line}")
    print(f"{1 - bool(stale)} passed, {int(bool(stale))} failed, 0 skipped")
    return 1 if stale else 0


def unrun(name, lines, why):
    """What is said of the lines of a file that were never run, and how many of them have no reason."""
    text = source(name)
    missed = [n for n, line in sorted(lines.items()) if not line[0]]
    known = collections.defaultdict(list)
    for n in missed:
        known[why.get((name, text[n - 1]))].append(n)
    said = [f"    never run: {ranges(numbers)}" + (f": {reason}" if reason else "")
            for reason, numbers in sorted(known.items(), key=lambda pair: pair[1])]
    said = said or ["    never run: none"]
    half = [f"{n} ({ways - taken} of {ways})"
            for n, (runs, taken, ways) in sorted(lines.items()) if runs and taken < ways]
    if half:
        said.append(f"    ways never taken from lines that were run: {', '.join(half)}")
    return said, len(known[None])


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("build", nargs="?")
    parser.add_argument("--rest")
    parser.add_argument("--least", nargs=2, type=float, default=(1, 1))
    parser.add_argument("--most", type=int, default=1 << 30)
    parser.add_argument("--reasons", action="store_true")
    options = parser.parse_args()
    if options.reasons or not options.build:
        return check_reasons()
    why, unexplained = reasons(), 0
    files = gather(os.path.abspath(options.build))
    total = {part: [0, 0, 0, 0] for part in PARTS}
    rest = []
    for name in sorted(files):
        lines = files[name]
        part = next(part for part in PARTS if name.startswith(part))
        figures = (sum(line[0] > 0 for line in lines.values()), len(lines),
                   sum(line[1] for line in lines.values()), sum(line[2] for line in lines.values()))
        total[part] = [a + b for a, b in zip(total[part], figures)]
        rest.append(f"{name}: {percent(*figures[:2]):.1f} % of {figures[1]} lines, "
                    f"{percent(*figures[2:]):.1f} % of {figures[3]} branches")
        said, without = unrun(name, lines, why)
        rest += said
        unexplained += without if part == "lib/" else 0
    if options.rest:
        with open(options.rest, "w", encoding="utf-8") as out:
            out.write("\n".join(rest) + "\n")
    failed = 0
    for part in PARTS:
        ran, lines, taken, branches = total[part]
        print(f"{part}: {percent(ran, lines):.1f} % of {lines} lines, "
              f"{percent(taken, branches):.1f} % of {branches} branches")
    ran, lines, taken, branches = total["lib/"]
    for name, figure, least in (("lines-covered", percent(ran, lines), options.least[0]),
                                ("branches-covered", percent(taken, branches), options.least[1])):
        print(f"ledger: {name} {figure:.2f}")
        failed += figure < least
    print(f"ledger: lines-unexplained {unexplained}")
    failed += unexplained > options.most
    print(f"{3 - failed} passed, {failed} failed, 0 skipped")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
