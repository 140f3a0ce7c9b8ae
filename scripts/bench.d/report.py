# SPDX-License-Identifier: MIT
"""Turns measurements into Markdown tables: medians, ratios to the peers, and whether each ratio
reaches its target."""
import statistics

from rows import AT_LEAST_ON_DISK, ROWS, ratio

BEFORE = "moltfs-before"


def number(value):
    if value is None:
        return "-"
    if value >= 100:
        return f"{value:,.0f}"
    return f"{value:.2f}" if value < 10 else f"{value:.1f}"


def medians(results, media):
    """{row: {peer: median}} of what was measured on these media."""
    found = {}
    for (kind, row, peer), values in results.items():
        if kind == media and values:
            found.setdefault(row, {})[peer] = statistics.median(values)
    return found


def judge(row, wanted, of_row, ours):
    """The ratios reached (or the figure itself), each with its target and "yes" or "no"."""
    words = []
    for want, peer in wanted:
        if peer is None:
            sign = "<=" if row.less_is_better else ">="
            enough = ours <= want + 0.005 if row.less_is_better else ours >= want - 0.005
            words.append(f"{sign} {want:.2f}: {'yes' if enough else '**no**'}")
        elif peer in of_row:
            reached = ratio(row, ours, of_row[peer])
            enough = reached >= want - 0.005
            words.append(f"{want:.2f} x {peer}: {'yes' if enough else '**no**'}, {reached:.2f}")
    return "; ".join(words)


def now_to_before(results, media, row):
    """How many times better the row is than before: (by medians, in the worst round, in the best
    round), or None if it was not measured with both builds."""
    pair = [results.get((media, row.name, peer), []) for peer in ("moltfs", BEFORE)]
    if not all(pair):
        return None
    rounds = [ratio(row, now, before) for now, before in zip(*pair)]
    return ratio(row, *map(statistics.median, pair)), min(rounds), max(rounds)


def table(results, peers, media, groups=None):
    """Markdown: a line for each row of these groups (None: of all groups) that was measured."""
    found = medians(results, media)
    compare = BEFORE in peers
    titles = list(peers) + ["now / before"] * compare
    lines = ["| work | unit | " + " | ".join(titles) + " | at least | aim |",
             "| --- | --- |" + " ---: |" * len(titles) + " --- | --- |"]
    for row in ROWS:
        if row.name not in found or (groups is not None and row.group not in groups):
            continue
        of_row = found[row.name]
        ours = of_row.get("moltfs")
        at_least = AT_LEAST_ON_DISK.get(row.name, row.at_least) if media == "disk" else row.at_least
        asked = [judge(row, wanted, of_row, ours) if ours is not None else ""
                 for wanted in (at_least, row.aim)]
        cells = [number(of_row.get(peer)) for peer in peers]
        if compare:
            better = now_to_before(results, media, row)
            cells.append("%.2f (%.2f to %.2f)" % better if better else "-")
        lines.append(f"| {row.title} | {row.unit} | " + " | ".join(cells) +
                     f" | {asked[0]} | {asked[1]} |")
    return "\n".join(lines)


def slower_rows(results, media, least=0.97):
    """Titles of the rows whose median is below `least` times that of the build before."""
    found = []
    for row in ROWS:
        better = now_to_before(results, media, row)
        if better and better[0] < least:
            median, low, high = better
            found.append(f"{row.title} ({median:.2f}, {low:.2f} to {high:.2f})")
    return found


def scale_tables(axes):
    """Markdown of {axis: {size: {figure: value}}}: a table for each axis. The last column is the
    figure at the last size divided by the figure at the first."""
    parts = []
    for axis, sizes in axes.items():
        names = list(dict.fromkeys(name for figures in sizes.values() for name in figures))
        lines = [f"| {axis} | " + " | ".join(sizes) + " | last / first |",
                 "| --- |" + " ---: |" * (len(sizes) + 1)]
        for name in names:
            values = [figures.get(name) for figures in sizes.values()]
            known = [value for value in values if value]
            share = number(known[-1] / known[0]) if len(known) > 1 else "-"
            lines.append(f"| {name} | " + " | ".join(map(number, values)) + f" | {share} |")
        parts.append("\n".join(lines))
    return "\n\n".join(parts) + "\n"
