# SPDX-License-Identifier: MIT
"""Measures the peers in turns and prints the tables. scripts/bench starts it when everything is
built."""
import argparse
import contextlib
import datetime
import fcntl
import json
import os
import pathlib
import platform
import signal
import sys
import time

import plot
import report
import results as results_file
from machine import MIB, Media, Unable, resident_bytes
from all_peers import PEERS, QUICK_PEERS
from peers import Moltfs
from rows import BY_NAME, GROUPS
from work_data import run_data
from work_load import run_load
from work_meta import run_meta
from work_replace import run_idle
from work_resume import run_resume
from work_scale import AXES, run_scale

WORK = {"data": run_data, "meta": run_meta, "replace": run_idle, "load": run_load,
        "resume": run_resume, "scale": run_scale}
MEDIA_NAMES = {"ram": "RAM", "disk": "disk"}


class Context:
    """What each measurement needs to know, and where it leaves more than its result."""

    def __init__(self, options):
        self.programs = pathlib.Path(options.programs)
        self.directory = options.directory
        self.directories = {"ram": options.ram_directory, "disk": options.directory}
        self.quick = options.quick
        self.axes = options.axes
        self.round = 0
        self.media = None
        self.volumes = {}   # {kind of files: bytes that moltfs had allocated}
        self.notes = {}     # {(media, name, peer): [value]}: figures that explain a result

        self.series = {}    # {(media, peer): what the plot shows}; of the last round
        self.scale = {}     # {peer: {axis: {size: {figure: value}}}}
        self.resident = {}  # {peer: the most resident bytes of its daemon}

    def bench_program(self, name):
        return self.programs / f"test/bench/bench_{name}"

    def note(self, peer, name, value):
        self.notes.setdefault((self.media, name, peer.name), []).append(value)

    @staticmethod
    def show(text):
        show(text)

    @staticmethod
    def resident_of(peer):
        return max((resident_bytes(pid) for pid in peer.pids()), default=0)

    def keep_resident(self, peer):
        """To be called after the work, while the peer is still mounted."""
        most = self.resident_of(peer)
        if most:
            self.resident[peer.name] = max(most, self.resident.get(peer.name, 0))


def words(text):
    return [word for word in text.split(",") if word]


