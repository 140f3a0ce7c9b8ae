# SPDX-License-Identifier: MIT
"""The rows of the tables: one for each figure, with its targets."""
import dataclasses


@dataclasses.dataclass(frozen=True)
class Row:
    name: str
    group: str
    title: str
    unit: str
    # ((ratio, peer), ...): moltfs / peer, or peer / moltfs if less is better. If the peer is None,
    # the ratio is a bound for the figure itself.
    at_least: tuple = ()
    aim: tuple = ()
    less_is_better: bool = False


def _small(name, title, unit="files/s", less=False):
    return Row(name, "meta", title, unit, ((2, "passthrough"), (2.5, "zfs-fuse"), (2.5, "fuse2fs")),
               ((0.8, "btrfs"),), less)


ROWS = [
    Row("seqwrite", "data", "sequential write + fsync", "MB/s",
        ((1.0, "btrfs"), (0.9, "passthrough")), ((0.98, "passthrough"),)),
    Row("seqread_cold", "data", "sequential read cold", "MB/s",
        ((1.2, "passthrough"),), ((1.0, "btrfs"),)),
    Row("seqread_warm", "data", "sequential read warm", "MB/s",
        ((0.95, "btrfs"),), ((1.0, "btrfs"),)),
    Row("randread_cold", "data", "random 4k read cold", "IOPS",
        ((0.9, "passthrough"),), ((1.0, "passthrough"),)),
    Row("randwrite", "data", "16k random 4k writes + one fsync", "IOPS",
        ((1.5, "btrfs"),), ((0.8, "passthrough"),)),
    Row("fsync4k", "data", "4k write + fsync each", "IOPS",
        ((2.0, "btrfs"),), ((0.7, "passthrough"),)),
    _small("create", "create 18,000 files of 1 KiB in one directory"),
    _small("stat", "stat them cold"),
    _small("readdir", "list them cold", "names/s"),
    _small("read", "read them cold"),
    _small("unlink", "unlink them"),
    _small("create200", "create them in 200 directories"),
    _small("stat200", "stat them cold in 200 directories"),
    _small("readdir200", "list them cold in 200 directories", "names/s"),
    _small("read200", "read them cold in 200 directories"),
    _small("unlink200", "unlink them in 200 directories"),
    _small("untar", "untar a tree of headers", "s", True),
    _small("copy", "cp -a of the tree", "s", True),
    _small("rmrf", "rm -rf of the tree", "s", True),
    Row("replace_big", "replace", "replace idle, big files", "MB/s",
        ((1.5, "btrfs"), (0.85, "raw")), ((0.95, "raw"),)),
    Row("replace_small", "replace", "replace idle, 50,000 files of 4 KiB", "MB/s",
        ((1.5, "btrfs"),), ((0.85, "raw"),)),
    Row("replace_big_cpu", "replace", "CPU s per GiB replaced, big files", "s/GiB",
        ((1.0, "btrfs"),), ((2.0, "btrfs"),), True),
    Row("replace_small_cpu", "replace", "CPU s per GiB replaced, small files", "s/GiB",
        ((1.0, "btrfs"),), ((2.0, "btrfs"),), True),
    Row("replace_big_bytes", "replace", "bytes to target / (allocated + written), big files", "",
        ((1.03, None),), ((1.0, None),), True),
    Row("replace_small_bytes", "replace", "bytes to target / (allocated + written), small files",
        "",
        ((1.03, None),), ((1.0, None),), True),
    Row("load_iops", "load", "foreground IOPS during a replace / before", "",
        ((0.6, None),), ((0.8, None),)),
    Row("load_p99", "load", "p99 of fsync during a replace / before", "",
        ((3.0, None),), ((1.5, None),), True),
    Row("load_seconds", "load", "replace under load", "s",
        ((1 / 1.5, "btrfs"),), ((1.0, "btrfs"),), True),
    Row("load_bytes", "load", "bytes to target / (allocated + written), under load", "",
        ((1.03, None),), ((1.0, None),), True),
    Row("resume_unmount", "resume", "copied again after an unmount at 40 %", "MiB",
        ((64, None),), ((32, None),), True),
    Row("resume_unmount_wrong", "resume", "files wrong on the target then", "",
        ((0, None),), ((0, None),), True),
    Row("resume_kill", "resume", "copied again after kill -9 at 40 %", "MiB",
        ((64, None),), ((32, None),), True),
    Row("resume_kill_wrong", "resume", "files wrong on the target then", "",
        ((0, None),), ((0, None),), True),
    Row("memory", "memory", "memory of the daemon afterwards, cache of 256 MiB", "MiB",
        ((256 + 64, None),), ((256 + 32, None),), True),
]

BY_NAME = {row.name: row for row in ROWS}
GROUPS = ["data", "meta", "replace", "load", "resume", "scale"]
# On disks, the disks limit a replace.
AT_LEAST_ON_DISK = {"replace_big": ((1.0, "btrfs"), (0.9, "raw")),
                    "replace_small": ((1.0, "btrfs"), (0.9, "raw"))}


def ratio(row, ours, theirs):
    """How many times better ours is than theirs."""
    if row.less_is_better:
        return theirs / ours if ours else float("inf")
    return ours / theirs if theirs else float("inf")
