# SPDX-License-Identifier: MIT
"""The filesystems that are compared: how each is made on a loop device, mounted and unmounted, and
for some how they replace their device. The peers outside the kernel are in peers_user.py."""
import contextlib
import json
import os
import pathlib
import shutil
import signal
import subprocess
import time

from machine import Background, Unable, drop_caches, process_ticks, run, wait_for


class Peer:
    name = ""
    programs = ()          # programs that must be installed
    kernel = None          # a filesystem that the kernel must have
    replaces = False
    server = None          # the Background program that serves it, if we started one

    def __init__(self, context):
        self.context = context
        self.mountpoint = pathlib.Path(context.directory) / f"mnt-{self.name.replace('/', '_')}"
        self.mountpoint.mkdir(exist_ok=True)
        self.device = None

    def missing(self):
        """The reason why this machine cannot have this peer, or None."""
        for program in self.programs:
            if not shutil.which(program):
                return f"there is no program {program}"
        known = pathlib.Path("/proc/filesystems").read_text()
        if self.kernel and f"\t{self.kernel}\n" not in known:
            return f"this kernel has no {self.kernel}"
        return None

    @property
    def root(self):
        return self.mountpoint

    def make(self, device):
        self.device = device
        device.clear()
        self.format()
        self.mount()

    @contextlib.contextmanager
    def made(self, device):
        """Makes, mounts, and unmounts at the end. If two things fail the first error is raised."""
        try:
            self.make(device)
            yield
        except BaseException:
            with contextlib.suppress(Unable, OSError, subprocess.TimeoutExpired):
                self.unmount()
            self.abandon()
            raise
        self.unmount()

    def mount(self):
        raise NotImplementedError

    def format(self):
        raise NotImplementedError

    def unmount(self):
        unmount_patiently(self.mountpoint)

    def abandon(self):
        """Removes the mount and the server, whatever their state."""
        run("umount", "-l", self.mountpoint, check=False)
        if self.server is not None and self.server.process.poll() is None:
            self.server.process.kill()
            self.server.process.wait()
        self.server = None

    def remount(self):
        """Unmounts, drops all caches, mounts."""
        self.unmount()
        drop_caches()
        self.mount()

    def sync(self):
        run("sync", "-f", self.root)

    def pids(self):
        """The processes that serve it."""
        return []


class Moltfs(Peer):
    name = "moltfs"
    replaces = True
    mount_options = "cache=256M"

    def __init__(self, context, programs=None, name=None):
        self.name = name or self.name
        super().__init__(context)
        self.program = pathlib.Path(programs or context.programs) / "fs/tool/moltfs"

    def missing(self):
        return None if self.program.exists() else f"there is no program {self.program}"

    def format(self):
        run(self.program, "mkfs", "--force", self.device.path)

    def mount(self, *options):
        words = ",".join((self.mount_options,) + options)
        run(self.program, "mount", "-o", words, self.device.path, self.mountpoint)

    def unmount(self):
        run(self.program, "umount", self.mountpoint, timeout=300)

    def sync(self):
        run(self.program, "sync", self.mountpoint)

    def pids(self):
        return [int(os.getxattr(self.mountpoint, "user.moltfs.pid").split()[0])]

    def allocated(self):
        """Bytes that a replace has to copy."""
        usage = self.usage()
        return usage["data_used_bytes"] + 2 * usage["metadata_used_bytes"]

    def usage(self):
        return json.loads(run(self.program, "usage", "--json", self.mountpoint))

    def status(self):
        return json.loads(os.getxattr(self.mountpoint, "user.moltfs.replace"))

    def replace_start(self, target):
        run(self.program, "replace", "start", "1", target.path, self.mountpoint)

    def stop_by_unmount(self):
        self.unmount()

    def stop_by_kill(self):
        pid = self.pids()[0]
        os.kill(pid, signal.SIGKILL)
        run("umount", "-l", self.mountpoint)
        wait_for(lambda: process_ticks(pid) is None, "end of the daemon")

    def mount_resumed(self, target):
        self.mount(f"device={target.path}")

    def replace_done(self):
        state = self.status()["state"]
        if state in ("suspended", "failed", "cancelled"):
            raise Unable(f"the replace is {state}: {self.status()['reason']}")
        return state == "finished"


class MoltfsHalting(Moltfs):
    """Without idlepoll: idle CPUs halt, as they do for the other peers."""
    name = "moltfs-halting"
    mount_options = Moltfs.mount_options + ",idlepoll=off"


