"""Plots as SVG: lines with their spread, one colour a contender, no library."""

import math

WIDTH, HEIGHT, LEFT, RIGHT, TOP, BOTTOM = 760, 440, 70, 190, 40, 50
COLOURS = ("#1b6ca8", "#d1495b", "#3c8d5a", "#edae49", "#6a4c93", "#555555", "#00798c")


def plot(title, across, up, lines, logarithmic=False):
    """`lines`: contender to [(x, median, least, most), …]."""
    points = [point for line in lines.values() for point in line]
    left, right = min(p[0] for p in points), max(p[0] for p in points)
    top = max(p[3] for p in points) * 1.05 or 1
    bottom = max(min(p[2] for p in points) * 0.8, top / 1e6) if logarithmic else 0

    def x(value):
        return LEFT + (value - left) / ((right - left) or 1) * (WIDTH - LEFT - RIGHT)

    def y(value):
        if logarithmic:
            share = math.log(max(value, bottom) / bottom) / math.log(top / bottom)
        else:
            share = value / top
        return HEIGHT - BOTTOM - share * (HEIGHT - TOP - BOTTOM)

    out = [f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{HEIGHT}" font-family="sans-serif" font-size="12">',
           f'<rect width="{WIDTH}" height="{HEIGHT}" fill="white"/>',
           text(LEFT, 22, title, size=15), text((LEFT + WIDTH - RIGHT) / 2, HEIGHT - 10, across, "middle"),
           text(LEFT, 36, up)]
    for value in marks(bottom, top, logarithmic):
        out += [line(LEFT, y(value), WIDTH - RIGHT, y(value), "#dddddd"),
                text(LEFT - 6, y(value) + 4, f"{value:g}", "end")]
    for value in sorted({p[0] for p in points}):
        out += [line(x(value), HEIGHT - BOTTOM, x(value), HEIGHT - BOTTOM + 5, "#333333"),
                text(x(value), HEIGHT - BOTTOM + 18, f"{value:g}", "middle")]
    out.append(line(LEFT, HEIGHT - BOTTOM, WIDTH - RIGHT, HEIGHT - BOTTOM, "#333333"))
    for number, (name, series) in enumerate(lines.items()):
        colour = COLOURS[number % len(COLOURS)]
        path = " ".join(f"{x(p[0]):.1f},{y(p[1]):.1f}" for p in series)
        out.append(f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="2"/>')
        for at, median, least, most in series:
            out += [line(x(at), y(least), x(at), y(most), colour),
                    f'<circle cx="{x(at):.1f}" cy="{y(median):.1f}" r="3" fill="{colour}"/>']
        row = TOP + 18 * (number + 1)
        out += [line(WIDTH - RIGHT + 12, row - 4, WIDTH - RIGHT + 36, row - 4, colour), text(WIDTH - RIGHT + 42, row, name)]
    return "\n".join([*out, "</svg>", ""])


def marks(bottom, top, logarithmic):
    if logarithmic:
        return [10.0 ** n for n in range(math.ceil(math.log10(bottom)), math.floor(math.log10(top)) + 1)]
    step = 10 ** math.floor(math.log10(top))
    step = next(step * part for part in (0.1, 0.2, 0.5, 1, 2) if top / (step * part) <= 10)
    return [step * n for n in range(int(top / step) + 1)]


def line(x1, y1, x2, y2, colour):
    return f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" stroke="{colour}"/>'


def text(x, y, words, anchor="start", size=12):
    words = words.replace("&", "&amp;").replace("<", "&lt;")
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" font-size="{size}">{words}</text>'


PLOTS = {
    "cpu-per-packet": ("CPU of the process per packet", "sessions", "µs", ["CPU per packet"], False),
    "machine-per-packet": ("CPU of the whole machine per packet, direct traffic subtracted", "sessions", "µs",
                           ["whole-machine CPU per packet"], False),
    "p99-delay": ("p99 delay", "sessions", "µs, logarithmic", ["p99 delay"], True),
    "cpu-per-call": ("CPU per call", "calls/s", "µs", ["CPU per call", "CPU per call, media"], False),
    "instructions-by-registrations": ("Instructions per call", "registrations", "instructions",
                                      ["instructions per call, growth"], False),
}


def write(results, folder):
    """Every plot for which something was measured."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, (title, across, up, measures, logarithmic) in PLOTS.items():
        lines = {}
        for measure in measures:
            for contender in results.contenders(measure):
                suffix = measure[len(measures[0]):]
                series = results.series(measure, contender)
                if series:
                    lines[contender + suffix] = series
        if lines:
            (folder / f"{name}.svg").write_text(plot(title, across, up, lines, logarithmic))
            print(f"{folder / name}.svg")
