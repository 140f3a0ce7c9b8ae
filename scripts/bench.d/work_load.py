# SPDX-License-Identifier: MIT
"""Group load: the device is replaced while one program overwrites random blocks, with an fsync
after every 32nd, and another one appends 40 MB each second. Measures these programs before, during
and after the replace."""
import statistics
import threading
import time

from machine import Background, Cpu, measured
from work_replace import fill, finish_replace

STREAM_MBPS = 40
SYNC_EACH = 32
SAMPLE_SECONDS = 0.02


class Sampler:
    """Records fifty times a second the bytes written so far: (when, to source, to target)."""

    def __init__(self, media):
        self.media = media
        self.samples = []
        self.stopping = threading.Event()
        self.thread = threading.Thread(target=self._run)
        self.thread.start()

    def _run(self):
        while not self.stopping.wait(SAMPLE_SECONDS):
            self.samples.append((time.monotonic(), self.media.source.counters()["written"],
                                 self.media.target.counters()["written"]))

    def stop(self):
        self.stopping.set()
        self.thread.join()
        return self.samples


def phases(syncs, start, end, before_seconds, after_seconds):
    """{phase: (IOPS, p50, p99 of fsync in us)}."""
    spans = {"before": (start - before_seconds, start), "during": (start, end),
             "after": (end + 0.1, end + after_seconds)}
    found = {}
    for phase, (first, last) in spans.items():
        took = sorted(us for when, us in syncs if first <= when < last)
        if not took:
            took = [(last - first) * 1e6]   # no fsync returned
        found[phase] = (SYNC_EACH * len(took) / (last - first), statistics.median(took),
                        took[min(len(took) - 1, int(len(took) * 0.99))])
    return found


def until_swap(samples, source, target):
    """(bytes written to the source, to the target) since these counters, until the last write to
    the source. Later writes are not part of the replace."""
    last = samples[-1][1]
    at_swap = next(value for _, so_far, value in samples if so_far == last)
    return last - source, at_swap - target


def run_load(peer, media, context, wanted):
    if not peer.replaces:
        return {}
    load = context.bench_program("load")
    before_seconds, after_seconds = (2, 1.5) if context.quick else (4, 3)
    media.target.clear()
    with peer.made(media.source):
        fill(peer, context, "load")
        busy = peer.root / "busy"
        measured(load, "seqwrite", busy, 128)
        peer.remount()
        writers = [Background(load, "busy", busy, 300, context.round + 1),
                   Background(load, "stream", peer.root / "stream", 300, STREAM_MBPS)]
        sampler = Sampler(media)
        try:
            time.sleep(before_seconds + 0.5)
            allocated = peer.allocated()
            source, target = media.source.counters(), media.target.counters()
            cpu = Cpu(peer.pids())
            start = time.monotonic()
            finish_replace(peer, media)
            end = time.monotonic()
            used = cpu.seconds()
            time.sleep(after_seconds)
        finally:
            samples = sampler.stop()
            printed = [writer.stop() for writer in writers]
        syncs = [tuple(map(float, line.split())) for line in printed[0].splitlines()]
        context.keep_resident(peer)
    meanwhile, written = until_swap(samples, source["written"], target["written"])
    found = phases(syncs, start, end, before_seconds, after_seconds)
    for phase, values in found.items():
        for name, value in zip(("iops", "p50_us", "p99_us"), values):
            context.note(peer, f"load.{phase}.{name}", value)
    context.note(peer, "load.cpu_seconds", used)
    context.series[context.media, peer.name] = {
        "start": 0.0, "end": end - start,
        "syncs": [(when - start, us) for when, us in syncs],
        "target_bytes": [(when - start, value - target["written"])
                         for when, _, value in samples[::3]]}
    return {"load_iops": found["during"][0] / found["before"][0],
            "load_p99": found["during"][2] / found["before"][2],
            "load_seconds": end - start,
            "load_bytes": written / (allocated + meanwhile)}
