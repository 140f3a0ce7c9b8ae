# SPDX-License-Identifier: MIT
"""The table: medians, ratios to the peers that count, and whether what was asked for is reached."""
import statistics

from rows import AT_LEAST_ON_DISK, ROWS, ratio


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
    """Each ratio (or the figure itself) beside what was asked for."""
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


def table(results, peers, media, rows=ROWS, subject="moltfs"):
    """Markdown."""
    found = medians(results, media)
    lines = ["| work | unit | " + " | ".join(peers) + " | at least | aim |",
             "| --- | --- |" + " ---: |" * len(peers) + " --- | --- |"]
    for row in rows:
        if row.name not in found:
            continue
        of_row = found[row.name]
        ours = of_row.get(subject)
        at_least = AT_LEAST_ON_DISK.get(row.name, row.at_least) if media == "disk" else row.at_least
        asked = [judge(row, wanted, of_row, ours) if ours is not None else ""
                 for wanted in (at_least, row.aim)]
        lines.append(f"| {row.title} | {row.unit} | " +
                     " | ".join(number(of_row.get(peer)) for peer in peers) +
                     f" | {asked[0]} | {asked[1]} |")
    return "\n".join(lines)


def scale_tables(scale):
    """Markdown: one table for each thing that grows; the last column is last size / first size."""
    parts = []
    for axis, sizes in scale.items():
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
