# SPDX-License-Identifier: MIT
"""Draws an SVG: the rate of writes to the target and the latency of fsync, before, during and after
a replace. Each peer has its own column, and so its own time axis.

The file stays small: it holds one dot for each pixel, however many fsyncs were measured."""
import math
import textwrap

WIDTH, HEIGHT, LEFT, TOP, GAP = 330, 150, 62, 46, 40
BLUE, ORANGE, SHADE = "#2a6fbb", "#d9822b", "#e9eef5"


def _text(x, y, words, size=11, anchor="middle", more=""):
    return (f'<text x="{x:.1f}" y="{y:.1f}" font-size="{size}" text-anchor="{anchor}" {more}>'
            f"{words}</text>")


class Panel:
    """One plot: a frame, two axes, and a shaded band for the replace."""

    def __init__(self, x, y, times, values, log=False):
        self.x, self.y, self.times, self.values, self.log = x, y, times, values, log

    def at(self, when, value):
        first, last = self.times
        low, high = self.values
        if self.log:
            value, low, high = (math.log10(max(v, low)) for v in (value, low, high))
        return (self.x + (when - first) / (last - first) * WIDTH,
                self.y + HEIGHT - (min(value, high) - low) / (high - low) * HEIGHT)

    def frame(self, start, end, ticks):
        out = []
        left, right = self.at(start, self.values[0])[0], self.at(end, self.values[0])[0]
        out.append(f'<rect x="{left:.1f}" y="{self.y}" width="{max(right - left, 1):.1f}" '
                   f'height="{HEIGHT}" fill="{SHADE}"/>')
        out.append(f'<rect x="{self.x}" y="{self.y}" width="{WIDTH}" height="{HEIGHT}" '
                   'fill="none" stroke="#888"/>')
        for value in ticks:
            y = self.at(self.times[0], value)[1]
            out.append(f'<line x1="{self.x}" x2="{self.x + WIDTH}" y1="{y:.1f}" y2="{y:.1f}" '
                       'stroke="#ddd"/>')
            label = f"{value:,.0f}" if value >= 1 or value == 0 else value
            out.append(_text(self.x - 5, y + 4, label, 10, "end"))
        step = _step((self.times[1] - self.times[0]) / 5)
        when = math.ceil(self.times[0] / step) * step
        while when <= self.times[1]:
            x = self.at(when, self.values[0])[0]
            out.append(_text(x, self.y + HEIGHT + 14, f"{when:g}", 10))
            when = round(when + step, 6)
        return out


def _step(rough):
    """The nearest round number: 1, 2 or 5 times a power of ten."""
    power = 10 ** math.floor(math.log10(rough))
    return min((power * m for m in (1, 2, 5, 10)), key=lambda step: abs(step - rough))


def _rates(samples):
    """[(time, MB/s)] of [(time, bytes so far)]."""
    return [((t0 + t1) / 2, (b1 - b0) / (t1 - t0) / 1e6)
            for (t0, b0), (t1, b1) in zip(samples, samples[1:]) if t1 > t0]


def line(points, colour):
    """A line through the points. Points inside a horizontal stretch are left out."""
    points = ["%.1f,%.1f" % point for point in points]
    heights = [point.partition(",")[2] for point in points]
    kept = [point for i, point in enumerate(points)
            if not 0 < i < len(points) - 1 or not heights[i - 1] == heights[i] == heights[i + 1]]
    return (f'<polyline fill="none" stroke="{colour}" stroke-width="1.5" '
            f'points="{_wrapped(kept)}"/>')


def dots(points, colour):
    """A dot of two pixels for each point, as one path. Points are rounded to whole pixels, and dots
    that touch in a column of pixels become one stroke."""
    pixels = {(round(x), round(y)) for x, y in points}
    strokes = []
    for x, y in sorted(pixels):
        if (x, y - 1) in pixels:
            continue
        length = 0
        while (x, y + length + 1) in pixels:
            length += 1
        strokes.append(f"M{x},{y}v{length}")
    return (f'<path fill="none" stroke="{colour}" stroke-width="2" stroke-linecap="round" '
            f'd="{_wrapped(strokes)}"/>')


def _wrapped(words):
    return textwrap.fill(" ".join(words), 200, break_on_hyphens=False)


def draw(series, title):
    """series: {peer: {start, end, syncs, target_bytes}}; times in seconds, latencies in us."""
    width = len(series) * (LEFT + WIDTH + 14) + 10
    height = TOP + 2 * (HEIGHT + GAP) + 16
    out = [f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" '
           f'width="{width}" height="{height}" font-family="sans-serif">',
           f'<rect width="{width}" height="{height}" fill="white"/>',
           _text(10, 18, title, 14, "start", 'font-weight="bold"')]
    most = max((rate for one in series.values() for _, rate in _rates(one["target_bytes"])),
               default=1) or 1
    for column, (peer, one) in enumerate(series.items()):
        x = LEFT + column * (LEFT + WIDTH + 14)
        inside = one["target_bytes"]
        times = (min(inside[0][0], -1), max(inside[-1][0], one["end"] + 0.5))
        out.append(_text(x + WIDTH / 2, TOP - 8, f"{peer}: {one['end']:.2f} s", 12))
        top = _step(most * 1.2)
        rates = Panel(x, TOP, times, (0, max(top, most)))
        out += rates.frame(one["start"], one["end"], [top * i / 4 for i in range(5)])
        out.append(line([rates.at(*point) for point in _rates(inside)], BLUE))
        delays = Panel(x, TOP + HEIGHT + GAP, times, (0.1, 10000), log=True)
        out += delays.frame(one["start"], one["end"], [0.1, 1, 10, 100, 1000, 10000])
        out.append(dots([delays.at(when, us / 1000) for when, us in one["syncs"]
                         if times[0] <= when <= times[1]], ORANGE))
        out.append(_text(x + WIDTH / 2, height - 8, "seconds; shaded: the replace", 10))
    out.append(_text(14, TOP + HEIGHT / 2, "to target, MB/s", 11, "middle",
                     f'transform="rotate(-90 14 {TOP + HEIGHT / 2})" fill="{BLUE}"'))
    middle = TOP + HEIGHT + GAP + HEIGHT / 2
    out.append(_text(14, middle, "fsync, ms", 11, "middle",
                     f'transform="rotate(-90 14 {middle})" fill="{ORANGE}"'))
    return "\n".join(out + ["</svg>"]) + "\n"
