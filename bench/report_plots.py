"""report_plots.py: rows as SVG plots."""

import math

from report_rows import (LIMITS, count_text, decade_text, decades, esc, is_ours, load_curve,
                         size_text, time_text)

COLOURS = {
    "ringbus": "#d1242f",
    "ringbus-contact": "#e16f24",
    "ringbus-locked": "#bf8700",
    "ringbus-signal": "#d1242f",
    "line": "#8c959f",
    "spsc": "#57606a",
    "spsc-fan": "#57606a",
    "log": "#8c959f",
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
    "iceoryx": "#0a9bb5",
    "cyclone": "#7b6f00",
}


def colour(name):
    return COLOURS.get(name, "#6e7781")


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
    plot = Plot((1, 1e5), decades(values), "percentile", "time")
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
