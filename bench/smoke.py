#!/usr/bin/env python3
"""ringbus-bench does what its help says: each verb, each transport, each option. No time is judged.

Usage: smoke.py BUILD-DIRECTORY
"""

import glob
import html.parser
import json
import os
import re
import subprocess
import sys
import tempfile

HERE = os.path.dirname(os.path.abspath(__file__))
KEYS = """record verb case transport mode wait size spin_ns subscribers threads ring_bytes cpus p50_ns
p90_ns p99_ns p999_ns max_ns msgs_per_s deliveries_per_s bytes_per_s lost bad cpu_ns_per_msg
cpu_tx_ns_per_msg cpu_rx_ns_per_msg syscalls_per_msg wakes_per_sleep sleeps_per_msg line_ns disturbed
passes""".split()
COUNT = 50  # a message may wait for a slice of a busy processor
QUICK = ["--count", str(COUNT), "--runs", "1"]
# Their cases are all in that of compare.
IN_COMPARE = {"compare", "join", "scale"}


def bench(build, *arguments):
    program = os.path.join(build, "bench", "ringbus-bench")
    done = subprocess.run([program, *arguments], capture_output=True, text=True, timeout=240)
    return done.returncode, done.stdout, done.stderr


def rows_of(text):
    records = [json.loads(line) for line in text.splitlines()]
    assert records[0]["record"] == "machine" and records[0]["version"], records[0]
    assert all(record["record"] == "row" for record in records[1:])
    return records[1:]


def check_row(row):
    missing = [key for key in KEYS if key not in row]
    assert not missing, (missing, row)
    assert "error" not in row, row
    assert row["lost"] == 0 and row["bad"] == 0, row
    assert len(row["passes"]) == 1, row
    if row["mode"] != "count":
        assert row["ring_bytes"] > 0, row
    if row["p50_ns"] is not None:
        shape = [row[key] for key in ("p50_ns", "p90_ns", "p99_ns", "p999_ns", "max_ns")]
        assert 0 < shape[0] and shape == sorted(shape), row
    elif not row.get("note"):
        assert row["msgs_per_s"] > 0, row


def measure(build, verb, *options):
    code, out, err = bench(build, verb, "--json", *QUICK, *options)
    assert code in (0, 1), (code, err)
    rows = rows_of(out)
    assert rows, err
    for row in rows:
        check_row(row)
    assert code == 0, (code, err)
    return rows


def verbs_of(text):
    return re.findall(r"^  (\w+) +\w", text, re.M)


def transports_of(build):
    _, out, _ = bench(build, "--list")
    return [line.split()[0] for line in out.splitlines()]


def help_names_all_verbs_and_options(build):
    with open(os.path.join(HERE, "main.c"), encoding="utf-8") as file:
        source = file.read()
    code, text, _ = bench(build, "--help")
    assert code == 0
    table = source[source.index("verbs[] = {"):]
    assert verbs_of(text) == re.findall(r'\{"(\w+)",', table[:table.index("};")]), text
    table = source[source.index("options[] = {"):]
    known = set(re.findall(r'\{"([\w-]+)",', table[:table.index("};")]))
    assert set(re.findall(r"--([\w-]+)", text)) == known, text
    assert "\nExit status: 0 " in text and "\nExamples:\n  $ ringbus-bench " in text, text
    assert bench(build)[0] == 2
    assert bench(build, "rtt", "--sizes", "1")[0] == 2
    assert bench(build, "rtt", "--size", "1x")[0] == 2
    assert bench(build, "rtt", "--transport", "nothing")[0] == 2


def each_verb_gives_rows_with_all_keys(build):
    some = "line,futex,spsc,spsc-fan,log,memcpy,ringbus,ringbus-contact,ringbus-signal,pipe,eventfd"
    for verb in verbs_of(bench(build, "--help")[1]):
        if verb in IN_COMPARE:
            continue
        rows = measure(build, verb, "--transport", some)
        assert {row["verb"] for row in rows} == {verb}
        assert any(row["transport"].startswith("ringbus") for row in rows)


def compare_has_the_rows_of_the_standard_table(build):
    rows = measure(build, "compare", "--transport", "spsc,spsc-fan,ringbus", "--no-syscalls")
    cases = {row["case"] for row in rows}
    assert {row["verb"] for row in rows} >= {"rtt", "throughput", "fanout", "wake", "join", "scale"}
    for size in ("8 B", "64 B", "256 B", "1 KiB", "4 KiB", "64 KiB", "1 MiB"):
        assert f"throughput {size}" in cases, cases
    ours = [row for row in rows if row["transport"] == "ringbus" and row["verb"] == "throughput"]
    assert {row["mode"] for row in ours} == {"borrow", "copy", "loan, untouched"}
    assert {row["subscribers"] for row in rows} == {1, 4, 16}
    assert {row["threads"] for row in measure_threads(build)} == {2}
    limited = [row for row in ours if "limit" in row]
    assert limited and all(row["ratio_low"] <= row["ratio"] <= row["ratio_high"] for row in limited)


