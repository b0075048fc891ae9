"""report_rows.py: what ringbus-bench wrote, and figures as text."""

import glob
import html
import json
import math
import os

LIMITS = {"line", "spsc", "spsc-fan", "log", "futex", "memcpy"}


def esc(text):
    return html.escape(str(text), quote=True)


def time_text(ns):
    """Three digits and a unit."""
    if not ns or ns <= 0:
        return "–"
    for limit, unit in ((999.5e6, "s"), (999.5e3, "ms"), (999.5, "µs")):
        if ns >= limit:
            return f"{ns / limit * 0.9995:.3g} {unit}"
    return f"{ns:.0f} ns"


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
    for limit, unit in ((999.5e6, " G"), (999.5e3, " M"), (999.5, " k")):
        if value >= limit:
            return f"{value / limit * 0.9995:.3g}{unit}"
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


def load(path):
    """The machine and the rows of a file with one object a line."""
    machine, rows = {}, []
    with open(path, encoding="utf-8") as lines:
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


def cases(rows):
    """Rows by case, in the order in which they were measured."""
    groups = {}
    for row in rows:
        groups.setdefault((row["verb"], row["case"]), []).append(row)
    return groups
