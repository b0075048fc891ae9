#!/usr/bin/env python3
"""Puts small faults into a copy of the tree, one at a time, and says whether the tests find them.

    mutants.py [--only NAME]... [--jobs N] [--list]
    mutants.py --changed [--seconds N]

--changed takes a few: of files that the last commits or the working tree changed, else drawn by the name of the commit.

The faults stand in mutants.txt, see its head. Every build and run happens in a scratch directory. Exit code 1: a mutant
survived, its text is not found exactly once, it does not compile, or the tree itself does not pass.
"""
import argparse
import concurrent.futures
import fnmatch
import glob
import os
import queue
import random
import re
import shutil
import subprocess
import sys
import tempfile
import time

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
KEYS = {"name", "file", "in", "old", "new", "by", "why", "equivalent"}
SECONDS = 240  # a test that runs longer hangs, which is also found


class Problem(Exception):
    pass


def read_list(path):
    mutants, block = [], None
    with open(path, encoding="utf-8") as f:
        for number, line in enumerate(f, 1):
            line = line.rstrip("\n")
            if line.startswith("#") or not line.strip():
                block = None if not line.strip() else block
                continue
            key, _, value = line.partition(":")
            if key not in KEYS:
                raise Problem(f"mutants.txt:{number}: no such key: {key}")
            if key == "name":
                block = {"line": number}
                mutants.append(block)
            if block is None:
                raise Problem(f"mutants.txt:{number}: a block begins with its name")
            value = value[1:] if value.startswith(" ") else value
            block[key] = f"{block[key]}\n{value}" if key in block else value
    for block in mutants:
        missing = {"name", "file", "old"} - set(block)
        if missing or ("by" in block) == ("equivalent" in block):
            raise Problem(f"mutants.txt:{block['line']}: give name, file, old, and one of by and equivalent")
    names = [block["name"] for block in mutants]
    if len(set(names)) != len(names):
        raise Problem("mutants.txt: a name stands twice")
    return mutants


def body_of(text, function):
    """Begin and end of a function's definition."""
    pattern = rf"^(?![\s*#/}}]).*\b{re.escape(function)}\([^;{{]*\)\s*\n\{{"
    found = list(re.finditer(pattern, text, re.M))
    if len(found) != 1:
        raise Problem(f"function {function} found {len(found)} times")
    return found[0].start(), text.index("\n}", found[0].end()) + 2


def mutate(text, mutant):
    begin, end = body_of(text, mutant["in"]) if "in" in mutant else (0, len(text))
    words = [re.escape(word) for word in mutant["old"].split()]
    found = list(re.finditer(r"\s+".join(words), text[begin:end]))
    if len(found) != 1:
        raise Problem(f"the text is found {len(found)} times in {mutant['file']}")
    at = found[0]
    return text[:begin + at.start()] + mutant.get("new", "") + text[begin + at.end():]


def check(mutant):
    """None, or why it cannot be tried: its text is not there, or it is no C."""
    path = os.path.join(ROOT, mutant["file"])
    try:
        with open(path, encoding="utf-8") as f:
            text = mutate(f.read(), mutant)
    except (Problem, OSError) as problem:
        return str(problem)
    done = subprocess.run(os.environ.get("CC", "cc").split() + [
        "-fsyntax-only", "-w", "-std=gnu11", "-D_GNU_SOURCE", "-DRINGBUS_HOOKS", '-DRINGBUS_BINDIR=""',
        "-iquote", os.path.dirname(path), "-I", os.path.join(ROOT, "lib"), "-I", os.path.join(ROOT, "include"),
        "-x", "c", "-"], input=text, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, check=False)
    if done.returncode == 0:
        return None
    return f"is no C: {done.stderr.partition('error: ')[2].partition(chr(10))[0]}"


def git(*arguments):
    try:
        done = subprocess.run(["git", "-C", ROOT, *arguments], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
                              text=True, check=False)
        return done.stdout.split() if done.returncode == 0 else []
    except OSError:
        return []


def choose_changed(mutants, most=4):
    """At most so many, those of changed files first; cheap ones, which need no more than the explorer."""
    cheap = [mutant for mutant in mutants if mutant.get("by", "").startswith("explore ")]
    changed = set(git("diff", "--name-only", "HEAD")) | set(git("diff", "--name-only", "HEAD~3", "HEAD"))
    seed = (git("rev-parse", "HEAD") or [str(time.time_ns())])[0]
    print(f"mutants of {', '.join(sorted(changed & {m['file'] for m in cheap})) or 'no changed file'}, drawn by {seed}")
    random.Random(seed).shuffle(cheap)
    cheap.sort(key=lambda mutant: mutant["file"] not in changed)
    return cheap[:most]


