# SPDX-License-Identifier: MIT
"""Group scale: the figures of moltfs as the number of files, the volume, the extents of a file, the
names of a directory and the client threads grow. The volumes are sparse image files in RAM. An
operation should cost more only if the operation itself grows, not the volume around it."""
import os
import pathlib
import random
import statistics
import threading
import time

from machine import MIB, TICKS, Unable, drop_caches, measured, process_ticks
from report import BEFORE
from work_data import rate_each, rate_mb

GIB = 1 << 30
TIB = 1 << 40


class Image:
    """A sparse file that serves as a device."""

    def __init__(self, context, name, size):
        self.path = str(pathlib.Path(context.directories["ram"]) / name)
        self.size = size
        self.clear()

    def clear(self):
        with open(self.path, "wb") as file:
            file.truncate(self.size)

    def close(self):
        os.unlink(self.path)


class Scale:
    """Measurements at one size of one axis."""

    def __init__(self, peer, context):
        self.peer, self.context = peer, context
        self.small = context.bench_program("small_files")
        self.load = context.bench_program("load")

    def volume(self, size):
        """Makes and mounts a volume on new images; unmounts it at the end. See Peer.made()."""
        self.source = Image(self.context, "scale-source", size)
        self.target = Image(self.context, "scale-target", size)
        return self.peer.made(self.source)

    def drop(self):
        self.source.close()
        self.target.close()

    def files(self, verb, root, count, directories, size=0, threads=1):
        return rate_each(measured(self.small, verb, root, count, directories, size, threads,
                                  timeout=3600))

    def commit_ms(self):
        """The milliseconds of an fsync of one small file, median of nine."""
        took = []
        for number in range(9):
            fd = os.open(self.peer.root / f"commit{number}", os.O_CREAT | os.O_WRONLY)
            os.write(fd, b"x" * 100)
            start = time.monotonic()
            os.fsync(fd)
            took.append(time.monotonic() - start)
            os.close(fd)
        return statistics.median(took) * 1000

    def unlink(self, path):
        """The seconds until the space is free as well, which a background task does."""
        start = time.monotonic()
        os.unlink(path)
        while self.peer.usage()["data_used_bytes"] > 0:
            self.peer.sync()
        return time.monotonic() - start

    def used_by(self, verb, *work):
        """The rate of files(), and the CPU time of the daemon for each file."""
        pid = self.peer.pids()[0]
        before = process_ticks(pid)[0]
        rate = self.files(verb, *work)
        used = (process_ticks(pid)[0] - before) / TICKS
        return {f"{verb}, files/s": rate,
                f"CPU of the daemon for {verb}, us a file": used / work[1] * 1e6}

    def mount_again(self):
        """{mount ms (median of three), resident MiB}."""
        took = []
        for _ in range(3):
            self.peer.unmount()
            drop_caches()
            start = time.monotonic()
            self.peer.mount()
            os.stat(self.peer.root)
            took.append(time.monotonic() - start)
        return {"mount, ms": statistics.median(took) * 1000,
                "resident after mount, MiB": self.context.resident_of(self.peer) / MIB}

    def replace(self):
        """A whole replace: the time until it is armed, the time of the swap, and the rate."""
        allocated = self.peer.allocated()
        start = time.monotonic()
        self.peer.replace_start(self.target)
        armed = time.monotonic()
        finishing = None
        while not self.peer.replace_done():
            if finishing is None and self.peer.status()["state"] == "finishing":
                finishing = time.monotonic()
            time.sleep(0.001)
        end = time.monotonic()
        self.peer.device, self.target = self.target, self.source
        self.source = self.peer.device
        return {"start of a replace, ms": (armed - start) * 1000,
                "swap, ms": (end - finishing) * 1000 if finishing else 0.0,
                "replace, MB/s": allocated / (end - start) / 1e6}

    def resume(self):
        """Unmounts right after the start of a replace, and measures the mount that resumes it."""
        self.target.clear()
        self.peer.replace_start(self.target)
        self.peer.unmount()
        drop_caches()
        start = time.monotonic()
        try:
            self.peer.mount_resumed(self.target)
        except Unable:   # the replace had ended before the unmount
            self.peer.device = self.target
            self.peer.mount()
            return {}
        took = time.monotonic() - start
        while not self.peer.replace_done():
            time.sleep(0.01)
        return {"mount that resumes, ms": took * 1000}


