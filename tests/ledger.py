#!/usr/bin/env python3
"""The table "promise or row, test, figure of this run", from what the tests printed.

    ledger.py FILE...                          prints the table; FILE: Meson's testlog.json, or a test's output
    ledger.py --write tests/README.md FILE...  rewrites the table there; rows without a figure keep theirs; and the
                                               sentence in ../README.md that tells some of them
    ledger.py --soak tests/README.md FILE...   adds what a soak printed to the last column of the table there

A test prints lines `ledger: NAME VALUE`. `ledger.py --names ROOT` finds names that only the table or only the
tests know. Counts are summed over all builds and tests of a run, figures are the worst of them.
"""
import json
import os
import re
import subprocess
import sys
import textwrap

SUM, MAX, MIN = "sum", "max", "min"
LINE = re.compile(r"ledger: ([a-z0-9-]+) ([0-9.e+-]+)\s*$", re.M)  # a test's last line may have come before it
TELL_BEGIN, TELL_END = "<!-- figures begin -->", "<!-- figures end -->"
BEGIN, END = "<!-- ledger begin -->", "<!-- ledger end -->"
HEAD = "| promise, row | what | test | figure of the last full run | commit | all soaks |"

# promise or row of the fault catalogue, name, what it counts, unit, how runs add up, test
ROWS = (
    ("P1 P2 4", "messages-checked", "messages checked: none lost, doubled, reordered, torn", "", SUM,
     "`stress_delivery`, `stress_kill`, `stress_service`, `stress_stop`, `life_*`"),
    ("P2 P4 1", "kills-at-instructions", "SIGKILLs at instructions of the library", "", SUM, "`killat`"),
    ("P2 1", "instructions-killed-at", "of all executed instructions (by default: of send, receive, release)", "%", MAX,
     "`killat`"),
    ("P4 1", "kills-of-the-service", "SIGKILLs and stops at instructions of the service", "", SUM, "`killat`"),
    ("P1 P2 P4 2", "kills-at-random", "SIGKILLs at random moments under traffic", "", SUM, "`stress_kill`"),
    ("P4 3", "crash-images", "crash images recovered, each twice", "", SUM, "`killat`"),
    ("P4 3", "reapers-killed", "reapers killed in the middle of a recovery", "", SUM, "`killat`"),
    ("P4 5", "looks-of-the-checker", "looks at a region at rest: no slot, ring, pool, file, descriptor leaked", "", SUM,
     "`killat`"),
    ("P4 6", "slot-free-p99", "SIGKILL to free slot, idle: p99", "ms", MAX, "`killat`"),
    ("P4 6", "slot-free-max", "SIGKILL to free slot, idle: longest", "ms", MAX, "`killat`"),
    ("P4 7", "slot-free-busy-max", "SIGKILL to free slot, all processors busy: longest", "ms", MAX, "`killat`"),
    ("P1 P4 8", "stranded-max", "death of a sender before its wake to delivery: longest", "ms", MAX,
     "`fault_stranded`"),
    ("P1 P4 8", "stranded-no-service-max", "the same without a service, by the safety wake: longest", "ms", MAX,
     "`fault_stranded`"),
    ("P5 9", "stops-at-instructions", "stopped and continued at instructions: none declared dead", "", SUM,
     "`killat`"),
    ("P3 10", "bystander-stall-max", "longest round trip of two while others are stopped, killed", "ms", MAX,
     "`stress_bystander`"),
    ("P3 10", "bystander-rate-kept", "their rate meanwhile, of that when alone", "%", MIN, "`stress_bystander`"),
    ("P1 11", "service-kills", "service killed and restarted, every slot kept", "", SUM, "`stress_service`"),
    ("P3 12", "hostile-loads", "loads from shared memory that may be lies", "", SUM,
     "`fuzz_hostile`, `fuzz_hostile_life`"),
    ("P3 15", "loads-of-one-call", "most loads of one call among lies", "", MAX, "`fuzz_hostile`"),
    ("P3 13", "regions-corrupted", "regions corrupted under traffic", "", SUM, "`fuzz_chaos`"),
    ("P3 13", "words-overwritten", "words overwritten under traffic", "", SUM, "`fuzz_chaos`"),
    ("P3 14", "accesses-trapped", "accesses of the machine code trapped, no double read", "", SUM, "`fuzz_trap`"),
    ("P1 16", "schedules", "schedules of the real code explored", "", SUM, "`explore`"),
    ("P1 17", "models", "Promela models that hold", "", MAX, "`models/run.sh`"),
    ("P1 17", "controls-refuted", "controls that spin refutes", "", MAX, "`models/run.sh`"),
    ("P1 18", "mutants-killed", "mutants killed, all that were tried", "", MAX, "`mutants.py`"),
    ("P3 19", "failures-injected", "system calls and allocations that failed once", "", SUM, "`fuzz_syserr`"),
    ("P3 20", "lines-covered", "lines of `lib/` run by the tests but the stress suite", "%", MAX, "`coverage.py`"),
    ("P3 20", "lines-unexplained", "lines of `lib/` never run and not in `unrun.txt` with a reason", "", MAX,
     "`coverage.py`"),
    ("P3 20", "branches-covered", "branches of `lib/` taken by them", "%", MAX, "`coverage.py`"),
    ("P3 21", "tests-under-sanitizers", "tests under ASan+UBSan, TSan, valgrind: no report", "", MAX, "`run.sh`"),
    ("P1 22 23", "sleeps", "sleeps that only a wake-up could end, none lost", "", SUM, "`stress_wake`"),
    ("P1 22 23", "sleeps-one-cpu", "the same, both on one processor", "", SUM, "`stress_wake`"),
    ("P1 24", "wakes-per-sleep", "wake calls for each sleep", "", MAX, "`stress_wake`"),
    ("P1 24", "calls-when-awake", "system calls of two who stay awake, for a thousand messages", "", MAX,
     "`api_syscalls`"),
    ("P5 25 F1", "pids-used-again", "process ids used again at once, none mistaken", "", SUM, "`life_death`"),
    ("P5 9 F2", "descriptors-closed", "all descriptors closed under traffic: nobody dead, nothing lost", "", SUM,
     "`life_fd`"),
    ("P4 A11", "groups-killed", "whole buses killed at once, restarted without help", "", SUM, "`life_death`"),
    ("P4 A11", "restart-median", "kill of all to first message of the new bus: median", "ms", MAX, "`life_death`"),
    ("P4 30 F9", "join-cycles", "joins that ended by leaving or a kill: no descriptor, mapping, page left", "", SUM,
     "`stress_cycles`"),
    ("P1 E2 E3 E4", "round-trips-meddled-with", "round trips while wake-ups are stolen, moved, false", "", SUM,
     "`fuzz_bell`"),
    ("P3 D12", "word-overwritten-load", "load of a sleeper whose doorbell is overwritten all the time", "%", MAX,
     "`fuzz_bell`"),
    ("P3 E4", "woken-for-nothing-load", "load of a sleeper who is woken for nothing all the time", "%", MAX,
     "`fuzz_bell`"),
    ("P3 26", "lies-of-a-service", "lies of impostor services, none believed", "", SUM, "`fuzz_port`"),
    ("P3 27", "join-in-a-flood-max", "longest join in a flood of connections", "ms", MAX, "`fuzz_port`"),
    ("P3 28", "files-damaged", "region files truncated, punched or out of space", "", SUM, "`fuzz_memory`"),
    ("P3 29", "shares-checked", "shares of the pool, exactly those of the formula", "", SUM, "`fuzz_overload`"),
    ("P1-P6 31", "together-seconds", "everything at once", "s", SUM, "`soak.py --together`"),
    ("P1-P6", "soak-minutes", "random operations and faults with fresh seeds", "min", SUM, "`run.sh --soak`"),
    ("32", "suite-repeats", "runs of the quick tests, one after the other, none failed", "", MAX, "`run.sh`"),
)