class Tree:
    """A copy of the sources with a build of its own."""

    def __init__(self, path):
        self.source = os.path.join(path, "source")
        self.build = os.path.join(path, "build")
        shutil.copytree(ROOT, self.source, ignore=shutil.ignore_patterns(".git", "build*", "__pycache__"))
        self.run(["meson", "setup", self.build, self.source, "-Dbuildtype=debugoptimized", "-Dbench=false"])

    def run(self, command, **options):
        done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace",
                              check=False, **options)
        if done.returncode != 0:
            raise Problem(f"{' '.join(command)} fails:\n{done.stdout[-3000:]}")
        return done.stdout

    def test(self, by):
        """None if it passes, else how it fails."""
        program, *arguments = by.split()
        targets = [f"tests/{program}"]
        if program != "explore":
            targets += ["tools/ringbusd", "tools/shm-inspect"]
        self.run(["ninja", "-C", self.build, *targets])
        environment = dict(os.environ, RINGBUSD=f"{self.build}/tools/ringbusd", RINGBUS_TOOLS=f"{self.build}/tools",
                           RINGBUS_SOURCE=self.source, RINGBUS_BUILD=self.build)
        environment.setdefault("HARNESS_WATCHDOG", "20")  # what hangs is found all the same
        try:
            done = subprocess.run([f"{self.build}/tests/{program}", *arguments], env=environment, text=True,
                                  stdout=subprocess.PIPE, stderr=subprocess.STDOUT, errors="replace", timeout=SECONDS,
                                  check=False)
        except subprocess.TimeoutExpired:
            return "hangs"
        if done.returncode == 0:
            return None
        lines = [line for line in done.stdout.split("\n") if re.search(r"FAILED|\[  ERROR|AddressSan", line)]
        return re.sub(r".*FAILED ", "", lines[0])[:110] if lines else f"exit code {done.returncode}"

    def try_mutant(self, mutant):
        path = os.path.join(self.source, mutant["file"])
        with open(path, encoding="utf-8") as f:
            before = f.read()
        with open(path, "w", encoding="utf-8") as f:
            f.write(mutate(before, mutant))
        try:
            return self.test(mutant["by"])
        finally:
            with open(path, "w", encoding="utf-8") as f:
                f.write(before)


def try_all(mutants, jobs, scratch, deadline):
    trees = queue.Queue()
    for i in range(jobs):
        trees.put(Tree(os.path.join(scratch, str(i))))
    first = trees.get()
    for by in sorted({mutant["by"] for mutant in mutants}):
        how = first.test(by)
        if how:
            raise Problem(f"without any mutant {by} fails: {how}")
    trees.put(first)

    def one(mutant):
        tree = trees.get()
        start = time.monotonic()
        if start > deadline:
            trees.put(tree)
            print(f"no time   {mutant['name']}")
            return None
        try:
            how = tree.try_mutant(mutant)
            verdict = f"killed    {mutant['name']}: {how}" if how else f"SURVIVED  {mutant['name']} ({mutant['by']})"
        except Problem as problem:
            how = None
            verdict = f"BROKEN    {mutant['name']}: {problem}"
        finally:
            trees.put(tree)
        print(f"{verdict}  [{time.monotonic() - start:.0f} s]", flush=True)
        return bool(how)

    with concurrent.futures.ThreadPoolExecutor(jobs) as pool:
        return list(pool.map(one, mutants))


def regions():
    """What tests have in shared memory; one that a mutant kills leaves it there."""
    return set(glob.glob("/dev/shm/ringbus-test-*") + glob.glob("/dev/shm/ringbus-e2e-*"))


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--only", action="append", help="a name or pattern; may be repeated")
    parser.add_argument("--jobs", type=int, default=1, help="builds and runs at a time (1)")
    parser.add_argument("--changed", action="store_true", help="a few, of changed files if there are any")
    parser.add_argument("--seconds", type=float, default=float("inf"), help="begin no mutant after so long")
    parser.add_argument("--list", action="store_true", help="names only, after a check that each can be tried")
    options = parser.parse_args()
    mutants = read_list(os.path.join(ROOT, "tests", "mutants.txt"))
    if options.only:
        mutants = [mutant for mutant in mutants
                   if any(fnmatch.fnmatch(mutant["name"], pattern) for pattern in options.only)]
    deadline = time.monotonic() + options.seconds
    if options.changed:
        mutants = choose_changed(mutants)
    broken = 0
    with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
        problems = list(pool.map(check, mutants))
    for mutant, problem in zip(mutants, problems):
        if problem:
            print(f"BROKEN    {mutant['name']}: {problem}")
            broken += 1
        if options.list:
            print(mutant["name"], "-", mutant.get("by", "equivalent: " + mutant.get("equivalent", "")))
    if options.list or broken:
        return 1 if broken else 0
    todo = [mutant for mutant in mutants if "by" in mutant]
    for mutant in mutants:
        if "equivalent" in mutant:
            print(f"equivalent {mutant['name']}: {mutant['equivalent']}".replace("\n", " "))
    scratch = tempfile.mkdtemp(prefix="ringbus-mutants-")
    others = regions()
    try:
        killed = try_all(todo, min(options.jobs, max(1, len(todo))), scratch, deadline)
    finally:
        for path in [scratch, *(regions() - others)]:
            shutil.rmtree(path, ignore_errors=True)
    killed = [verdict for verdict in killed if verdict is not None]
    print(f"{sum(killed)} of {len(killed)} mutants killed, {len(mutants) - len(todo)} equivalent")
    print(f"ledger: mutants-killed {sum(killed)}")
    print(f"{sum(killed)} passed, {len(killed) - sum(killed)} failed, 0 skipped")
    return 0 if all(killed) and (killed or options.changed) else 1


if __name__ == "__main__":
    try:
        sys.exit(main())
    except Problem as text:
        print(text)
        print("0 passed, 1 failed, 0 skipped")
        sys.exit(1)
