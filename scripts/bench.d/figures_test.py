# SPDX-License-Identifier: MIT
"""Tests of what turns measurements into words: a wrong judge would be a wrong claim."""
import sys
import unittest
import xml.dom.minidom

sys.dont_write_bytecode = True
import plot
import report
from rows import BY_NAME, ratio
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
        results = {("ram", "seqwrite", "moltfs"): [1, 300, 200],
                   ("ram", "seqwrite", "btrfs"): [100],
                   ("disk", "seqwrite", "moltfs"): [7]}
        line = report.table(results, ["moltfs", "btrfs"], "ram").splitlines()[2]
        self.assertIn("| 200 | 100 | 1.00 x btrfs: yes, 2.00", line)

    def test_disks_ask_for_less(self):
        results = {("disk", "replace_big", peer): [100] for peer in ("moltfs", "btrfs")}
        self.assertIn("1.00 x btrfs: yes", report.table(results, ["moltfs", "btrfs"], "disk"))


class Load(unittest.TestCase):
    def test_what_comes_after_the_swap_is_not_counted(self):
        samples = [(0.0, 100, 50), (0.1, 130, 400), (0.2, 140, 410), (0.3, 140, 480)]
        self.assertEqual(until_swap(samples, 100, 50), (40, 360))

    def test_phases(self):
        syncs = [(t / 10, 100.0) for t in range(-20, 0)] + [(0.5, 900.0), (1.5, 100.0)]
        found = phases(syncs, 0.0, 1.0, 2, 1)
        self.assertEqual(found["before"], (320.0, 100.0, 100.0))
        self.assertEqual(found["during"], (32.0, 900.0, 900.0))
        self.assertEqual(found["after"][1], 100.0)

    def test_no_fsync_at_all_is_the_worst_latency(self):
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
