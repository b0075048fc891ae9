"""report_readme.py: the few figures that are kept in the tree, and the table of them in README.md."""

import json

from report_rows import LIMITS, cases, count_text, is_latency, is_ours, number_text, time_text

BEGIN, END = "<!-- bench begin -->", "<!-- bench end -->"
KEPT = """record verb case transport mode wait size spin_ns subscribers threads ring_bytes p50_ns p99_ns
p999_ns msgs_per_s deliveries_per_s bytes_per_s lost bad line_ns syscalls_per_msg wakes_per_sleep limit
ratio ratio_low ratio_high ratio_passes disturbed error note""".split()


def rounded(value):
    return float(f"{value:.5g}") if isinstance(value, float) else value


def needed(group):
    """The rows that the table is made of."""
    limits = {row.get("limit") for row in group if is_ours(row)}
    best = best_row(group)
    return [row for row in group if is_ours(row) or row["transport"] in limits or row is best]


def save(path, machine, rows):
    """One object a line, with few digits, so that a change shows as a small difference."""
    with open(path, "w", encoding="utf-8") as file:
        machine = dict(machine, passes=max(len(row["passes"]) for row in rows))
        file.write(json.dumps(machine) + "\n")
        for row in (row for group in cases(rows).values() for row in needed(group)):
            kept = {key: rounded(row[key]) for key in KEPT if row.get(key) is not None}
            file.write(json.dumps(kept) + "\n")


def figure_text(row):
    if is_latency(row):
        tail = f"{time_text(row['p99_ns'])}, {time_text(row['p999_ns'])}"
        return f"{time_text(row['p50_ns'])} ({tail})"
    rate = row["deliveries_per_s"] if row["subscribers"] > 1 else row["msgs_per_s"]
    if row["size"] >= 4096 and row["bytes_per_s"] and "untouched" not in row["mode"]:
        return f"{row['bytes_per_s'] / 1e9:.3g} GB/s"
    return f"{count_text(rate)}/s"


def ratio_text(row):
    if row is None or row.get("ratio") is None:
        return "–"
    mark = "" if row.get("ratio_passes", 1) else "!"
    text = f"{row['ratio']:.2f}"
    if row["ratio_low"] != row["ratio_high"]:
        text += f" ({row['ratio_low']:.2f}–{row['ratio_high']:.2f})"
    return text + mark


def best_row(group):
    others = [row for row in group
              if row["transport"] not in LIMITS and not is_ours(row) and not row.get("error")]
    if not others:
        return None
    key = (lambda r: r["p50_ns"]) if is_latency(others[0]) else (lambda r: -r["msgs_per_s"])
    return min(others, key=key)


def best_other(group):
    best = best_row(group)
    if best is None:
        return "–"
    figure = time_text(best["p50_ns"]) if is_latency(best) else figure_text(best)
    return f"{best['transport']} {figure}"


def pick(group, transport, copied):
    for row in group:
        if row["transport"] == transport and (row["mode"] == "copy") == copied:
            return row
    return None


def limit_text(group, row):
    limit = next((r for r in group if r["transport"] == row.get("limit") and r is not row), None)
    if limit is None:
        return "–"
    return f"{limit['transport']} {figure_text(limit)}"


def entry(name, row, group, contact=None, copied=None):
    """A line of the summary."""
    if row.get("error"):
        figure = "failed: " + row["error"]
    elif row.get("note") and not is_latency(row) and not row["msgs_per_s"]:
        figure = row["note"]
    else:
        figure = figure_text(row)
    return [name, figure, ratio_text(row), ratio_text(contact), ratio_text(copied),
            limit_text(group, row), best_other(group)]


def summary(rows):
    """The lines of the table: each case once, sends with a lock on their own."""
    lines = []
    for (_, case), group in cases(rows).items():
        ours = [row for row in group if is_ours(row)]
        if not ours:
            continue
        if len(ours) == 2 and all(row.get("note") for row in ours):  # few nodes, many nodes
            few, many = ours
            lines.append(entry(f"{case}: {many['note']}", many, group)[:5]
                         + [f"{few['note']}: {figure_text(few)}", "–"])
            continue
        main = pick(group, "ringbus", False) or ours[0]
        if main["transport"] != "ringbus-locked":
            lines.append(entry(case, main, group, pick(group, "ringbus-contact", False),
                               pick(group, "ringbus", True)))
            calls = main.get("wakes_per_sleep")
            if main["verb"] == "wake" and calls is not None:
                lines[-1][1] += f", {number_text(calls)} wake calls a sleep"
            if main["verb"] == "signal":
                lines[-1][1] += f", {number_text(main.get('syscalls_per_msg'))} calls each"
        locked = pick(group, "ringbus-locked", False)
        if locked:
            lines.append(entry(case + ", sends locked", locked, group, None,
                               pick(group, "ringbus-locked", True)))
    return lines


HEADS = ["Case", "ringbus", "× limit", "by contact", "copied out", "limit", "best other"]


def markdown(machine, rows):
    out = ["| " + " | ".join(HEADS) + " |", "| --- " * len(HEADS) + "|"]
    out += ["| " + " | ".join(cell.replace("|", "/") for cell in line) + " |"
            for line in summary(rows)]
    passes = machine.get("passes") or max(len(row.get("passes", [])) for row in rows)
    lost = sum(row.get("lost", 0) + row.get("bad", 0) for row in rows if is_ours(row))
    out += ["", f"{machine['cpu']}, {machine['processors']} processors, Linux {machine['kernel']}, "
                f"ringbus {machine['version']}, {machine['date']}; {machine['peers']}. "
                f"Medians of {passes} passes; messages lost or wrong: {lost}."]
    return "\n".join(out) + "\n"


def update(path, text, write):
    """Puts the text between the marks; true when it was there already."""
    with open(path, encoding="utf-8") as file:
        readme = file.read()
    begin, end = readme.index(BEGIN) + len(BEGIN), readme.index(END)
    now = readme[:begin] + "\n" + text + readme[end:]
    if write and now != readme:
        with open(path, "w", encoding="utf-8") as file:
            file.write(now)
    return now == readme
