# SPDX-License-Identifier: MIT
"""Writes tables into a results file. The file keeps its own text; each block between two marks

    <!-- scripts/bench: NAME begins -->
    <!-- scripts/bench: NAME ends -->

is replaced by the table of that name, if this run has measured it."""
import os
import pathlib

RESULTS = pathlib.Path(__file__).parent / "RESULTS.md"

# Tables by name: the groups of rows in each. There is one of each for each kind of media.
TABLES = {"files": ("data", "meta"), "replace": ("replace", "load", "resume")}
SCALE = "scale"


def table_name(media, table):
    return f"{media}-{table}"


def measured_tables(groups):
    """{table: its groups} of what is measured when these groups are. The memory of the daemons is
    in the first table."""
    found = {name: of_table for name, of_table in TABLES.items() if set(of_table) & set(groups)}
    for name in list(found)[:1]:
        found[name] += ("memory",)
    return found


def marks(name):
    return (f"<!-- scripts/bench: {name} begins -->\n", f"<!-- scripts/bench: {name} ends -->")


def put_into(path, blocks):
    """blocks: {name: text}. Every block must have its marks in the file."""
    whole = path.read_text()
    for name, text in blocks.items():
        begin, end = marks(name)
        once = whole.count(begin) == whole.count(end) == 1
        if not once or whole.index(begin) > whole.index(end):
            raise SystemExit(f"bench: {path} has no marks for the table '{name}'")
        before, _, rest = whole.partition(begin)
        whole = before + begin + text + end + rest.partition(end)[2]
    path.write_text(whole)


def link(plot, path):
    """A link to a plot, as seen from the results file."""
    here = os.path.dirname(os.path.abspath(path))
    return f"\n![{plot.stem}]({os.path.relpath(plot, here)})\n"
