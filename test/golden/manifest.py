#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Describes every file under a directory, or compares a directory with such a description.

    manifest.py write DIRECTORY            prints the description as JSON
    manifest.py check DIRECTORY MANIFEST   prints each difference; exit 1 if there is one

Of files of 1 GiB and more the checksum covers only the data, not the holes.
Not described: access times, and what the control interface of a mounted volume adds to its root.
"""
import base64
import errno
import hashlib
import json
import os
import stat
import sys

TYPES = {stat.S_IFREG: "file", stat.S_IFDIR: "directory", stat.S_IFLNK: "symlink",
         stat.S_IFIFO: "fifo", stat.S_IFSOCK: "socket", stat.S_IFCHR: "character device",
         stat.S_IFBLK: "block device"}
MAX_READ_WHOLE_BYTES = 1 << 30


def data_ranges(fd, size):
    """The ranges [begin, end) in which a file has data."""
    ranges, end = [], 0
    while end < size:
        try:
            begin = os.lseek(fd, end, os.SEEK_DATA)
        except OSError as error:
            if error.errno != errno.ENXIO:
                raise
            break
        end = os.lseek(fd, begin, os.SEEK_HOLE)
        ranges.append([begin, end])
    return ranges


def checksum(fd, ranges):
    digest = hashlib.sha256()
    for begin, end in ranges:
        while begin < end:
            piece = os.pread(fd, min(end - begin, 1 << 20), begin)
            if not piece:
                break
            digest.update(piece)
            begin += len(piece)
    return digest.hexdigest()


def describe(path):
    found = os.lstat(path)
    entry = {"type": TYPES[stat.S_IFMT(found.st_mode)], "mode": oct(stat.S_IMODE(found.st_mode)),
             "inode": found.st_ino, "links": found.st_nlink, "uid": found.st_uid,
             "gid": found.st_gid, "mtime_ns": found.st_mtime_ns, "ctime_ns": found.st_ctime_ns}
    entry["xattrs"] = {name: base64.b64encode(os.getxattr(path, name, follow_symlinks=False)).decode()
                       for name in sorted(os.listxattr(path, follow_symlinks=False))}
    if stat.S_ISREG(found.st_mode):
        entry["size"] = found.st_size
        entry["allocated_bytes"] = found.st_blocks * 512
        fd = os.open(path, os.O_RDONLY)
        entry["data"] = data_ranges(fd, found.st_size)
        # Holes are read, too, where that ends in a reasonable time.
        small = found.st_size < MAX_READ_WHOLE_BYTES
        entry["sha256"] = checksum(fd, [[0, found.st_size]] if small else entry["data"])
        os.close(fd)
    elif stat.S_ISLNK(found.st_mode):
        entry["target"] = os.readlink(path)
    elif stat.S_ISCHR(found.st_mode) or stat.S_ISBLK(found.st_mode):
        entry["device"] = [os.major(found.st_rdev), os.minor(found.st_rdev)]
    return entry


def describe_all(top):
    entries = {".": describe(top)}
    for folder, folders, files in os.walk(top):
        for name in sorted(folders + files):
            path = os.path.join(folder, name)
            entries[os.path.relpath(path, top)] = describe(path)
    return dict(sorted(entries.items()))


def differences(want, have):
    for path in sorted(want.keys() | have.keys()):
        if path not in have:
            yield f"{path}: missing"
        elif path not in want:
            yield f"{path}: should not exist"
        else:
            for field in sorted(want[path].keys() | have[path].keys()):
                before, now = want[path].get(field), have[path].get(field)
                if before != now:
                    yield f"{path}: {field} was {before}, is {now}"


def main():
    if len(sys.argv) == 3 and sys.argv[1] == "write":
        lines = [f"{json.dumps(path)}: {json.dumps(entry)}"
                 for path, entry in describe_all(sys.argv[2]).items()]
        print("{\n" + ",\n".join(lines) + "\n}")
        return 0
    if len(sys.argv) == 4 and sys.argv[1] == "check":
        with open(sys.argv[3], encoding="ascii") as file:
            want = json.load(file)
        found = list(differences(want, describe_all(sys.argv[2])))
        print("\n".join(found) if found else f"{len(want)} files as in the manifest")
        return 1 if found else 0
    print(__doc__, file=sys.stderr)
    return 2


if __name__ == "__main__":
    sys.exit(main())