class Btrfs(Peer):
    name = "btrfs"
    programs = ("mkfs.btrfs", "btrfs")
    kernel = "btrfs"
    replaces = True

    def format(self):
        run("mkfs.btrfs", "-q", "-f", "-K", self.device.path)
        self.replacing = None

    def mount(self, *options):
        run("mount", "-t", "btrfs", "-o", ",".join(("nodiscard",) + options), self.device.path,
            self.mountpoint)

    def allocated(self):
        """Used bytes on the device; dup metadata counts twice."""
        total = 0
        for line in run("btrfs", "filesystem", "df", "-b", self.mountpoint).splitlines():
            kind, _, values = line.partition(":")
            if kind.startswith("GlobalReserve"):
                continue
            used = int(values.rpartition("used=")[2])
            total += used * (2 if "DUP" in kind else 1)
        return total

    def replace_start(self, target):
        self.target = target
        self.try_replace(1)

    def try_replace(self, tries):
        self.tries = tries
        self.replacing = Background("btrfs", "replace", "start", "-B", "-f", "-K", "1",
                                    self.target.path, self.mountpoint)

    def stop_by_unmount(self):
        """`btrfs replace` keeps the mount busy while it waits; remounting read-only ends it."""
        run("mount", "-o", "remount,ro", self.mountpoint)
        self.replacing.process.wait(timeout=60)
        self.replacing = None
        self.unmount()

    def mount_resumed(self, target):
        run("btrfs", "device", "scan", target.path, check=False)
        self.mount(f"device={target.path}")

    def replace_done(self):
        if self.replacing is None:
            return "finished" in run("btrfs", "replace", "status", "-1", self.mountpoint)
        if self.replacing.process.poll() is None:
            return False
        if self.replacing.process.returncode == 0:
            return True
        text = self.replacing.process.stderr.read().strip()
        if "No space left" not in text or self.tries == 50:
            raise Unable("btrfs replace: " + text)
        time.sleep(0.05)   # ENOSPC also means: a block group cannot be made read-only just now
        self.try_replace(self.tries + 1)
        return False


class Ext4(Peer):
    name = "ext4"
    programs = ("mkfs.ext4",)
    kernel = "ext4"

    def format(self):
        run("mkfs.ext4", "-q", "-F", "-E", "nodiscard,lazy_itable_init=0,lazy_journal_init=0",
            self.device.path)

    def mount(self):
        run("mount", "-t", "ext4", "-o", "nodiscard", self.device.path, self.mountpoint)


class Passthrough(Peer):
    """The most that FUSE can reach: each request is forwarded to ext4 on the same device."""
    name = "passthrough"

    def __init__(self, context):
        super().__init__(context)
        self.below = Ext4(context)
        self.below.mountpoint = pathlib.Path(context.directory) / "below-passthrough"
        self.below.mountpoint.mkdir(exist_ok=True)
        self.program = pathlib.Path(context.programs) / "test/bench/bench_passthrough"

    def missing(self):
        if not self.program.exists():
            return f"there is no program {self.program}"
        return self.below.missing()

    def format(self):
        self.below.device = self.device
        self.below.format()

    def mount(self):
        self.below.mount()
        self.server = Background(self.program, self.below.mountpoint, self.mountpoint)
        wait_for(lambda: os.path.ismount(self.mountpoint), "passthrough")
        raise_read_ahead(self.mountpoint)

    def unmount(self):
        unmount_patiently(self.mountpoint)
        self.server.process.wait(timeout=60)
        self.below.unmount()

    def abandon(self):
        super().abandon()
        self.below.abandon()

    def sync(self):
        self.below.sync()

    def pids(self):
        return [self.server.pid]


class Raw(Peer):
    """No filesystem: the devices themselves, through io_uring."""
    name = "raw"

    def missing(self):
        program = pathlib.Path(self.context.programs) / "test/bench/bench_raw"
        return None if program.exists() else f"there is no program {program} (it needs liburing)"


def raise_read_ahead(mountpoint):
    """FUSE mounts begin with 128 KiB. moltfs sets 1 MiB for itself; the others get the same."""
    number = os.stat(mountpoint).st_dev
    path = pathlib.Path(f"/sys/class/bdi/{os.major(number)}:{os.minor(number)}/read_ahead_kb")
    path.write_text("1024")


def unmount_patiently(mountpoint):
    """Unmounts. A process that has just ended can keep a mount busy for a moment: tries again."""
    for attempt in range(100):
        try:
            run("umount", mountpoint, timeout=120)
            return
        except Unable as why:
            if "busy" not in str(why) or attempt == 99:
                raise
            time.sleep(0.1)
