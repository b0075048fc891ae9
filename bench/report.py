#!/usr/bin/env python3
"""report.py: rows of ringbus-bench as a self-contained HTML page, or as a Markdown table.

Usage: report.py DIR > report.html
       report.py --markdown DIR > table.md

DIR is what ringbus-bench --report wrote: rows.json and .hgrm files. Standard library only.
"""

import argparse
import glob
import html
import json
import math
import os
import sys

COLOURS = {
    "ringbus": "#d1242f",
    "ringbus-contact": "#e16f24",
    "ringbus-locked": "#bf8700",
    "ringbus-signal": "#d1242f",
    "line": "#8c959f",
    "spsc": "#57606a",
    "spsc-fan": "#57606a",
    "futex": "#57606a",
    "memcpy": "#afb8c1",
    "pipe": "#1f6feb",
    "unix": "#218bff",
    "unix-seqpacket": "#54aeff",
    "tcp": "#0550ae",
    "mq": "#7d4e00",
    "eventfd": "#1b7c83",
    "zmq": "#1a7f37",
    "nng": "#8250df",
    "qb": "#bf3989",
}
LIMITS = {"line", "spsc", "spsc-fan", "futex", "memcpy"}

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
.plots { display: grid; gap: 1rem;
 grid-template-columns: repeat(auto-fit, minmax(min(100%, 520px), 1fr)); }
figure { margin: 0; } figcaption { font-weight: 600; margin-bottom: .2rem; }
svg { width: 100%; height: auto; display: block; }
svg text { fill: var(--fg); font: 12px system-ui, sans-serif; }
svg .axis { stroke: var(--soft); } svg .grid { stroke: var(--rule); }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; font-size: 13.5px;
 width: 100%; }
th, td { padding: .18rem .55rem; text-align: right; white-space: nowrap; }
th:nth-child(-n+3), td:nth-child(-n+3) { text-align: left; }
th { border-bottom: 1px solid var(--rule); color: var(--soft); font-weight: 600; }
tr:nth-child(even) td { background: var(--row); }
tr.own td:first-child { font-weight: 700; } tr.limit td { color: var(--soft); }
td.mark { color: var(--mark); text-align: left; } td.bad { color: var(--bad); text-align: left; }
"""


INTRODUCTION = """Each figure is the median over the passes. “×” is the figure divided by that of
the named limit in the same pass: median (lowest–highest) of the passes in which both had like
lines (!: there was none). For times smaller is better, for rates larger. “line” is the round trip
of a single cache line just before and after: virtual processors move between cores within
seconds. “calls” are system calls for each message, counted in a run of its own. Every message is
checked for order and content."""


def colour(name):
    return COLOURS.get(name, "#6e7781")


def esc(text):
    return html.escape(str(text), quote=True)


def time_text(ns):
    if not ns or ns <= 0:
        return "–"
    if ns < 1e4:
        return f"{ns:.0f} ns"
    if ns < 1e7:
        return f"{ns / 1e3:.1f} µs"
    return f"{ns / 1e6:.1f} ms"


def decade_text(ns):
    for limit, unit in ((1e9, "s"), (1e6, "ms"), (1e3, "µs")):
        if ns >= limit:
            return f"{ns / limit:g} {unit}"
    return f"{ns:g} ns"


def size_text(size):
    if size >= 1 << 20 and size % (1 << 20) == 0:
        return f"{size >> 20} MiB"
    if size >= 1 << 10 and size % (1 << 10) == 0:
        return f"{size >> 10} KiB"
    return f"{size / 1024:.0f} KiB" if size >= 10240 else f"{size} B"


def count_text(value):
    for limit, unit in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if value >= limit:
            return f"{value / limit:.3g} {unit}"
    return f"{value:.3g}"


def number_text(value):
    return "–" if value is None else f"{value:.3g}"


def is_ours(row):
    return row["transport"].startswith("ringbus")


def decades(values):
    """The powers of ten around the values."""
    return (10 ** math.floor(math.log10(min(values))), 10 ** math.ceil(math.log10(max(values))))


def is_latency(row):
    return row.get("p50_ns") is not None


def load(directory):
    machine, rows = {}, []
    with open(os.path.join(directory, "rows.json"), encoding="utf-8") as lines:
        for line in lines:
            record = json.loads(line)
            if record.get("record") == "machine":
                machine = record
            elif record.get("record") == "row":
                record["number"] = len(rows)
                rows.append(record)
    return machine, rows


def load_curve(directory, row):
    """Points (1/(1-share), nanoseconds) of a row's histogram."""
    points = []
    for path in glob.glob(os.path.join(directory, f"{row['number']:03d}-*.hgrm")):
        with open(path, encoding="utf-8") as lines:
            for line in lines:
                fields = line.split()
                if len(fields) == 4 and not line.startswith("#") and fields[0] != "Value":
                    value, inverse = float(fields[0]), float(fields[3])
                    if value > 0:
                        points.append((inverse, value))
    return points


