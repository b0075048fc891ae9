#!/usr/bin/env python3
"""report.py: rows of ringbus-bench as a self-contained HTML page, and the table in README.md.

Usage: report.py DIR > report.html    the page; DIR is what ringbus-bench --report wrote
       report.py --save DIR           keeps the figures of DIR in bench/results
       report.py --readme             writes the table of the kept figures into README.md
       report.py --check              fails when README.md has another table

Standard library only.
"""

import argparse
import os
import sys

import report_readme
from report_plots import figure, plot_bars, plot_percentiles, plot_sizes
from report_readme import ratio_text
from report_rows import (LIMITS, cases, count_text, esc, is_latency, is_ours, load, number_text,
                         size_text, time_text)

HERE = os.path.dirname(os.path.abspath(__file__))

STYLE = """
:root { color-scheme: light dark; --fg: #1f2328; --bg: #fff; --soft: #59636e; --rule: #d1d9e0;
 --row: #f6f8fa; --mark: #9a6700; --bad: #d1242f; }
@media (prefers-color-scheme: dark) { :root { --fg: #e6edf3; --bg: #0d1117; --soft: #9198a1;
 --rule: #3d444d; --row: #151b23; --mark: #d29922; --bad: #ff7b72; } }
* { box-sizing: border-box; }
body { margin: 0 auto; padding: 1.5rem; max-width: 1180px; color: var(--fg); background: var(--bg);
 font: 15px/1.5 system-ui, sans-serif; }
h1 { font-size: 1.6rem; margin: 0 0 .3rem; }
h2 { font-size: 1.2rem; margin: 2.2rem 0 .5rem; border-bottom: 1px solid var(--rule); }
h3 { font-size: 1rem; margin: 1.4rem 0 .3rem; }
p, dl { color: var(--soft); margin: .3rem 0; max-width: 75ch; }
dl { display: grid; grid-template-columns: max-content 1fr; gap: 0 1rem; }
dt { font-weight: 600; color: var(--fg); } dd { margin: 0; }
.plots { margin-top: 1.6rem; display: grid; gap: 1rem;
 grid-template-columns: repeat(auto-fit, minmax(min(100%, 520px), 1fr)); }
figure { margin: 0; } figcaption { font-weight: 600; margin-bottom: .2rem; }
svg { width: 100%; height: auto; display: block; }
svg text { fill: var(--fg); font: 12px system-ui, sans-serif; }
svg .axis { stroke: var(--soft); } svg .grid { stroke: var(--rule); }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; font-size: 12.5px;
 width: 100%; }
td:last-child { white-space: normal; min-width: 6rem; }
table.summary td { white-space: normal; vertical-align: top; }
table.summary td:nth-child(n+2) { text-align: left; } table.summary th { text-align: left; }
table.summary td:first-child { font-weight: 600; min-width: 15rem; }
table.summary td:nth-child(n+3):nth-child(-n+5), table.summary td:nth-child(7) {
 white-space: nowrap; }
th, td { padding: .18rem .45rem; text-align: right; white-space: nowrap; }
th:nth-child(-n+3), td:nth-child(-n+3) { text-align: left; }
th { border-bottom: 1px solid var(--rule); color: var(--soft); font-weight: 600; }
tr:nth-child(even) td { background: var(--row); }
tr.own td:first-child { font-weight: 700; } tr.limit td { color: var(--soft); }
td.mark { color: var(--mark); text-align: left; } td.bad { color: var(--bad); text-align: left; }
"""


INTRODUCTION = """Each figure is the median over the passes. “×” is the figure divided by that of
the named limit in the same pass: median (lowest–highest) of the passes in which both had like
lines and slept if they were to (!: there was none). For times smaller is better, for rates larger.
“line” is the round trip of a single cache line just before and after: virtual processors move
between cores within seconds. “calls” are system calls for each message, counted in a run of its own. Every message is
checked for order and content."""


def marks(row):
    words = []
    if row.get("error"):
        words.append("failed: " + row["error"])
    if row.get("lost"):
        words.append(f"lost {row['lost']}")
    if row.get("bad"):
        words.append(f"wrong {row['bad']}")
    bad = bool(words)
    if row.get("disturbed"):
        words.append(f"disturbed {row['disturbed']} of {len(row['passes'])}")
    if row.get("wakes_per_sleep") is not None:
        words.append(number_text(row["wakes_per_sleep"]) + " wakes a sleep")
    if row.get("note"):
        words.append(row["note"])
    return "; ".join(words), bad


def table_cells(row):
    wait = row["wait"]
    if wait != "spin":
        wait += f", spin {time_text(row['spin_ns'])}" if row["spin_ns"] else ", spin 0"
    cells = [row["transport"], row["mode"], wait]
    if is_latency(row):
        names = ("p50_ns", "p99_ns", "p999_ns", "max_ns")
        cells += [time_text(row[name]) for name in names]
    else:
        cells += [count_text(row["msgs_per_s"]), count_text(row["deliveries_per_s"]),
                  count_text(row["bytes_per_s"]) + "B" if row["bytes_per_s"] else "–"]
    cells += [ratio_text(row), time_text(row["line_ns"]), size_text(row["ring_bytes"])]
    cpu = f"{row['cpu_tx_ns_per_msg']:.0f} + {row['cpu_rx_ns_per_msg']:.0f}"
    return [*cells, cpu, number_text(row["syscalls_per_msg"])]