def parse(arguments):
    parser = argparse.ArgumentParser(prog="scripts/bench", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="smaller volumes, the main peers")
    parser.add_argument("--groups", type=words, default=GROUPS, help=",".join(GROUPS))
    parser.add_argument("--only", type=words, default=[], help="rows: " + ", ".join(BY_NAME))
    parser.add_argument("--axes", type=words, default=list(AXES),
                        help="axes of the group scale: " + ",".join(AXES))
    parser.add_argument("--peers", type=words, default=[], help=",".join(PEERS))
    parser.add_argument("--before", metavar="DIR",
                        help=f"also measure the moltfs built in DIR, as peer {report.BEFORE}, and "
                             "compare; without --peers, only these two are measured")
    parser.add_argument("--media", type=words, default=["ram"], help="ram,disk (default: ram)")
    parser.add_argument("--rounds", type=int, default=3,
                        help="results are medians of this many rounds (default: 3)")
    parser.add_argument("--json", metavar="FILE", help="also write all measurements to FILE")
    parser.add_argument("--plots", metavar="DIR", help="write an SVG of the group load into DIR")
    parser.add_argument("--results", metavar="FILE", nargs="?", const=results_file.RESULTS,
                        help="replace the measured tables in FILE "
                             "(default: scripts/bench.d/RESULTS.md)")
    parser.add_argument("--lock", metavar="FILE", help="hold a lock on FILE during each round")
    for hidden in ("--programs", "--directory", "--ram-directory"):
        parser.add_argument(hidden, required=True, help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    for name in options.only:
        if name not in BY_NAME:
            parser.error(f"there is no row '{name}'")
    for given, known in ((options.groups, GROUPS), (options.axes, AXES), (options.peers, PEERS),
                         (options.media, MEDIA_NAMES)):
        for name in given:
            if name not in known:
                parser.error(f"there is no '{name}'; there are: {', '.join(known)}")
    if options.before and options.results:
        parser.error("--before and --results do not go together")
    options.command = command(options, parser)
    if options.only:
        options.groups = [g for g in GROUPS if any(BY_NAME[n].group == g for n in options.only)]
    return options


def command(options, parser):
    """The command line that measures the same again."""
    parts = ["scripts/bench"] + ["--quick"] * options.quick
    for name in ("groups", "only", "axes", "media", "peers", "rounds"):
        value = getattr(options, name)
        if value != parser.get_default(name):
            parts.append(f"--{name} {','.join(value) if isinstance(value, list) else value}")
    return " ".join(parts)


@contextlib.contextmanager
def locked(path):
    if not path:
        yield
        return
    with open(path, "w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def show(text):
    print(text, file=sys.stderr, flush=True)


def measure(options, context, peers, results):
    skipped = {}
    for kind in options.media:
        context.media, context.resident = kind, {}
        size = (1536 if context.quick else 3072) * MIB
        needs_media = any(group != "scale" for group in options.groups)
        media = Media(kind, context.directories, size if needs_media else MIB)
        try:
            for group in options.groups:
                wanted = {row.name for row in BY_NAME.values() if row.group == group and
                          (not options.only or row.name in options.only)}
                for context.round in range(options.rounds):
                    turn = context.round % len(peers)
                    with locked(options.lock):
                        for peer in peers[turn:] + peers[:turn]:
                            run_one(WORK[group], peer, media, context, wanted, results, skipped)
        finally:
            media.close()
        for name, most in context.resident.items():
            results.setdefault((kind, "memory", name), []).append(most / MIB)
    for (peer, group), why in skipped.items():
        show(f"skipped: {peer}, {group}: {why}")


def run_one(work, peer, media, context, wanted, results, skipped):
    group = next(name for name, one in WORK.items() if one is work)
    if (peer.name, group) in skipped:
        return
    start = time.monotonic()
    try:
        found = work(peer, media, context, wanted)
    except Unable as why:
        skipped[peer.name, group] = str(why)
        return
    for row, value in found.items():
        if row in wanted:
            results.setdefault((context.media, row, peer.name), []).append(value)
    if found:
        show(f"{context.media} {group} round {context.round + 1} {peer.name:12} "
             f"{time.monotonic() - start:5.1f} s  " + "  ".join(
                 f"{row}={report.number(found[row])}" for row in found if row in wanted))


def machine_text():
    cpu = next((line.split(":")[1].strip() for line in open("/proc/cpuinfo")
                if line.startswith("model name")), platform.machine())
    return f"{cpu}, {os.cpu_count()} CPUs, Linux {platform.release()}"


def write_json(path, context, results, peers):
    def flat(table):
        return [{"media": media, "name": name, "peer": peer, "values": values}
                for (media, name, peer), values in table.items()]
    whole = {"date": datetime.datetime.now().isoformat(timespec="seconds"),
             "machine": machine_text(), "quick": context.quick,
             "load": os.getloadavg(), "peers": [peer.name for peer in peers],
             "results": flat(results), "notes": flat(context.notes), "scale": context.scale,
             "series": [{"media": media, "peer": peer} | series
                        for (media, peer), series in context.series.items()]}
    pathlib.Path(path).write_text(json.dumps(whole, indent=1) + "\n")


def choose_peers(options, context):
    """Those of the chosen peers that this machine can have. moltfs is always the first."""
    chosen = options.peers or (["moltfs"] if options.before else
                               list(QUICK_PEERS if options.quick else PEERS))
    chosen = ["moltfs"] + [name for name in chosen if name != "moltfs"]
    peers = [PEERS[name](context) for name in chosen]
    if options.before:
        peers.insert(1, Moltfs(context, options.before, report.BEFORE))
    missing = {peer.name: peer.missing() for peer in peers}
    for name, reason in missing.items():
        if reason and name in ("moltfs", report.BEFORE):
            raise SystemExit(f"bench: {name}: {reason}")
        if reason:
            show(f"skipped: {name}: {reason}")
    return [peer for peer in peers if not missing[peer.name]]


def main():
    options = parse(sys.argv[1:])
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    context = Context(options)
    peers = choose_peers(options, context)
    results, status = {}, 0
    try:
        measure(options, context, peers, results)
    except SystemExit as stopped:   # interrupted: the results so far are shown
        status = stopped.code
    if options.json:
        write_json(options.json, context, results, peers)
    if options.plots:
        write_plots(pathlib.Path(options.plots), options, context)
    found = tables(options, context, results, peers)
    print("\n".join(found.values()))
    if options.before:
        show_slower(options, context, results)
    for (kind, name, peer), values in sorted(context.notes.items()):
        print(f"{kind} {name} {peer}: " + " ".join(report.number(value) for value in values))
    if options.results:
        path = pathlib.Path(options.results)
        results_file.put_into(path, with_plots(found, options, path))
    return status


def tables(options, context, results, peers):
    """{name of a table: its Markdown, with the command and the machine}."""
    names = [peer.name for peer in peers]
    found = {}
    for kind in options.media:
        for name, groups in results_file.measured_tables(options.groups).items():
            counts = {len(values) for (media, row, _), values in results.items()
                      if media == kind and BY_NAME[row].group in groups and row != "memory"}
            if not counts:
                continue
            rounds = "-".join(map(str, sorted({min(counts), max(counts)})))
            head = heading(options, f"loop devices on {MEDIA_NAMES[kind]}; "
                                    f"medians of {rounds} rounds")
            found[results_file.table_name(kind, name)] = (
                head + report.table(results, names, kind, groups) + "\n")
    for name, axes in context.scale.items():
        title = results_file.SCALE if name == "moltfs" else f"{results_file.SCALE} {name}"
        found[title] = (heading(options, f"{name}; sparse images in RAM; one round") +
                        report.scale_tables(axes))
    return found


def heading(options, what):
    return (f"`{options.command}`: {what}; {machine_text()}; load average at the end "
            f"{os.getloadavg()[1]:.0f}.\n\n")


def with_plots(found, options, path):
    """The tables, with links to the plots below those of the group load."""
    if options.plots and "load" in options.groups:
        for kind in options.media:
            name, plot_file = results_file.table_name(kind, "replace"), plot_path(options, kind)
            if name in found and plot_file.exists():
                found[name] += results_file.link(plot_file, path)
    return found


def show_slower(options, context, results):
    for kind in options.media:
        slower = report.slower_rows(results, kind)
        print(f"{kind}: slower than before (below 0.97): " + ("; ".join(slower) or "none"))
    both = [context.scale.get(name) for name in ("moltfs", report.BEFORE)]
    if all(both):
        print("\nnow / before, group scale (raw ratios; for times and memory less is better)\n")
        print(report.scale_tables(scale_ratios(*both)))


def scale_ratios(now, before):
    """The same shape as `now`, of ratios."""
    return {axis: {size: {name: value / old
                          for name, value in figures.items()
                          if value and (old := before.get(axis, {}).get(size, {}).get(name))}
                   for size, figures in sizes.items()}
            for axis, sizes in now.items()}


def plot_path(options, kind):
    return pathlib.Path(options.plots) / f"replace_{kind}.svg"


def write_plots(directory, options, context):
    directory.mkdir(exist_ok=True)
    for kind in options.media:
        series = {peer: one for (media, peer), one in context.series.items() if media == kind}
        if series:
            title = f"Replace under load, loop devices on {MEDIA_NAMES[kind]}"
            plot_path(options, kind).write_text(plot.draw(series, title))


if __name__ == "__main__":
    sys.exit(main())