# ---- plots


class Plot:
    """Axes with logarithmic or linear scales in a fixed box; the page scales it."""

    WIDTH, HEIGHT = 560, 320
    LEFT, RIGHT, TOP, BOTTOM = 72, 26, 10, 42

    def __init__(self, x_range, y_range, x_label, y_label):
        self.x_range, self.y_range = x_range, y_range
        self.parts = []
        self.legend = []
        self.x_label, self.y_label = x_label, y_label

    def x(self, value):
        low, high = self.x_range
        share = (math.log(value) - math.log(low)) / (math.log(high) - math.log(low))
        return self.LEFT + share * (self.WIDTH - self.LEFT - self.RIGHT)

    def y(self, value):
        low, high = self.y_range
        share = (math.log(max(value, low)) - math.log(low)) / (math.log(high) - math.log(low))
        return self.HEIGHT - self.BOTTOM - share * (self.HEIGHT - self.TOP - self.BOTTOM)

    def tick_x(self, value, text):
        x = self.x(value)
        bottom = self.HEIGHT - self.BOTTOM
        self.parts.append(
            f'<line class="grid" x1="{x:.1f}" x2="{x:.1f}" y1="{self.TOP}" y2="{bottom}"/>'
            f'<text x="{x:.1f}" y="{bottom + 16}" text-anchor="middle">{esc(text)}</text>'
        )

    def tick_y(self, value, text):
        y = self.y(value)
        self.parts.append(
            f'<line class="grid" x1="{self.LEFT}" x2="{self.WIDTH - self.RIGHT}" '
            f'y1="{y:.1f}" y2="{y:.1f}"/>'
            f'<text x="{self.LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">{esc(text)}</text>'
        )

    def decades_y(self, text):
        low, high = self.y_range
        for power in range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1):
            if low <= 10**power <= high:
                self.tick_y(10**power, text(10**power))

    def curve(self, name, points, dots=False, title=None):
        if not points:
            return
        dash = ' stroke-dasharray="5 4"' if name in LIMITS else ""
        width = 2.6 if name.startswith("ringbus") else 1.6
        path = " ".join(f"{self.x(x):.1f},{self.y(y):.1f}" for x, y in points)
        self.parts.append(
            f'<polyline fill="none" stroke="{colour(name)}" stroke-width="{width}"{dash} '
            f'points="{path}">'
            f"<title>{esc(title or name)}</title></polyline>"
        )
        if dots:
            for x, y in points:
                self.parts.append(
                    f'<circle cx="{self.x(x):.1f}" cy="{self.y(y):.1f}" r="3" '
                    f'fill="{colour(name)}">'
                    f"<title>{esc(name)}: {size_text(int(x))}, {count_text(y)}</title></circle>"
                )
        self.legend.append(name)

    def svg(self):
        bottom = self.HEIGHT - self.BOTTOM
        middle = (self.TOP + bottom) / 2
        parts = [
            *self.parts,
            f'<path class="axis" fill="none" '
            f'd="M{self.LEFT},{self.TOP}V{bottom}H{self.WIDTH - self.RIGHT}"/>',
            f'<text x="{(self.LEFT + self.WIDTH) / 2}" y="{self.HEIGHT - 6}" '
            f'text-anchor="middle">{esc(self.x_label)}</text>',
            f'<text transform="translate(12 {middle}) rotate(-90)" '
            f'text-anchor="middle">{esc(self.y_label)}</text>',
        ]
        return svg_box(self.WIDTH, self.HEIGHT, parts, self.legend)


def svg_box(width, height, parts, legend):
    """An SVG with a legend of names in rows below."""
    x, y = 0, height + 16
    keys = []
    for name in legend:
        step = 30 + 7.6 * len(name)
        if x + step > width:
            x, y = 0, y + 18
        dash = ' stroke-dasharray="5 4"' if name in LIMITS else ""
        keys.append(
            f'<line x1="{x}" x2="{x + 16}" y1="{y - 4}" y2="{y - 4}" '
            f'stroke="{colour(name)}" stroke-width="3"{dash}/>'
            f'<text x="{x + 20}" y="{y}">{esc(name)}</text>'
        )
        x += step
    total = y + 6 if legend else height
    return (
        f'<svg viewBox="0 0 {width} {total}" role="img">'
        + "".join(parts)
        + "".join(keys)
        + "</svg>"
    )


def figure(caption, svg):
    return f"<figure><figcaption>{esc(caption)}</figcaption>{svg}</figure>" if svg else ""


