#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Checks that texts are true: files, folders and tests that are named in pages and comments exist,
and the commands that pages show are understood by the programs.

    test/prose.py [--moltfs PROGRAM]

Without PROGRAM the commands of moltfs are not checked. Each run first checks that errors planted in a
text are found.
"""
import argparse
import functools
import itertools
import pathlib
import re
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent
TOP_FOLDERS = ("alloc", "replace", "fs", "test", "scripts")
SUFFIXES = "cc|h|py|md|sh|patch|pml|svg|json|txt"

# Names of files that are not in this repository: of systems, of other projects, made by a build.
ELSEWHERE = {"mnt.h", "fuse.h", "fuse_kernel.h", "fuse_lowlevel.h", "mount.h", "stat.h", "Makefile.am",
             "compile_commands.json", "vm.h"}
# Paths that begin like ours, but are files of the kernel or made by users.
PATHS_ELSEWHERE = {"fs/posix_acl.c", "scripts/local.config"}
# In names these stand for any word: X_test.cc, FOLDER/NAME.
PLACEHOLDER = re.compile(r"(^|[/.])(X|[A-Z]{2,}(_[A-Z]+)*)(?=[/._]|$)")

A_PATH = re.compile(r"(?<![\w./$~<{*-])((?:[\w.+-]|\{[\w.,+-]*\}|\*)+(?:/(?:[\w.+-]|\{[\w.,+-]*\}|\*)+)+/?)")
A_FILE = re.compile(rf"(?<![\w./$*<-])([A-Za-z]\w*\.(?:{SUFFIXES}))\b(?![./\w])")
A_TEST = re.compile(r"(?<![\w/.])(\w+_test)\b(?!\.)(?:\s+\"([^\"]+)\")?")
A_CTEST = re.compile(r"(?<![\w./])((?:alloc|replace|fs|test|scripts)(?:\.\w+)+)\b")


@functools.cache
def files():
    """All files of the repository, as paths from its root."""
    listed = subprocess.run(["git", "-C", ROOT, "ls-files", "--cached", "--others", "--exclude-standard"],
                            capture_output=True, text=True, check=False)
    if listed.returncode == 0:
        return {name for name in listed.stdout.splitlines() if (ROOT / name).exists()}
    top = {path.name for path in ROOT.iterdir() if path.is_file()}
    return top | {str(path.relative_to(ROOT)) for folder in TOP_FOLDERS
                  for path in (ROOT / folder).rglob("*") if path.is_file()}


@functools.cache
def file_names():
    return {pathlib.PurePath(name).name for name in files()}


@functools.cache
def script_tests():
    return {name.removeprefix("scripts/tests/").removesuffix(".out")
            for name in files() if re.fullmatch(r"scripts/tests/\w+/\w+\.out", name)}


def expand(path):
    """a/{b,c}.h -> a/b.h, a/c.h"""
    parts = re.split(r"\{([^}]*)\}", path)
    choices = [part.split(",") if i % 2 else [part] for i, part in enumerate(parts)]
    return ["".join(choice) for choice in itertools.product(*choices)]


def exists(path, folder):
    """Whether a path is there: from the root, from the folder of the text, or where tests are."""
    for start in (ROOT, ROOT / folder, ROOT / "scripts/tests", ROOT / "test"):
        if "*" in path:
            if any(start.glob(path)):
                return True
        elif (start / path).exists():
            return True
    return False


def is_ours(path, folder):
    """Whether a text with slashes can only mean a file of this repository."""
    first, rest = path.split("/", 1)
    if path in PATHS_ELSEWHERE or is_placeholder(path):
        return False
    if re.search(rf"\.({SUFFIXES})$", path):
        return first in TOP_FOLDERS or (ROOT / folder / first).is_dir()
    return first in TOP_FOLDERS and rest != ""


def is_placeholder(name):
    name = re.sub(r"\b(README\.md|FORMAT\.md|RESULTS\.md|LICENSE)$", "", name)
    return PLACEHOLDER.search(name) is not None


def wrong_names(text, name):
    """What a text names that is not there."""
    folder = str(pathlib.PurePath(name).parent)
    for found in A_PATH.findall(text):
        path = found.rstrip(".,:;")
        if not is_ours(path, folder):
            continue
        for one in expand(path):
            if not exists(one, folder):
                yield f"there is no {one}"
    for found in A_FILE.findall(text):
        if found not in file_names() and found not in ELSEWHERE and not is_placeholder(found):
            yield f"there is no file {found}"
    for program, case in A_TEST.findall(text):
        sources = [one for one in files() if pathlib.PurePath(one).name == f"{program}.cc"]
        if is_placeholder(program) or f"{program}.py" in file_names():
            continue
        if not sources:
            yield f"there is no test {program}"
        elif case and not any(has_case(ROOT / one, case) for one in sources):
            yield f"{program} has no case \"{case}\""
    for found in A_CTEST.findall(text):
        if re.search(rf"\.({SUFFIXES}|d|local|config|img|out)$", found) or is_placeholder(found):
            continue
        if found.startswith("scripts."):
            if found.removeprefix("scripts.").replace(".", "/") not in script_tests():
                yield f"there is no test {found}"
        elif found.endswith("_test") and f"{found.replace('.', '/')}.cc" not in files():
            yield f"there is no test {found}"


def has_case(path, words):
    """Whether a TEST_CASE, or a string continued over lines in it, has these words."""
    text = re.sub(r'"\s*\n\s*"', "", path.read_text())
    return words.removesuffix("...").strip() in text


# --- Texts.
def comments(path):
    """The comments of a source, one text per block, with its first line."""
    marker = "#" if path.suffix in (".py", ".sh", "") or path.name == "CMakeLists.txt" else "//"
    block, first = [], 0
    for number, line in enumerate(path.read_text().splitlines(), 1):
        stripped = line.strip()
        if stripped.startswith(marker):
            if not block:
                first = number
            block.append(stripped.lstrip("/#!<").strip())
        elif block:
            yield first, "\n".join(block)
            block = []
    if block:
        yield first, "\n".join(block)


def texts():
    """Each text in which names are checked: (file, line, text)."""
    for name in sorted(files()):
        path = ROOT / name
        if name.endswith(".md"):
            for number, line in enumerate(path.read_text().splitlines(), 1):
                yield name, number, line
        elif path.suffix in (".h", ".cc", ".py", ".sh") or path.name == "CMakeLists.txt" or (
                name.startswith("scripts/") and path.suffix == ""):
            for number, block in comments(path):
                yield name, number, block


# --- Commands.
def subcommands(text):
    """The commands that a help text lists."""
    if "Options:" in text and "Subcommands:" not in text:
        return []
    return re.findall(r"^  (\w+) {3,}\S", text.split("Subcommands:")[-1], re.M)


class Commands:
    """Checks command lines against what the programs say by --help."""

    def __init__(self, moltfs):
        self.moltfs = moltfs

    @functools.cache
    def help_of(self, *words):
        done = subprocess.run([*words, "--help"], capture_output=True, text=True, check=False,
                              stdin=subprocess.DEVNULL, timeout=60)
        return done.stdout + done.stderr if done.returncode == 0 else None

    def wrong(self, line):
        """What is wrong with a command line."""
        line = re.sub(r"(^|\s)#.*", "", line).replace("\\|", "|").strip()
        for part in re.split(r"&&|;|\|(?= )", line):
            words = part.split()
            while words and (words[0] in ("sudo", "$") or "=" in words[0]):
                words.pop(0)
            if not words:
                continue
            program = words[0].removeprefix("./")
            if program == "moltfs" and self.moltfs:
                yield from self.wrong_moltfs(words[1:])
            elif program.startswith("scripts/") or program.startswith("test/"):
                yield from self.wrong_script(program, words[1:])

    def wrong_script(self, program, words):
        if not (ROOT / program).is_file():
            yield f"there is no {program}"
            return
        if program.endswith((".sh", ".py")):
            return
        text = self.help_of(str(ROOT / program))
        if text is None:
            yield f"{program} --help fails"
            return
        # Scripts hand options on to the program that they run.
        for folder in ("test", "test/e2e"):
            for path in (ROOT / folder / pathlib.PurePath(program).name).glob("*.cc"):
                text += " ".join(re.findall(r'"(--[\w-]+)', path.read_text()))
        yield from self.wrong_options(program, words, text)
        if program == "scripts/check":
            for word in words:
                if "/" in word and not word.startswith(("-", "build/")) and word.islower():
                    if word not in script_tests():
                        yield f"there is no test {word}"

    def wrong_moltfs(self, words):
        if not words or words[0] == "COMMAND" or words[0].startswith("-"):
            return
        texts, called, rest = [self.help_of(self.moltfs)], [], list(words)
        while subcommands(texts[0]) and rest and not rest[0].startswith(("-", "[")):
            known, texts = subcommands(texts[0]), []
            for name in rest.pop(0).split("|"):
                if name not in known:
                    yield f"moltfs {' '.join(called)}: no command {name}".replace(" :", ":")
                    return
                texts.append(self.help_of(self.moltfs, *called, name))
            called.append(name)
        for text in texts:
            yield from self.wrong_options("moltfs " + " ".join(words[:2]), rest, text)
        if called == ["mount"]:
            yield from self.wrong_mount_options(rest, texts[0])

    @staticmethod
    def wrong_options(program, words, text):
        known = {"--help"} | set(re.findall(r"(?<![\w-])(--?[A-Za-z][\w-]*)", text))
        for word in words:
            for option in re.findall(r"^\[?(--?[A-Za-z][\w-]*)", word):
                if option not in known:
                    yield f"{program} has no option {option}"

    @staticmethod
    def wrong_mount_options(words, text):
        known = set(re.findall(r"[\w-]+", text))
        for option, value in zip(words, words[1:]):
            if option.strip("[") == "-o" and not value.startswith("OPTIONS"):
                for name in value.strip("]").split(","):
                    if name.split("=")[0] not in known:
                        yield f"moltfs mount has no option {name}"


def shown_commands(name):
    """The lines of code blocks, and what is in backquotes: (line, text)."""
    for number, line in enumerate((ROOT / name).read_text().splitlines(), 1):
        if line.startswith("    "):
            yield number, line
        for quoted in re.findall(r"`((?:moltfs|(?:\./)?scripts/\w+) [^`]*)`", line):
            yield number, quoted


# --- The check itself can fail.
PLANTED = """
`alloc/space/spice.h` and `fs/{tree,trees}/tree.h`, spice.cc, spice_test, map_test "no such case",
scripts.replace.under_lode, `replace/under_lode.out`
"""
PLANTED_COMMANDS = ("scripts/chek -l", "scripts/check --bogus", "scripts/check replace/under_lode",
                    "moltfs mkfss a.img", "moltfs replace begin 1 a b", "moltfs mkfs --bogus a.img",
                    "moltfs mount -o commmit=3 a.img mnt")


def check_itself(commands):
    found = list(wrong_names(PLANTED, "README.md"))
    if len(found) != 7:
        sys.exit(f"{len(found)} of 7 planted names are found: {found}")
    for line in PLANTED_COMMANDS:
        if line.startswith("moltfs") and not commands.moltfs:
            continue
        if not list(commands.wrong(line)):
            sys.exit(f"this planted command is not found: {line}")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--moltfs", help="the program whose --help is asked")
    commands = Commands(parser.parse_args().moltfs)
    check_itself(commands)
    problems, names, lines = [], 0, 0
    for name, number, text in texts():
        names += 1
        if name in ("test/prose.py", "scripts/bench.d/RESULTS.md"):
            continue
        problems += [f"{name}:{number}: {what}" for what in wrong_names(text, name)]
    for name in sorted(one for one in files() if one.endswith(".md")):
        for number, line in shown_commands(name):
            lines += 1
            problems += [f"{name}:{number}: {what}" for what in commands.wrong(line)]
    print("\n".join(dict.fromkeys(problems)) or f"{names} texts and {lines} lines of commands are true")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
