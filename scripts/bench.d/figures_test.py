# SPDX-License-Identifier: MIT
"""Tests of the code that turns measurements into tables and plots. An error here would be a wrong
claim about moltfs."""
import pathlib
import sys
import tempfile
import unittest
import xml.dom.minidom

sys.dont_write_bytecode = True
import main
import plot
import report
import results
from rows import BY_NAME, GROUPS, ROWS, ratio
from work_load import phases, until_swap


def judged(row, of_row, ours):
    return report.judge(row, row.at_least, of_row, ours)


class Judging(unittest.TestCase):
    def test_more_is_better(self):
        row = BY_NAME["fsync4k"]   # at least 2 x btrfs
        self.assertEqual(judged(row, {"btrfs": 100}, 199), "2.00 x btrfs: **no**, 1.99")
        self.assertEqual(judged(row, {"btrfs": 100}, 200), "2.00 x btrfs: yes, 2.00")

    def test_less_is_better(self):
        row = BY_NAME["untar"]   # at least 2 x passthrough
        self.assertEqual(ratio(row, 3.0, 6.0), 2.0)
        self.assertIn("2.00 x passthrough: yes", judged(row, {"passthrough": 6}, 3))
        self.assertIn("2.00 x passthrough: **no**", judged(row, {"passthrough": 6}, 3.1))

    def test_a_bound_needs_no_peer(self):
        row = BY_NAME["load_bytes"]   # at most 1.03
        self.assertEqual(judged(row, {}, 1.0), "<= 1.03: yes")
        self.assertEqual(judged(row, {}, 1.1), "<= 1.03: **no**")
        row = BY_NAME["load_iops"]    # at least 0.6
        self.assertEqual(judged(row, {}, 0.5), ">= 0.60: **no**")

    def test_a_peer_that_was_not_measured_is_not_judged(self):
        row = BY_NAME["seqwrite"]
        self.assertEqual(judged(row, {"btrfs": 100}, 100), "1.00 x btrfs: yes, 1.00")

    def test_the_table_has_medians_of_this_kind_of_media(self):
        measured = {("ram", "seqwrite", "moltfs"): [1, 300, 200],
                    ("ram", "seqwrite", "btrfs"): [100],
                    ("disk", "seqwrite", "moltfs"): [7]}
        line = report.table(measured, ["moltfs", "btrfs"], "ram").splitlines()[2]
        self.assertIn("| 200 | 100 | 1.00 x btrfs: yes, 2.00", line)

    def test_disks_have_lower_targets(self):
        measured = {("disk", "replace_big", peer): [100] for peer in ("moltfs", "btrfs")}
        self.assertIn("1.00 x btrfs: yes", report.table(measured, ["moltfs", "btrfs"], "disk"))

    def test_a_table_has_the_rows_of_its_groups(self):
        measured = {("ram", row, "moltfs"): [1] for row in ("seqwrite", "load_iops", "memory")}
        self.assertEqual(len(report.table(measured, ["moltfs"], "ram", ("load",)).splitlines()), 3)
        self.assertEqual(len(report.table(measured, ["moltfs"], "ram").splitlines()), 5)


class Comparing(unittest.TestCase):
    """Two builds of moltfs, measured in turns."""

    MEASURED = {("ram", "seqwrite", "moltfs"): [100, 90, 110],
                ("ram", "seqwrite", "moltfs-before"): [100, 100, 100],
                ("ram", "untar", "moltfs"): [2.0],
                ("ram", "untar", "moltfs-before"): [1.0],
                ("ram", "fsync4k", "moltfs"): [1.0]}

    def test_the_ratio_is_of_medians_beside_the_worst_and_the_best_round(self):
        text = report.table(self.MEASURED, ["moltfs", "moltfs-before"], "ram")
        self.assertIn("| now / before |", text)
        self.assertIn("| 1.00 (0.90 to 1.10) |", text)
        self.assertIn("| 0.50 (0.50 to 0.50) |", text)   # seconds: less is better
        self.assertIn("| 1.00 | - | - |", text)          # not measured with the build before

    def test_a_slower_row_may_have_a_percent_sign(self):
        row = next(row for row in ROWS if "%" in row.title and row.less_is_better)
        measured = {("ram", row.name, "moltfs"): [2.0], ("ram", row.name, "moltfs-before"): [1.0]}
        self.assertEqual(report.slower_rows(measured, "ram"), [f"{row.title} (0.50, 0.50 to 0.50)"])

    def test_slower_rows_are_named(self):
        self.assertEqual(report.slower_rows(self.MEASURED, "ram"),
                         ["untar a tree of headers (0.50, 0.50 to 0.50)"])

    def test_scale_ratios(self):
        now = {"volume": {"1 GiB": {"mount, ms": 10, "swap, ms": 0.0}, "1 TiB": {"mount, ms": 1}}}
        before = {"volume": {"1 GiB": {"mount, ms": 20, "swap, ms": 1.0}}}
        self.assertEqual(main.scale_ratios(now, before),
                         {"volume": {"1 GiB": {"mount, ms": 0.5}, "1 TiB": {}}})