def measure_threads(build):
    return measure(build, "throughput", "--transport", "ringbus-locked", "--threads", "2")


def each_transport_delivers(build):
    for name in transports_of(build):
        verb = "fanout" if name in ("spsc-fan", "log") else "rtt"
        if name == "memcpy":
            verb = "throughput"
        if name == "iceoryx" and os.path.exists("/tmp/roudi"):
            print("iceoryx: left out, its daemon is used by somebody else", file=sys.stderr)
            continue
        rows = measure(build, verb, "--transport", name)
        assert [row["transport"] for row in rows] == [name], rows


def options_reach_the_run(build):
    row, = measure(build, "throughput", "--transport", "ringbus", "--copy", "--size", "1K",
                   "--ring-bytes", "64K", "--wait", "block", "--spin", "1000", "--syscalls")
    assert (row["mode"], row["size"], row["ring_bytes"]) == ("copy", 1024, 65536), row
    assert (row["wait"], row["spin_ns"]) == ("block", 1000), row
    assert row["syscalls_per_msg"] is not None, row
    row, = measure(build, "throughput", "--transport", "ringbus", "--borrow", "--cpus", "0,0")
    assert (row["mode"], row["cpus"]) == ("borrow", [0]), row
    row, = measure(build, "throughput", "--transport", "ringbus", "--untouched")
    assert row["mode"] == "loan, untouched", row
    row, = measure(build, "fanout", "--transport", "pipe", "--subscribers", "3")
    assert row["subscribers"] == 3, row
    row, = measure(build, "wake", "--transport", "futex", "--cpus", "0", "--syscalls")
    assert row["wakes_per_sleep"] is not None, row


class Page(html.parser.HTMLParser):
    """Counts figures; counts tags that are not closed in order."""

    VOID = {"meta", "line", "rect", "circle", "path", "polyline"}

    def __init__(self):
        super().__init__()
        self.open, self.wrong, self.figures = [], [], 0

    def handle_starttag(self, tag, attributes):
        self.figures += tag == "svg"
        if tag not in self.VOID:
            self.open.append(tag)
        for name, value in attributes:
            if name in ("src", "href"):
                self.wrong.append((tag, name, value))

    def handle_endtag(self, tag):
        if tag in self.VOID:
            return
        if not self.open or self.open.pop() != tag:
            self.wrong.append(tag)


def check_hgrm(path):
    with open(path, encoding="utf-8") as file:
        lines = file.read().splitlines()
    fields = [line.split() for line in lines[2:] if not line.startswith("#")]
    values = [float(field[0]) for field in fields]
    counts = [int(field[2]) for field in fields]
    assert values == sorted(values) and counts == sorted(counts) and len(values) > 5, path
    total = int(re.search(r"Total count *= *(\d+)", lines[-2]).group(1))
    assert counts[-1] == total and float(fields[-1][1]) == 1.0, path


def report_is_one_page(build):
    with tempfile.TemporaryDirectory() as directory:
        code, _, err = bench(build, "rtt", "--transport", "spsc,ringbus,pipe", "--report",
                             directory, *QUICK)
        assert code == 0, err
        paths = glob.glob(os.path.join(directory, "*.hgrm"))
        assert len(paths) == 3, paths
        for path in paths:
            check_hgrm(path)
        script = os.path.join(HERE, "report.py")
        text = subprocess.run([sys.executable, script, directory], check=True, timeout=60,
                              capture_output=True, text=True).stdout
        page = Page()
        page.feed(text)
        assert not page.wrong and not page.open and page.figures >= 1, (page.wrong, page.open)
        saved = os.path.join(directory, "saved.json")
        readme = os.path.join(directory, "README.md")
        with open(readme, "w", encoding="utf-8") as file:
            file.write("a\n<!-- bench begin -->\n<!-- bench end -->\nb\n")
        paths = ["--results", saved, "--readme-file", readme]
        subprocess.run([sys.executable, script, "--save", *paths, directory], check=True)
        assert subprocess.run([sys.executable, script, "--check", *paths],
                              stderr=subprocess.DEVNULL).returncode == 1
        subprocess.run([sys.executable, script, "--readme", *paths], check=True)
        subprocess.run([sys.executable, script, "--check", *paths], check=True)
        with open(readme, encoding="utf-8") as file:
            text = file.read()
        assert text.startswith("a\n") and text.endswith("b\n") and "| " in text, text


TESTS = [
    help_names_all_verbs_and_options,
    each_verb_gives_rows_with_all_keys,
    compare_has_the_rows_of_the_standard_table,
    each_transport_delivers,
    options_reach_the_run,
    report_is_one_page,
]


def main():
    failed = 0
    for test in TESTS:
        try:
            test(sys.argv[1])
            print("ok", test.__name__, flush=True)
        except (AssertionError, subprocess.SubprocessError, ValueError) as error:
            failed += 1
            print("FAILED", test.__name__, type(error).__name__, error, flush=True)
    sys.exit(failed > 0)


if __name__ == "__main__":
    main()