def texts(path):
    """Output of each test in a log."""
    with open(path, encoding="utf-8", errors="replace") as f:
        whole = f.read()
    if not path.endswith(".json"):
        return [whole]
    logs = [json.loads(line) for line in whole.split("\n") if line.strip()]
    return [log.get("stdout", "") + "\n" + log.get("stderr", "") for log in logs]


HOW = {row[1]: row[4] for row in ROWS}


def combine(figures, name, value):
    if name in figures:
        value = {SUM: figures[name] + value, MAX: max(figures[name], value), MIN: min(figures[name], value)}[HOW[name]]
    figures[name] = value


def gather(paths):
    figures = {}
    for path in paths:
        try:
            outputs = texts(path)
        except (OSError, ValueError):  # tally.py says so
            continue
        for name, value in (found for text in outputs for found in LINE.findall(text)):
            if name not in HOW:
                raise SystemExit(f"ledger: nobody knows {name}")
            combine(figures, name, float(value))
    return figures


def shown(value, unit):
    text = f"{value:,.0f}" if value == int(value) or value >= 1000 else f"{value:.2f}"
    return text.replace(",", " ") + (" " + unit if unit else "")


def commit():
    done = subprocess.run(["git", "describe", "--always", "--dirty"], capture_output=True, text=True, check=False)
    return done.stdout.strip() or "?"


def old_cells(text):
    """What stands in the table: figure, commit and figure of the soaks of each row, by what it counts."""
    cells = {}
    for line in text.split("\n"):
        parts = [part.strip() for part in line.split("|")]
        if len(parts) in (7, 8):  # the last column came later
            cells[parts[2]] = parts[4:7]
    return cells