def plot_percentiles(directory, rows):
    curves = [(row, load_curve(directory, row)) for row in rows]
    curves = [(row, points) for row, points in curves if points]
    if not curves:
        return ""
    values = [y for _, points in curves for _, y in points]
    plot = Plot((1, 1e5), decades(values), "percentile", "")
    plot.decades_y(decade_text)
    ticks = {1: "0", 2: "50", 10: "90", 100: "99", 1e3: "99.9", 1e4: "99.99", 1e5: "99.999"}
    for inverse, text in ticks.items():
        plot.tick_x(inverse, text)
    for row, points in curves:
        points = [(max(x, 1), y) for x, y in points if x <= 1e5]
        title = f"{row['transport']}: p50 {time_text(row['p50_ns'])}"
        plot.curve(row["transport"], points, title=title)
    return plot.svg()


def plot_sizes(rows, figure_of, label):
    series = {}
    for row in rows:
        name = row["transport"]
        if row["mode"] in ("count", "untouched", "loan, untouched") or row["threads"] > 1:
            continue
        if is_ours(row) and row["mode"] == "copy":
            continue
        if figure_of(row) > 0:
            series.setdefault(name, {})[row["size"]] = figure_of(row)
    series = {name: points for name, points in series.items() if len(points) > 1}
    if not series:
        return ""
    sizes = sorted({size for points in series.values() for size in points})
    values = [value for points in series.values() for value in points.values()]
    plot = Plot((sizes[0] * 0.8, sizes[-1] * 1.25), decades(values), "payload", label)
    plot.decades_y(count_text)
    for size in sizes:
        plot.tick_x(size, size_text(size))
    for name, points in series.items():
        plot.curve(name, sorted(points.items()), dots=True)
    return plot.svg()


def plot_bars(rows, figure_of, text_of):
    """Horizontal bars, on a logarithmic scale where the values differ much."""
    rows = [row for row in rows if figure_of(row) > 0]
    if not rows:
        return ""
    values = [figure_of(row) for row in rows]
    high, low = max(values), min(values)
    log = high / low > 50
    floor = low / 2 if log else 0
    width, step, left = 560, 22, 150
    parts = []
    for i, row in enumerate(rows):
        value, y = figure_of(row), 4 + i * step
        if log:
            share = math.log(value / floor) / math.log(high / floor)
        else:
            share = value / high
        length = max(2, share * (width - left - 90))
        name = row["transport"] + (" (copy)" if row["mode"] == "copy" and is_ours(row) else "")
        opacity = 0.55 if row["transport"] in LIMITS else 1
        parts.append(
            f'<text x="{left - 6}" y="{y + 13}" text-anchor="end">{esc(name)}</text>'
            f'<rect x="{left}" y="{y}" width="{length:.1f}" height="{step - 6}" rx="2" '
            f'opacity="{opacity}" fill="{colour(row["transport"])}">'
            f"<title>{esc(name)}: {esc(text_of(row))}</title></rect>"
            f'<text x="{left + length + 5:.1f}" y="{y + 13}">{esc(text_of(row))}</text>'
        )
    height = 8 + len(rows) * step
    if log:
        parts.append(f'<text x="{left}" y="{height + 10}">logarithmic</text>')
        height += 16
    return svg_box(width, height, parts, [])


# ---- tables


def ratio_text(row):
    if "ratio" not in row:
        return "–"
    mark = "" if row.get("ratio_passes", 1) else "!"
    return f"{row['ratio']:.2f} ({row['ratio_low']:.2f}–{row['ratio_high']:.2f}){mark}"


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
    if row.get("note"):
        words.append(row["note"])
    return "; ".join(words), bad


def table_cells(row):
    calls = number_text(row["syscalls_per_msg"])
    wait = row["wait"]
    if wait != "spin" and row["spin_ns"]:
        wait += f" {row['spin_ns']} ns"
    cells = [row["transport"], row["mode"], wait]
    if is_latency(row):
        names = ("p50_ns", "p90_ns", "p99_ns", "p999_ns", "max_ns")
        cells += [time_text(row[name]) for name in names]
    else:
        cells += [count_text(row["msgs_per_s"]), count_text(row["deliveries_per_s"]),
                  count_text(row["bytes_per_s"]) + "B" if row["bytes_per_s"] else "–"]
    cells += [ratio_text(row), time_text(row["line_ns"]), size_text(row["ring_bytes"])]
    cells += [f"{row['cpu_tx_ns_per_msg']:.0f}", f"{row['cpu_rx_ns_per_msg']:.0f}", calls]
    return cells


