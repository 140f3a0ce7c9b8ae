#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Checks that every C++ source is formatted as .clang-format says, with clang-format-14: other
versions format differently. Exit status 77 (skipped) where it is not installed."""
import pathlib
import shutil
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent
PROGRAM = "clang-format-14"


def main():
    if shutil.which(PROGRAM) is None:
        print(f"needs {PROGRAM}")
        return 77
    sources = sorted(path for folder in ("alloc", "replace", "fs", "test")
                     for path in (ROOT / folder).rglob("*") if path.suffix in (".h", ".cc"))
    done = subprocess.run([PROGRAM, "--dry-run", "-Werror", *sources], capture_output=True, text=True,
                          check=False)
    wrong = sorted({line.split(":")[0] for line in done.stderr.splitlines() if ": error:" in line})
    for path in wrong:
        print(f"{PROGRAM} -i {pathlib.Path(path).relative_to(ROOT)}")
    if done.returncode == 0:
        print(f"{len(sources)} sources are formatted")
    elif not wrong:
        print(done.stderr)
    return done.returncode


if __name__ == "__main__":
    sys.exit(main())
