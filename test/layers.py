#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Checks the structure of the source: which folder may include which, that no files include each
other in a circle, that a namespace follows its folder, and that no file name has two meanings.

Test files (X_test.cc, X_test_util.h, X_fixture.h) may include anything.
"""
import collections
import pathlib
import re
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent

# What each folder may include besides itself. Only the nearest folders are listed: what those may
# include is allowed, too. "fs:words" are the headers in WORDS, which every folder above fs/tree
# shares.
MAY_INCLUDE = {
    "alloc/base": [],
    "alloc/device": ["alloc/base"],
    "alloc/disk": ["alloc/device"],
    "alloc/space": ["alloc/disk"],
    "alloc/volume": ["alloc/space"],
    "replace": ["alloc/volume"],
    "fs/tree": ["alloc/volume"],
    "fs:words": ["fs/tree"],
    "fs/inode": ["fs:words"],
    "fs/content": ["fs/inode"],
    "fs/names": ["fs/inode"],
    "fs": ["fs/content", "fs/names"],
    "fs/check": ["fs", "replace"],
    "fs/mount": ["fs", "replace"],
    "fs/fuse": ["fs/mount"],
    "fs/daemon": ["fs/fuse"],
    "fs/tool": ["fs/daemon", "fs/check"],
}
WORDS = {"fs/format.h", "fs/policy.h", "fs/types.h"}

# The rule: a namespace belongs to a layer. alloc/base is `moltfs`, the other folders of alloc are
# `moltfs::alloc`, replace is `moltfs::replace`, fs is `moltfs::fs`; of the folders of fs, those that
# are programs or that stand beside the filesystem have a namespace of their own.
NAMESPACE = {
    "alloc/base": "moltfs",
    "replace": "moltfs::replace",
    "fs/fuse": "moltfs::fs::fuse",
    "fs/daemon": "moltfs::fs::daemon",
    "fs/tool": "moltfs::fs::tool",
}
# Inner namespaces that a folder may add.
INNER_NAMESPACES = {
    "alloc/disk": ["format"],
    "fs": ["le"],
    "fs/tree": ["le"],
    "fs/check": ["checking"],
    "fs/tool": ["CLI"],  # forward declarations of CLI11's classes
}

# One of these in each layer, always with the same meaning.
COMMON_NAMES = {"format"}

problems = []


def is_test(path):
    return bool(re.search(r"_test\.cc$|_test_util\.|_fixture\.", path.name))


def sources():
    for layer in ("alloc", "replace", "fs"):
        for path in sorted((ROOT / layer).rglob("*")):
            if path.suffix in (".h", ".cc"):
                yield path


def room_of(name):
    """The folder that counts for an included file."""
    return "fs:words" if name in WORDS else str(pathlib.PurePath(name).parent)


def reachable(room, seen=None):
    seen = set() if seen is None else seen
    if room not in seen:
        seen.add(room)
        for other in MAY_INCLUDE[room]:
            reachable(other, seen)
    return seen


def check_includes(path, name, includes):
    room = room_of(name)
    if room not in MAY_INCLUDE:
        problems.append(f"{name}: the folder {room} is not in MAY_INCLUDE")
        return
    allowed = reachable(room)
    for include in includes:
        if not (ROOT / include).exists():
            problems.append(f"{name} includes {include}, which does not exist")
        elif room_of(include) not in allowed:
            problems.append(f"{name} must not include {include}: {room} stands below or beside it")
    if not name.startswith("fs/fuse/") and re.search(r"^#include <fuse", path.read_text(), re.M):
        problems.append(f"{name} includes libfuse; only fs/fuse may")


def check_namespace(path, name):
    folder = str(pathlib.PurePath(name).parent)
    wanted = NAMESPACE.get(folder, "moltfs::alloc" if folder.startswith("alloc/") else "moltfs::fs")
    allowed = {wanted, "test", wanted + "::test"}
    for inner in INNER_NAMESPACES.get(folder, []):
        allowed |= {inner, f"{wanted}::{inner}"}
    for found in re.findall(r"^namespace ([\w:]+) \{", path.read_text(), re.M):
        if found not in allowed and not is_test(path):
            problems.append(f"{name}: namespace {found}; the rule says {wanted}")


def check_circles(includes_of):
    """A unit is X.h with X.cc; units must not include each other in a circle."""
    edges = collections.defaultdict(set)
    for name, includes in includes_of.items():
        unit = str(pathlib.PurePath(name).with_suffix(""))
        for include in includes:
            other = str(pathlib.PurePath(include).with_suffix(""))
            if other != unit:
                edges[unit].add(other)
    state, stack = {}, []

    def visit(unit):
        state[unit] = "open"
        stack.append(unit)
        for other in sorted(edges[unit]):
            if state.get(other) == "open":
                circle = stack[stack.index(other):] + [other]
                problems.append("a circle of files: " + " -> ".join(circle))
            elif other not in state:
                visit(other)
        stack.pop()
        state[unit] = "done"

    for unit in sorted(edges):
        if unit not in state:
            visit(unit)


def check_names(names):
    folders = collections.defaultdict(set)
    for name in names:
        path = pathlib.PurePath(name)
        folders[path.stem].add(str(path.parent))
    for stem, where in sorted(folders.items()):
        if len(where) > 1 and stem not in COMMON_NAMES:
            problems.append(f"the file name {stem} is in {', '.join(sorted(where))}")


def main():
    includes_of = {}
    for path in sources():
        name = str(path.relative_to(ROOT))
        check_namespace(path, name)
        if is_test(path):
            continue
        includes_of[name] = re.findall(r'^#include "([^"]+)"', path.read_text(), re.M)
        check_includes(path, name, includes_of[name])
    check_circles(includes_of)
    check_names(includes_of)
    for problem in problems:
        print(problem)
    if not problems:
        print(f"{len(includes_of)} files: includes point downward, no circle, names and namespaces fit")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
