# SPDX-License-Identifier: MIT
"""Group meta: many small files in one directory and in 200; tar, cp and rm on a tree of files."""
import pathlib
import time

from machine import Unable, measured, run
from work_data import rate_each

FILE_BYTES = 1024


def timed(*command):
    start = time.monotonic()
    run(*command)
    return time.monotonic() - start


def run_meta(peer, media, context, wanted):
    if peer.name == "raw":
        return {}
    found = {}
    with peer.made(media.source):
        for suffix, directories in (("", 1), ("200", 200)):
            if any(verb + suffix in wanted for verb in ("create", "stat", "readdir", "read",
                                                        "unlink")):
                found |= small_files(peer, context, wanted, suffix, directories)
        if wanted & {"untar", "copy", "rmrf"}:
            found |= trees(peer, context, wanted)
        context.keep_resident(peer)
    return found


def small_files(peer, context, wanted, suffix, directories):
    count = 6000 if context.quick else 18000
    program = context.bench_program("small_files")
    root = peer.root / f"small{suffix}"
    root.mkdir()

    def do(verb):
        return rate_each(measured(program, verb, root, count, directories, FILE_BYTES))
    found = {"create" + suffix: do("create")}
    for verb in ("stat", "readdir", "read"):
        if verb + suffix in wanted:
            peer.remount()
            found[verb + suffix] = do(verb)
    peer.sync()
    if "unlink" + suffix in wanted:
        found["unlink" + suffix] = do("unlink")
        peer.sync()
    return found


def headers_archive(context):
    """A tar file of /usr/include, in RAM. Made at the first call."""
    archive = pathlib.Path(context.directories["ram"]) / "headers.tar"
    if not archive.exists():
        if not pathlib.Path("/usr/include").is_dir():
            raise Unable("there is no /usr/include")
        listing = run("find", "/usr/include", "-type", "f", "-size", "-256k").splitlines()
        listing = sorted(listing)[:3000 if context.quick else 8000]
        names = pathlib.Path(context.directory) / "headers"
        names.write_text("\n".join(listing) + "\n")
        run("tar", "-C", "/", "-cPf", archive, "-T", names)
        run("tar", "-tPf", archive)
    return archive


def trees(peer, context, wanted):
    archive = headers_archive(context)
    tree, copy = peer.root / "tree", peer.root / "copy"
    tree.mkdir()
    found = {"untar": timed("tar", "-C", tree, "--transform", "s,^/,,", "-xf", archive)}
    peer.sync()
    if wanted & {"copy", "rmrf"}:
        found["copy"] = timed("cp", "-a", tree, copy)
        peer.sync()
    if "rmrf" in wanted:
        found["rmrf"] = timed("rm", "-rf", tree)
        peer.sync()
    return found
