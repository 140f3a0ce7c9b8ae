# SPDX-License-Identifier: MIT
"""Group resume: a replace is stopped when 40 % are on the target, by unmounting or by kill -9 of
the daemon, and continues at the next mount. Measures how many bytes are copied again, and verifies
every file on the target alone."""
import contextlib
import hashlib
import threading
import time

from machine import MIB, Unable, drop_caches, wait_for
from work_replace import fill

SHARE = 0.4


def digest(path):
    try:
        with open(path, "rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        return str(error)


def digests(root):
    return {path.relative_to(root): digest(path) for path in sorted(root.rglob("*"))
            if path.is_file()}


def run_resume(peer, media, context, wanted):
    found = {}
    for way in ("unmount", "kill"):
        if f"resume_{way}" in wanted and hasattr(peer, f"stop_by_{way}"):
            again, wrong = stop_and_resume(peer, media, context, way)
            found[f"resume_{way}"] = again / MIB
            found[f"resume_{way}_wrong"] = wrong
    return found


def start_replace(peer, target):
    """Starts a replace. The command may fail, because the daemon is ended while it runs."""
    with contextlib.suppress(Unable):
        peer.replace_start(target)


def stop_and_resume(peer, media, context, way):
    """(bytes written to the target beyond those that it needed, files that are wrong on it)."""
    media.target.clear()
    with peer.made(media.source):
        fill(peer, context, "big")
        expected = digests(peer.root)
        peer.remount()
        allocated = peer.allocated()
        source = media.source.counters()["written"]
        target = media.target.counters()["written"]
        starting = threading.Thread(target=start_replace, args=(peer, media.target))
        starting.start()
        wait_for(lambda: media.target.counters()["written"] - target >= SHARE * allocated,
                 "40 % of the replace on the target", 120, 0.001)
        getattr(peer, f"stop_by_{way}")()
        stopped_at = media.target.counters()["written"] - target
        context.note(peer, f"resume_{way}.stopped_at_share", stopped_at / allocated)
        starting.join()
        peer.mount_resumed(media.target)
        start = time.monotonic()
        while not peer.replace_done():
            if time.monotonic() - start > 300:
                raise Unable("the resumed replace did not end within 300 s")
            time.sleep(0.01)
        needed = allocated + media.source.counters()["written"] - source
        again = media.target.counters()["written"] - target - needed
    return max(0, again), wrong_files(peer, media, expected)


def wrong_files(peer, media, expected):
    """Destroys the source, mounts the target alone and counts the files that are wrong."""
    media.source.clear()
    drop_caches()
    peer.device = media.target
    peer.mount()
    try:
        found = digests(peer.root)
        return sum(found.get(path) != digest for path, digest in expected.items())
    finally:
        peer.unmount()
