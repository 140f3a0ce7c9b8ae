# SPDX-License-Identifier: MIT
"""Group data: writes, reads and overwrites one big file."""
from machine import MIB, drop_caches, measured


def rate_mb(result):
    return result["bytes"] / result["seconds"] / 1e6


def rate_each(result):
    return result["count"] / result["seconds"]


class Sizes:
    def __init__(self, quick):
        self.file_mib = 256 if quick else 512
        self.random_reads = 8000 if quick else 16000
        self.random_writes = 16384
        self.syncs = 1000 if quick else 4000


def run_data(peer, media, context, wanted):
    """Returns {row: value} of the rows in `wanted`."""
    sizes = Sizes(context.quick)
    if peer.name == "raw":
        return run_raw(media.source, context, wanted, sizes)
    load = context.bench_program("load")
    found = {}
    with peer.made(media.source):
        path = peer.root / "big"
        result = measured(load, "seqwrite", path, sizes.file_mib)
        found["seqwrite"] = rate_mb(result)
        if "seqread_warm" in wanted:
            measured(load, "seqread", path)
            found["seqread_warm"] = rate_mb(measured(load, "seqread", path))
        if "seqread_cold" in wanted:
            peer.remount()
            found["seqread_cold"] = rate_mb(measured(load, "seqread", path))
        if "randread_cold" in wanted:
            peer.remount()
            found["randread_cold"] = rate_each(
                measured(load, "randread", path, sizes.random_reads, context.round))
        if "randwrite" in wanted:
            found["randwrite"] = rate_each(
                measured(load, "randwrite", path, sizes.random_writes, context.round))
        if "fsync4k" in wanted:
            peer.sync()
            before = media.source.counters()
            result = measured(load, "fsync4k", path, sizes.syncs, context.round)
            after = media.source.counters()
            found["fsync4k"] = rate_each(result)
            for what in ("flushes", "written"):
                context.note(peer, f"fsync4k.{what}_each",
                             (after[what] - before[what]) / sizes.syncs)
            context.note(peer, "fsync4k.p50_us", result["p50_us"])
            context.note(peer, "fsync4k.p99_us", result["p99_us"])
        context.keep_resident(peer)
    return found


def run_raw(device, context, wanted, sizes):
    raw, load = context.bench_program("raw"), context.bench_program("load")
    found = {}
    size = sizes.file_mib * MIB
    if "seqwrite" in wanted:
        found["seqwrite"] = rate_mb(measured(raw, "write", device.path, size, 16, MIB))
    if "seqread_cold" in wanted:
        drop_caches()
        found["seqread_cold"] = rate_mb(measured(raw, "read", device.path, size, 16, MIB))
    if "randread_cold" in wanted:
        found["randread_cold"] = rate_each(
            measured(load, "--direct", "randread", device.path, sizes.random_reads, context.round))
    if "randwrite" in wanted:
        found["randwrite"] = rate_each(measured(raw, "write", device.path,
                                                sizes.random_writes * 4096, 64, 4096,
                                                context.round))
    if "fsync4k" in wanted:
        found["fsync4k"] = rate_each(
            measured(load, "--direct", "fsync4k", device.path, sizes.syncs, context.round))
    return found
