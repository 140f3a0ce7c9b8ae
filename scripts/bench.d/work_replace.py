# SPDX-License-Identifier: MIT
"""Group replace: the device is replaced while no program uses the filesystem."""
import time

from machine import MIB, Cpu, Unable, measured
from work_data import rate_mb

GIB = 1 << 30
POLL_SECONDS = 0.005


def fill(peer, context, kind):
    """Makes big files of 64 MiB (fewer for kind "load"), or small ones of 4 KiB in 200 directories,
    and syncs them."""
    if kind == "small":
        root = peer.root / "small"
        root.mkdir()
        measured(context.bench_program("small_files"), "create", root,
                 20000 if context.quick else 50000, 200, 4096)
    else:
        load = context.bench_program("load")
        for index in range((12 if context.quick else 24) // (3 if kind == "load" else 1)):
            measured(load, "seqwrite", peer.root / f"big{index}", 64)
    peer.sync()


def finish_replace(peer, media):
    peer.replace_start(media.target)
    end = time.monotonic() + 300
    while not peer.replace_done():
        time.sleep(POLL_SECONDS)
        if time.monotonic() > end:
            raise Unable("the replace did not end within 300 s")


def replace_once(peer, media):
    """One replace, from the command to its end: (seconds, bytes written to the source, bytes
    written to the target, CPU seconds)."""
    source, target = media.source.counters(), media.target.counters()
    cpu = Cpu(peer.pids())
    start = time.monotonic()
    finish_replace(peer, media)
    seconds = time.monotonic() - start
    used = cpu.seconds()
    return (seconds, media.source.counters()["written"] - source["written"],
            media.target.counters()["written"] - target["written"], used)


def run_idle(peer, media, context, wanted):
    found = {}
    for kind in ("big", "small"):
        if not any(name.startswith(f"replace_{kind}") for name in wanted):
            continue
        if peer.name == "raw":
            found |= copy_raw(media, context, kind)
            continue
        if not peer.replaces:
            continue
        media.target.clear()
        with peer.made(media.source):
            fill(peer, context, kind)
            peer.remount()
            allocated = peer.allocated()
            seconds, meanwhile, written, used = replace_once(peer, media)
            context.volumes[kind] = allocated
            found[f"replace_{kind}"] = allocated / seconds / 1e6
            found[f"replace_{kind}_cpu"] = used / (allocated / GIB)
            found[f"replace_{kind}_bytes"] = written / (allocated + meanwhile)
            context.keep_resident(peer)
    return found


def copy_raw(media, context, kind):
    """Copies as many bytes as moltfs had to copy, or those of the files if moltfs has not run."""
    files = (12, 20000) if context.quick else (24, 50000)
    size = context.volumes.get(kind, files[0] * 64 * MIB if kind == "big" else files[1] * 4096)
    cpu = Cpu()
    result = measured(context.bench_program("raw"), "copy", media.source.path, media.target.path,
                      size, 16, MIB)
    used = cpu.seconds()
    return {f"replace_{kind}": rate_mb(result), f"replace_{kind}_cpu": used / (size / GIB)}