def table(rows):
    latency = is_latency(rows[0])
    limit = next((row["limit"] for row in rows if "limit" in row), "limit")
    figures = ["messages/s", "deliveries/s", "bytes/s"]
    if latency:
        figures = ["p50", "p99", "p99.9", "max"]
    heads = ["transport", "mode", "wait", *figures, f"× {limit}", "line", "ring"]
    heads += ["cpu ns tx + rx", "calls", ""]
    out = ['<div class="scroll"><table><tr>', *(f"<th>{esc(head)}</th>" for head in heads), "</tr>"]
    for row in rows:
        kind = "own" if is_ours(row) else "limit" if row["transport"] in LIMITS else "peer"
        text, bad = marks(row)
        out.append(f'<tr class="{kind}">')
        out += [f"<td>{esc(cell)}</td>" for cell in table_cells(row)]
        out.append(f'<td class="{"bad" if bad else "mark"}">{esc(text)}</td></tr>')
    out.append("</table></div>")
    return "".join(out)


def plots(directory, rows):
    groups = cases(rows)
    out = []

    def add(caption, svg):
        out.append(figure(caption[0].upper() + caption[1:], svg))

    for (verb, case), group in groups.items():
        small = "64 KiB" not in case and "1 MiB" not in case
        if verb in ("rtt", "wake", "signal", "join") and is_latency(group[0]) and small:
            add(case, plot_percentiles(directory, group))
    streams = [row for row in rows if row["verb"] == "throughput" and not row.get("error")]
    for unit, name in (("messages/s", "msgs_per_s"), ("bytes/s", "bytes_per_s")):
        add(f"throughput over payload, {unit}", plot_sizes(streams, lambda r, n=name: r[n], unit))
    for (verb, case), group in groups.items():
        if verb == "fanout":
            rate = lambda r: r["deliveries_per_s"]
            bars = plot_bars(group, rate, lambda r: count_text(rate(r)))
            add(case + ": deliveries per second", bars)
        if verb == "wake":
            time = lambda r: r.get("p50_ns", 0)
            add(case + ": median", plot_bars(group, time, lambda r: time_text(time(r))))
    return '<div class="plots">' + "".join(out) + "</div>"


def machine_html(machine, rows):
    passes = max((len(row["passes"]) for row in rows), default=0)
    disturbed = sum(row.get("disturbed", 0) for row in rows)
    measured = sum(len(row["passes"]) for row in rows)
    memory = machine.get("memory_bytes", 0)
    facts = [
        ("machine", f"{machine.get('cpu')}, {machine.get('processors')} processors, "
                    f"{memory / 2**30:.0f} GiB, {machine.get('architecture')}"),
        ("kernel", machine.get("kernel")),
        ("ringbus", machine.get("version")),
        ("compiler", f"gcc {machine.get('compiler')}"),
        ("others", machine.get("peers")),
        ("date", machine.get("date")),
        ("passes", f"{passes}, transports in turns; "
                   f"{disturbed} of {measured} measurements disturbed"),
    ]
    return "<dl>" + "".join(f"<dt>{esc(k)}</dt><dd>{esc(v)}</dd>" for k, v in facts) + "</dl>"


def summary_html(rows):
    """What a reader wants first: ringbus, its limit and the best other of each case."""
    lines = report_readme.summary(rows)
    if not lines:
        return ""
    out = ["<h2>ringbus against its limits</h2>", '<div class="scroll"><table class="summary"><tr>',
           *(f"<th>{esc(head)}</th>" for head in report_readme.HEADS), "</tr>"]
    for line in lines:
        out += ["<tr>", *(f"<td>{esc(cell)}</td>" for cell in line), "</tr>"]
    return "".join([*out, "</table></div>"])


def page(directory, machine, rows):
    out = [
        '<!doctype html><html lang="en"><head><meta charset="utf-8">',
        '<meta name="viewport" content="width=device-width, initial-scale=1">',
        "<title>ringbus-bench</title>",
        f"<style>{STYLE}</style></head><body><h1>ringbus-bench</h1>",
        machine_html(machine, rows),
        f"<p>{INTRODUCTION}</p>",
        summary_html(rows),
        plots(directory, rows),
    ]
    verb = None
    for (group_verb, case), group in cases(rows).items():
        if group_verb != verb:
            verb = group_verb
            out.append(f"<h2>{esc(verb)}</h2>")
        out.append(f"<h3>{esc(case)}</h3>{table(group)}")
    out.append("</body></html>\n")
    return "".join(out)


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--save", action="store_true", help="keep the figures of DIR")
    parser.add_argument("--readme", action="store_true", help="write their table into the README")
    parser.add_argument("--check", action="store_true", help="compare the table with the figures")
    parser.add_argument("--results", metavar="FILE",
                        default=os.path.join(HERE, "results", "compare.json"))
    parser.add_argument("--readme-file", metavar="FILE",
                        default=os.path.join(HERE, "..", "README.md"))
    parser.add_argument("directory", metavar="DIR", nargs="?")
    arguments = parser.parse_args()
    if bool(arguments.directory) == (arguments.readme or arguments.check):
        parser.error("DIR is for the page and for --save")
    try:
        run(arguments)
    except (OSError, ValueError) as error:
        sys.exit(f"report.py: {error}")


def run(arguments):
    if arguments.readme or arguments.check:
        text = report_readme.markdown(*load(arguments.results))
        same = report_readme.update(arguments.readme_file, text, write=arguments.readme)
        if arguments.check and not same:
            sys.exit("report.py: the table in README.md is not that of the kept figures; "
                     "run bench/report.py --readme")
        return
    machine, rows = load(os.path.join(arguments.directory, "rows.json"))
    if not rows:
        sys.exit(f"report.py: no rows in {arguments.directory}")
    if arguments.save:
        report_readme.save(arguments.results, machine, rows)
    else:
        sys.stdout.write(page(arguments.directory, machine, rows))


if __name__ == "__main__":
    main()