def table(rows):
    latency = is_latency(rows[0])
    limit = next((row["limit"] for row in rows if "limit" in row), "limit")
    figures = ["messages/s", "deliveries/s", "bytes/s"]
    if latency:
        figures = ["p50", "p90", "p99", "p99.9", "max"]
    heads = ["transport", "mode", "wait", *figures, f"× {limit}", "line", "ring"]
    heads += ["cpu tx ns", "cpu rx ns", "calls", ""]
    out = ['<div class="scroll"><table><tr>', *(f"<th>{esc(head)}</th>" for head in heads), "</tr>"]
    for row in rows:
        kind = "own" if is_ours(row) else "limit" if row["transport"] in LIMITS else "peer"
        text, bad = marks(row)
        out.append(f'<tr class="{kind}">')
        out += [f"<td>{esc(cell)}</td>" for cell in table_cells(row)]
        out.append(f'<td class="{"bad" if bad else "mark"}">{esc(text)}</td></tr>')
    out.append("</table></div>")
    return "".join(out)


def cases(rows):
    """Rows by case, in the order in which they were measured."""
    groups = {}
    for row in rows:
        groups.setdefault((row["verb"], row["case"]), []).append(row)
    return groups


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
        ("compiler", machine.get("compiler")),
        ("date", machine.get("date")),
        ("passes", f"{passes}, transports in turns; "
                   f"{disturbed} of {measured} measurements disturbed"),
    ]
    return "<dl>" + "".join(f"<dt>{esc(k)}</dt><dd>{esc(v)}</dd>" for k, v in facts) + "</dl>"


def page(directory, machine, rows):
    out = [
        '<!doctype html><html lang="en"><head><meta charset="utf-8">',
        '<meta name="viewport" content="width=device-width, initial-scale=1">',
        "<title>ringbus-bench</title>",
        f"<style>{STYLE}</style></head><body><h1>ringbus-bench</h1>",
        machine_html(machine, rows),
        f"<p>{INTRODUCTION}</p>",
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


# ---- Markdown


def figure_text(row):
    if is_latency(row):
        return f"{time_text(row['p50_ns'])} (p99 {time_text(row['p99_ns'])})"
    rate = row["deliveries_per_s"] if row["subscribers"] > 1 else row["msgs_per_s"]
    text = f"{count_text(rate)}/s"
    if row["size"] >= 4096 and row["bytes_per_s"] and "untouched" not in row["mode"]:
        text = f"{row['bytes_per_s'] / 1e9:.2f} GB/s"
    return text


def best_other(group):
    others = [row for row in group
              if row["transport"] not in LIMITS and not is_ours(row) and not row.get("error")]
    if not others:
        return "–"
    key = (lambda r: r["p50_ns"]) if is_latency(others[0]) else (lambda r: -r["msgs_per_s"])
    best = min(others, key=key)
    return f"{best['transport']} {figure_text(best)}"


def markdown(machine, rows):
    out = [
        "| Case | Transport | Figure | Limit | × limit (low–high) | Best other |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    for (_, case), group in cases(rows).items():
        for row in group:
            if not is_ours(row):
                continue
            if row.get("error") or not (row.get("p50_ns") or row["msgs_per_s"]):
                text = f"failed: {row['error']}" if row.get("error") else row.get("note", "")
                out.append(f"| {case} | {row['transport']} | {text} | – | – | – |")
                continue
            limit = next((r for r in group if r["transport"] == row.get("limit")), None)
            name = row["transport"] + (", copy" if row["mode"] == "copy" else "")
            if row.get("note"):
                name += f" ({row['note']})"
            limit_text = "–"
            if limit and limit is not row:
                limit_text = f"{limit['transport']} {figure_text(limit)}"
            cells = [case, name, figure_text(row), limit_text, ratio_text(row), best_other(group)]
            out.append("| " + " | ".join(cells) + " |")
    out.append("")
    out.append(f"{machine.get('cpu')}, {machine.get('processors')} processors, "
               f"Linux {machine.get('kernel')}, ringbus {machine.get('version')}, "
               f"{machine.get('date')}. Medians of "
               f"{max((len(row['passes']) for row in rows), default=0)} passes.")
    return "\n".join(out) + "\n"


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--markdown", action="store_true",
                        help="a table for the README instead of a page")
    parser.add_argument("directory", help="what ringbus-bench --report wrote")
    arguments = parser.parse_args()
    try:
        machine, rows = load(arguments.directory)
    except (OSError, ValueError) as error:
        sys.exit(f"report.py: {error}")
    if not rows:
        sys.exit(f"report.py: no rows in {arguments.directory}")
    if arguments.markdown:
        sys.stdout.write(markdown(machine, rows))
    else:
        sys.stdout.write(page(arguments.directory, machine, rows))


if __name__ == "__main__":
    main()