def scale_files(scale, keep, quick):
    for count in (1000, 20000, 100000) if quick else (1000, 100000, 5000000):
        with scale.volume(100 * GIB):
            root = scale.peer.root / "files"
            root.mkdir()
            directories = max(1, count // 1000)
            rate = scale.files("create", root, count, directories)
            scale.peer.sync()
            figures = {"create, files/s": rate} | scale.mount_again()
            figures["stat cold, files/s"] = stat_some(root, count, directories)
            figures["fsync of a small file, ms"] = scale.commit_ms()
            figures |= scale.replace()
            figures |= scale.resume()
            keep("files", f"{count:,}", figures)
        scale.drop()


def stat_some(root, count, directories):
    """The rate of stat on up to a thousand files of one directory, in order of creation."""
    each = count // directories
    rng = random.Random(1)
    first = rng.randrange(max(1, each - 1000))
    directory = root / f"d{rng.randrange(directories):03}"
    names = [directory / f"f{number:06}" for number in range(first, min(first + 1000, each))]
    start = time.monotonic()
    for name in names:
        os.stat(name)
    return len(names) / (time.monotonic() - start)


def scale_volume(scale, keep, quick):
    for size, name in ((GIB, "1 GiB"), (100 * GIB, "100 GiB"), (16 * TIB, "16 TiB")):
        with scale.volume(size):
            result = measured(scale.load, "seqwrite", scale.peer.root / "big", 256)
            root = scale.peer.root / "files"
            root.mkdir()
            figures = {"write + fsync, MB/s": rate_mb(result),
                       "create, files/s": scale.files("create", root, 4000 if quick else 20000, 10)}
            figures |= scale.mount_again()
            figures["fsync of a small file, ms"] = scale.commit_ms()
            figures |= scale.replace()
            keep("volume", name, figures)
        scale.drop()


def scale_extents(scale, keep, quick):
    """One file of 4 KiB extents. The last size also shows a replace of small extents."""
    for count in (1, 1000, 50000) if quick else (1, 1000, 1000000):
        with scale.volume(100 * GIB):
            path = scale.peer.root / "extents"
            made = measured(scale.load, "extents", path, count, 1, timeout=3600)
            scale.peer.sync()
            scale.peer.remount()
            # One read for four blocks, so that few reads find a block in the cache.
            read = measured(scale.load, "randread", path, max(1, min(count // 2, 4000)), 1)
            figures = {"write, extents/s": rate_each(made) if count > 1 else None,
                       "random 4k read cold, IOPS": rate_each(read) if count > 1 else None}
            figures |= scale.mount_again()
            figures["fsync of a small file, ms"] = scale.commit_ms()
            figures |= scale.replace()
            figures["unlink until the space is free, us an extent"] = (
                scale.unlink(path) / count * 1e6)
            keep("extents of a file", f"{count:,}", figures)
        scale.drop()


def scale_directory(scale, keep, quick):
    """At least 20,000 files at each size, in as many directories as that takes."""
    for count in (100, 50000) if quick else (100, 1000000):
        with scale.volume(100 * GIB):
            root = scale.peer.root / "files"
            root.mkdir()
            total, directories = max(count, 20000), max(1, 20000 // count)
            figures = scale.used_by("create", root, total, directories)
            scale.peer.remount()
            figures["stat cold, files/s"] = stat_some(root, total, directories)
            scale.peer.remount()
            figures["list cold, names/s"] = scale.files("readdir", root, total, directories)
            figures |= scale.used_by("unlink", root, total, directories)
            keep("names of a directory", f"{count:,}", figures)
        scale.drop()


def scale_threads(scale, keep, quick):
    count = 6400 if quick else 25600
    for threads in (1, 2, 8, 32):
        with scale.volume(100 * GIB):
            root = scale.peer.root / "files"
            root.mkdir()
            figures = scale.used_by("create", root, count, 64, 1024, threads)
            scale.peer.remount()
            figures["read cold, files/s"] = scale.files("read", root, count, 64, 1024, threads)
            figures["4k write + fsync, IOPS"] = syncs_together(scale, threads)
            keep("client threads", str(threads), figures)
        scale.drop()


def syncs_together(scale, threads):
    """Each thread in a file of its own; returns the rate of all together."""
    count = 1600 // threads
    paths = [scale.peer.root / f"sync{number}" for number in range(threads)]
    for path in paths:
        measured(scale.load, "seqwrite", path, 1)
    workers = [threading.Thread(target=measured,
                                args=(scale.load, "fsync4k", path, count, 1)) for path in paths]
    start = time.monotonic()
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    return count * threads / (time.monotonic() - start)


def scale_fragmented(scale, keep, quick):
    """A fresh volume, and one that was full of 4 KiB files of which every second one is removed."""
    size = (512 if quick else 1024) * MIB
    for state in ("fresh", "full and in fragments"):
        with scale.volume(size):
            if state != "fresh":
                fragment(scale, size)
            results = [measured(scale.load, "seqwrite", scale.peer.root / "big", 64)
                       for _ in range(3)]
            keep("free space", state,
                 {"write of 64 MiB + fsync, MB/s": statistics.median(map(rate_mb, results)),
                  "fsync of a small file, ms": scale.commit_ms()})
        scale.drop()


def fragment(scale, size):
    root = scale.peer.root / "files"
    root.mkdir()
    count = int(size * 0.7) // 4096 // 2
    scale.files("create", root, count // 100 * 100, 100, 4096)
    filler = scale.peer.root / "filler"
    room = os.statvfs(scale.peer.root)
    free = room.f_bavail * room.f_frsize // MIB
    measured(scale.load, "seqwrite", filler, max(1, int(free * 0.97) - 8))
    for directory in root.iterdir():
        for number, path in enumerate(sorted(directory.iterdir())):
            if number % 2:
                path.unlink()
    scale.peer.sync()


AXES = {"volume": scale_volume, "threads": scale_threads, "fragments": scale_fragmented,
        "directory": scale_directory, "extents": scale_extents, "files": scale_files}


def run_scale(peer, media, context, wanted):
    """Measures moltfs alone, in the first round only, on images of its own."""
    del media, wanted
    if peer.name not in ("moltfs", BEFORE) or context.round > 0:
        return {}

    def keep(axis, size, figures):
        context.scale.setdefault(peer.name, {}).setdefault(axis, {})[size] = figures
        context.show(f"scale {peer.name} {axis} {size}: " + "  ".join(
            f"{name} {value:.1f}" for name, value in figures.items() if value is not None))
    for name in context.axes:
        scale = Scale(peer, context)
        try:
            AXES[name](scale, keep, context.quick)
        except Unable as why:
            context.show(f"skipped: scale, {name}: {why}")
            scale.drop()
    return {}