class Results(unittest.TestCase):
    """The tables in RESULTS.md."""

    def put(self, text, blocks):
        with tempfile.TemporaryDirectory() as directory:
            path = pathlib.Path(directory) / "RESULTS.md"
            path.write_text(text)
            results.put_into(path, blocks)
            return path.read_text()

    def test_only_measured_tables_are_replaced(self):
        def block(name, inside):
            return inside.join(results.marks(name))
        before = f"a\n{block('ram-files', 'old')}\nb\n{block('ram-replace', 'kept')}\nc\n"
        after = f"a\n{block('ram-files', 'new')}\nb\n{block('ram-replace', 'kept')}\nc\n"
        self.assertEqual(self.put(before, {"ram-files": "new"}), after)

    def test_a_file_without_marks_is_refused(self):
        begin, end = results.marks("scale")
        for text in ("", begin, end, end + "\n" + begin, 2 * (begin + end + "\n")):
            with self.assertRaises(SystemExit):
                self.put(text, {"scale": "new"})

    def test_the_committed_file_has_marks_for_every_table(self):
        names = [results.table_name(media, table) for media in main.MEDIA_NAMES
                 for table in results.TABLES] + [results.SCALE]
        whole = results.RESULTS.read_text()
        for name in names:
            for mark in results.marks(name):
                self.assertEqual(whole.count(mark), 1, mark)

    def test_every_row_is_in_one_table(self):
        found = [group for groups in results.measured_tables(GROUPS).values() for group in groups]
        self.assertEqual(sorted(found), sorted({row.group for row in ROWS}))

    def test_the_command_has_the_options_that_were_given(self):
        given = ["--programs", "p", "--directory", "d", "--ram-directory", "r", "--results"]
        self.assertEqual(main.parse(given).command, "scripts/bench")
        given += ["--quick", "--only", "seqwrite,fsync4k", "--rounds", "5"]
        self.assertEqual(main.parse(given).command,
                         "scripts/bench --quick --only seqwrite,fsync4k --rounds 5")


class Load(unittest.TestCase):
    def test_writes_after_the_swap_are_not_counted(self):
        samples = [(0.0, 100, 50), (0.1, 130, 400), (0.2, 140, 410), (0.3, 140, 480)]
        self.assertEqual(until_swap(samples, 100, 50), (40, 360))

    def test_phases(self):
        syncs = [(t / 10, 100.0) for t in range(-20, 0)] + [(0.5, 900.0), (1.5, 100.0)]
        found = phases(syncs, 0.0, 1.0, 2, 1)
        self.assertEqual(found["before"], (320.0, 100.0, 100.0))
        self.assertEqual(found["during"], (32.0, 900.0, 900.0))
        self.assertEqual(found["after"][1], 100.0)

    def test_a_phase_without_any_fsync_counts_as_one_fsync_of_its_whole_length(self):
        self.assertEqual(phases([], 0.0, 2.0, 1, 1)["during"][2], 2e6)


class Plot(unittest.TestCase):
    def test_it_is_xml_with_a_column_for_each_peer(self):
        one = {"start": 0.0, "end": 1.0, "syncs": [(-0.5, 100.0), (0.5, 5000.0)],
               "target_bytes": [(-1.0, 0), (0.0, 0), (0.5, 10 ** 9), (1.5, 10 ** 9)]}
        text = plot.draw({"moltfs": one, "btrfs": one}, "Replace")
        self.assertEqual(len(xml.dom.minidom.parseString(text).getElementsByTagName("polyline")), 2)

    def test_dots_that_touch_are_one_stroke(self):
        text = plot.dots([(1.2, 5.0), (0.9, 5.1), (1.0, 6.0), (1.0, 8.0), (2.0, 5.0)], "red")
        self.assertIn('d="M1,5v1 M1,8v0 M2,5v0"', text)

    def test_a_line_has_no_points_inside_a_horizontal_stretch(self):
        text = plot.line([(0, 1), (1, 1), (2, 1), (3, 2), (4, 2), (5, 2)], "red")
        self.assertIn('points="0.0,1.0 2.0,1.0 3.0,2.0 5.0,2.0"', text)

    def test_the_file_stays_small_with_many_fsyncs(self):
        syncs = [(i / 10000 - 5, 300.0 + i * 7919 % 2000) for i in range(100000)]
        one = {"start": 0.0, "end": 1.0, "syncs": syncs, "target_bytes": [(-5.0, 0), (5.0, 1)]}
        text = plot.draw({"moltfs": one, "btrfs": one, "zfs-fuse": one}, "Replace")
        self.assertLess(len(text), 40000)
        self.assertLess(text.count("\n"), 300)


if __name__ == "__main__":
    unittest.main()
