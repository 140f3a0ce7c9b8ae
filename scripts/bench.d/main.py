# SPDX-License-Identifier: MIT
"""scripts/bench, once everything is built: measures the peers in turns and prints the table."""
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
from machine import MIB, Media, Unable, resident_bytes
from all_peers import PEERS, QUICK_PEERS, make_peer
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
    """What the work has to know."""

    def __init__(self, options):
        self.programs = pathlib.Path(options.programs)
        self.directory = options.directory
        self.directories = {"ram": options.ram_directory, "disk": options.directory}
        self.quick = options.quick
        self.axes = options.axes
        self.round = 0
        self.media = None
        self.volumes = {}   # bytes allocated, by kind of filling; as moltfs had them
        self.notes = {}     # {(media, name, peer): [value]}: what explains a figure

        self.series = {}    # {(media, peer): what the plots show}; of the last round
        self.scale = {}     # {axis: {size: {figure: value}}}
        self.resident = {}  # {peer: most bytes resident of its daemon}

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
        """Called when a peer has done its work and is still mounted."""
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
                        help="of the group scale: " + ",".join(AXES))
    parser.add_argument("--peers", type=words, default=[],
                        help=",".join(PEERS) + "; moltfs@BUILD_DIRECTORY is another build of ours")
    parser.add_argument("--media", type=words, default=["ram"], help="ram,disk")
    parser.add_argument("--rounds", type=int, default=3, help="medians are of so many (3)")
    parser.add_argument("--json", help="also write everything measured to this file")
    parser.add_argument("--plots", help="a directory for SVG files of the group load")
    parser.add_argument("--readme", help="replace the marked block of this file by the tables")
    parser.add_argument("--lock", help="hold a lock on this file during each round")
    for hidden in ("--programs", "--directory", "--ram-directory"):
        parser.add_argument(hidden, required=True, help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    for name in options.only:
        if name not in BY_NAME:
            parser.error(f"no row '{name}'")
    for given, known in ((options.groups, GROUPS), (options.axes, AXES)):
        for name in given:
            if name not in known:
                parser.error(f"no '{name}' among {', '.join(known)}")
    if options.only:
        options.groups = [g for g in GROUPS if any(BY_NAME[n].group == g for n in options.only)]
    return options


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
        context.media = kind
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


def main():
    options = parse(sys.argv[1:])
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    context = Context(options)
    chosen = options.peers or list(QUICK_PEERS if options.quick else PEERS)
    if not any(name.partition("@")[0] == "moltfs" for name in chosen):
        chosen.insert(0, "moltfs")
    peers = []
    for peer in (make_peer(word, context) for word in chosen):
        reason = peer.missing()
        if reason:
            show(f"skipped: {peer.name}: {reason}")
        else:
            peers.append(peer)
    results, status = {}, 0
    try:
        measure(options, context, peers, results)
    except SystemExit as stopped:   # what was measured until then is shown
        status = stopped.code
    if options.json:
        write_json(options.json, context, results, peers)
    if options.plots:
        write_plots(pathlib.Path(options.plots), options, context)
    subject = next(name for name in chosen if name.partition("@")[0] == "moltfs")
    text = tables(options, results, peers, subject)
    if context.scale:
        text += "\n" + report.scale_tables(context.scale)
    print(text)
    for (kind, name, peer), values in sorted(context.notes.items()):
        print(f"{kind} {name} {peer}: " + " ".join(report.number(value) for value in values))
    if options.readme:
        put_into(pathlib.Path(options.readme), text + pictures(options))
    return status


def tables(options, results, peers, subject):
    counts = {len(values) for (_, row, _), values in results.items() if row != "memory"}
    rounds = "-".join(str(count) for count in sorted({min(counts), max(counts)})) if counts else 0
    load = os.getloadavg()[1]
    parts = [f"{machine_text()}; medians of {rounds} rounds{', --quick' if options.quick else ''}; "
             f"load average at the end {load:.0f}."]
    for kind in options.media:
        if not any(media == kind for media, _, _ in results):
            continue
        parts.append(f"Loop devices on {MEDIA_NAMES[kind]}:")
        parts.append(report.table(results, [peer.name for peer in peers], kind, subject=subject))
    return "\n\n".join(parts) + "\n"


def pictures(options):
    """Links to the plots, as seen from the file the tables go to."""
    if not options.plots:
        return ""
    plots = sorted(pathlib.Path(options.plots).glob("replace_*.svg"))
    here = os.path.dirname(os.path.abspath(options.readme))
    return "".join(f"\n![{path.stem}]({os.path.relpath(path, here)})\n" for path in plots)


def put_into(path, text):
    """Between the marks; the rest of the file stays."""
    begin, end = "<!-- scripts/bench begins -->\n", "<!-- scripts/bench ends -->"
    whole = path.read_text()
    if begin not in whole or end not in whole:
        raise SystemExit(f"bench: {path} has no marks for the table")
    before, _, rest = whole.partition(begin)
    path.write_text(before + begin + text + end + rest.partition(end)[2])


def write_plots(directory, options, context):
    directory.mkdir(exist_ok=True)
    for kind in options.media:
        series = {peer: one for (media, peer), one in context.series.items() if media == kind}
        if series:
            title = f"Replace under load, loop devices on {MEDIA_NAMES[kind]}"
            (directory / f"replace_{kind}.svg").write_text(plot.draw(series, title))


if __name__ == "__main__":
    sys.exit(main())
