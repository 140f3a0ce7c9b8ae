#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Runs clang-tidy-14 with the checks of .clang-tidy over the sources of the program, as a build
directory compiles them (in groups, if it does).

    test/tidy.py BUILD_DIRECTORY --all        every group
    test/tidy.py BUILD_DIRECTORY --sample N   N of them, others at each run

Exit status 77 (skipped) where clang-tidy-14 is not installed."""
import argparse
import json
import os
import pathlib
import random
import shlex
import shutil
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parent.parent
PROGRAM = "clang-tidy-14"
LIBRARIES = ("alloc", "replace", "fs")


def translation_units(build):
    """Those of the program: the libraries' sources and groups, without tests."""
    units = {}
    for entry in json.loads((build / "compile_commands.json").read_text()):
        path = pathlib.Path(entry["file"])
        within = path.relative_to(build) if path.is_relative_to(build) else path.relative_to(ROOT)
        if (within.parts[0] in LIBRARIES and not path.name.endswith("_test.cc")
                and "_test.dir" not in entry["command"] and ".tests.dir" not in entry["command"]):
            units[path] = entry
    return units


def without_gcc(entry):
    """The command without what clang does not know: precompiled headers and warnings of gcc."""
    words = [word for word in shlex.split(entry["command"])
             if not word.startswith(("-fpch", "-W")) and os.path.basename(word) != "ccache"]
    while "-include" in words:
        at = words.index("-include")
        del words[at:at + 2]
    return {**entry, "command": shlex.join(words)}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("build", type=lambda text: pathlib.Path(text).resolve())
    choice = parser.add_mutually_exclusive_group(required=True)
    choice.add_argument("--all", action="store_true")
    choice.add_argument("--sample", type=int)
    arguments = parser.parse_args()
    if shutil.which(PROGRAM) is None:
        print(f"needs {PROGRAM}")
        return 77
    units = translation_units(arguments.build)
    chosen = sorted(units)
    if not chosen:
        sys.exit(f"{arguments.build} compiles nothing of the program")
    if arguments.sample is not None:
        chosen = random.sample(chosen, min(arguments.sample, len(chosen)))
    with tempfile.TemporaryDirectory() as database:
        (pathlib.Path(database) / "compile_commands.json").write_text(
            json.dumps([without_gcc(units[path]) for path in chosen]))
        failed = False
        for path in chosen:
            done = subprocess.run([PROGRAM, "-p", database, "--quiet", str(path)],
                                  capture_output=True, text=True, check=False, cwd=ROOT)
            if done.returncode != 0:
                failed = True
                print(done.stdout or done.stderr)
    print(f"{len(chosen)} of {len(units)} translation units:", "see above" if failed else "clean")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
