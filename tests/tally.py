#!/usr/bin/env python3
"""Counts the tests in Meson's testlog.json files: single cmocka tests and unittest methods, whole scripts otherwise.

    tally.py FILE...        prints what failed and was skipped, then "N passed, N failed, N skipped"
"""
import json
import re
import sys


def number(pattern, text):
    return sum(int(n) for n in re.findall(pattern, text, re.M))


def cmocka(text, result):
    ran = number(r"^\[==========\] .*?(\d+) test\(s\) run\.", text)
    if ran == 0:  # it died on the way
        return len(re.findall(r"^\[       OK \]", text, re.M)), 1, 0
    skipped = number(r"^\[  SKIPPED \] (\d+) test\(s\)", text)
    if result == "OK":  # its exit code is the number of failed tests; lines may be garbled by other output
        return ran - skipped, 0, skipped
    passed = number(r"^\[  PASSED  \] (\d+) test\(s\)", text)
    return passed, ran - passed - skipped, skipped


def unittest(text, result):
    total = number(r"^Ran (\d+) tests?", text)
    failed = number(r"(?:failures|errors)=(\d+)", text)
    skipped = number(r"skipped=(\d+)", text)
    return total - failed - skipped, failed, skipped


def own_line(text, result):
    match = re.findall(r"^(\d+) passed, (\d+) failed, (\d+) skipped$", text, re.M)[-1]
    return tuple(int(n) for n in match)


def count(test):
    text = test.get("stdout", "") + "\n" + test.get("stderr", "")
    result = test["result"]
    for marker, reader in ((r"^\[==========\] Running", cmocka), (r"^Ran \d+ tests?", unittest),
                           (r"^\d+ passed, \d+ failed, \d+ skipped$", own_line)):
        if re.search(marker, text, re.M):
            passed, failed, skipped = reader(text, result)
            break
    else:
        passed, failed, skipped = int(result == "OK"), 0, int(result == "SKIP")
    if result not in ("OK", "SKIP", "EXPECTEDFAIL") and failed == 0:
        failed = 1
    return passed, failed, skipped


def main():
    total = [0, 0, 0]
    for path in sys.argv[1:]:
        try:
            with open(path, encoding="utf-8", errors="replace") as f:
                tests = [json.loads(line) for line in f if line.strip()]
        except (OSError, ValueError):  # not there, or cut off
            print(f"no log: {path}")
            total[1] += 1
            continue
        for test in tests:
            numbers = count(test)
            total = [a + b for a, b in zip(total, numbers)]
            text = test.get("stdout", "") + "\n" + test.get("stderr", "")
            if numbers[1]:
                names = sorted(set(re.findall(r"^\[  (?:FAILED  |ERROR   )\] ([A-Za-z]\S*)$", text, re.M)))
                print(f"FAILED {path.split('/')[0]} {test['name']} ({test['result']}): {' '.join(names)}")
            if numbers[2]:
                names = sorted(set(re.findall(r"^\[  SKIPPED \] (\D\S*)$", text, re.M)))
                print(f"skipped {path.split('/')[0]} {test['name']}: {' '.join(names)}")
    print("%d passed, %d failed, %d skipped" % tuple(total))
    return 1 if total[1] or not total[0] else 0


if __name__ == "__main__":
    sys.exit(main())