def number(cell, unit):
    """The value of a cell, 0 if it has none."""
    return float(cell.removesuffix(unit).replace(" ", "") or 0)


def write(path, figures, soaked):
    with open(path, encoding="utf-8") as f:
        text = f.read()
    before, rest = text.split(BEGIN)
    old, after = rest.split(END)
    cells = old_cells(old)
    now = commit()
    lines = [BEGIN, HEAD, "| --- | --- | --- | --- | --- | --- |"]
    for row, name, what, unit, _, test in ROWS:
        figure, when, soaks = cells.get(what, ["not yet run", "none", ""])
        if name in figures:
            figure, when = shown(figures[name], unit), now
        if name in soaked:
            soaks = shown(number(soaks, unit) + soaked[name], unit)  # a soak prints sums only
        lines.append(f"| {row} | {what} | {test} | {figure} | {when} | {soaks} |".replace("|  |", "| |"))
    text = before + "\n".join(lines) + "\n" + END + after
    with open(path, "w", encoding="utf-8") as f:
        f.write(text)
    write_sentence(os.path.join(os.path.dirname(os.path.abspath(path)), "..", "README.md"), text)


# In the sentence of the project's README, by name.
SENTENCE = (
    "{messages-checked} messages in stress and faults, {kills-at-instructions} SIGKILLs at single instructions "
    "({instructions-killed-at} of those that any operation executes), {kills-at-random} at random moments, "
    "{kills-of-the-service} of the service at single instructions and {service-kills} under traffic, "
    "{stops-at-instructions} stops, {hostile-loads} loads that may lie, {regions-corrupted} regions overwritten under "
    "traffic, {schedules} schedules of the real code, {sleeps} and, on one processor, {sleeps-one-cpu} sleeps. Lost, "
    "doubled, disordered, torn, leaked, or taken for dead: 0. From SIGKILL to a free slot: p99 {slot-free-p99}.")


def sentence(text):
    """Figures as they stand in the table."""
    cells = old_cells(text)
    figures = {row[1]: cells.get(row[2], ["?"])[0] for row in ROWS}
    told = re.sub(r"\{([a-z0-9-]+)\}", lambda m: figures[m.group(1)], SENTENCE)
    whole = "Tried, with the lengths of `run.sh --full`: " + told
    return "\n".join(textwrap.wrap(whole, 120))


def write_sentence(path, text):
    with open(path, encoding="utf-8") as f:
        readme = f.read()
    before, rest = readme.split(TELL_BEGIN)
    after = rest.split(TELL_END)[1]
    with open(path, "w", encoding="utf-8") as f:
        f.write(before + TELL_BEGIN + "\n" + sentence(text) + "\n" + TELL_END + after)


def names(root):
    """Names that only one side knows: the table, or the tests. And whether the project's README agrees."""
    known = {row[1] for row in ROWS}
    printed, literals = set(), set()
    folder = os.path.join(root, "tests")
    for name in sorted(os.listdir(folder)) + [os.path.join("models", "run.sh")]:
        if name.endswith((".c", ".h", ".py", ".sh")) and name != "ledger.py":
            with open(os.path.join(folder, name), encoding="utf-8") as f:
                text = f.read()
            printed |= set(re.findall(r'\bledger\("([^"]+)"', text))
            printed |= set(re.findall(r"ledger: ([a-z-]+) ", text))
            printed |= set(re.findall(r"\bfigure ([a-z-]+) [0-9$]", text))
            literals |= set(re.findall(r'"([a-z0-9-]+)"', text))
    wrong = [f"{name}: not in ROWS" for name in sorted(printed - known)]
    wrong += [f"{name}: printed by no test" for name in sorted(known - printed - literals)]
    with open(os.path.join(folder, "README.md"), encoding="utf-8") as table, \
         open(os.path.join(root, "README.md"), encoding="utf-8") as readme:
        if sentence(table.read()) not in readme.read():
            wrong.append("README.md: does not tell what stands in the table of tests/README.md")
    print("\n".join(wrong) or f"{len(known)} figures")
    return 1 if wrong else 0


def main(arguments):
    if arguments[:1] == ["--names"]:
        return names(arguments[1])
    if arguments[:1] == ["--write"]:
        write(arguments[1], gather(arguments[2:]), {})
        return 0
    if arguments[:1] == ["--soak"]:
        write(arguments[1], {}, gather(arguments[2:]))
        return 0
    figures = gather(arguments)
    for row, name, what, unit, _, test in ROWS:
        if name in figures:
            print(f"{row:<11}{shown(figures[name], unit):>16}  {what} ({test.replace('`', '')})")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
