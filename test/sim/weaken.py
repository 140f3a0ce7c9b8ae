#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Applies mutants: makes copies of product sources in which one rule is weakened.

    weaken.py MUTANT OUTPUT     writes the weakened copy of the source to OUTPUT
    weaken.py --check MUTANT... only checks that each mutant fits the sources

A mutant is a text file: a sentence that says what it breaks, then one or more edits of one source:

    --- in replace/copier.cc replace
    the text as it is in the source
    --- by
    the text to put there (may be empty)

The text must occur exactly once in the source. Line breaks and indentation do not matter, so a
mutant survives moves of lines. If the text is absent or occurs more than once, this script fails,
and the mutant must be adapted to the source.
"""
import pathlib
import re
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
EDIT = re.compile(r"^--- in (\S+) replace\n(.*?)^--- by\n(.*?)(?=^--- in |\Z)", re.M | re.S)


def pattern_of(text):
    """Matches `text` with any white space between its tokens."""
    tokens = re.findall(r"\w+|[^\w\s]", text)
    whole_word = r"\b" if re.match(r"\w", tokens[0]) else ""
    return re.compile(whole_word + r"\s*".join(map(re.escape, tokens)))


def weaken(mutant):
    """The weakened source. Exits with a message if the mutant does not fit."""
    edits = EDIT.findall(mutant.read_text())
    sources = {source for source, _, _ in edits}
    if len(sources) != 1:
        sys.exit(f"{mutant}: must edit exactly one source")
    source = sources.pop()
    original = (ROOT / source).read_text()
    changes = []
    for _, old, new in edits:
        found = list(pattern_of(old).finditer(original))
        if len(found) != 1:
            sys.exit(f"{mutant}: this text occurs {len(found)} times in {source}, not once:\n{old}"
                     "Adapt the mutant to the source (test/sim/README.md).")
        changes.append((found[0].span(), new.rstrip("\n")))
    for (start, end), new in sorted(changes, reverse=True):
        original = original[:start] + new + original[end:]
    return original


def main(arguments):
    if arguments[:1] == ["--check"]:
        for name in arguments[1:]:
            weaken(pathlib.Path(name))
        print(f"{len(arguments) - 1} mutants fit the sources")
    elif len(arguments) == 2:
        mutant, output = map(pathlib.Path, arguments)
        output.write_text(weaken(mutant))
    else:
        sys.exit(__doc__)


if __name__ == "__main__":
    main(sys.argv[1:])
