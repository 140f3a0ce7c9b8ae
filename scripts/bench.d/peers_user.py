# SPDX-License-Identifier: MIT
"""Peers outside the kernel: fuse2fs, zfs-fuse, QEMU's storage daemon."""
import os
import pathlib
import signal

from machine import Background, detach, refuse_discards, run, wait_for
from peers import Peer, raise_read_ahead, unmount_patiently


class Fuse2fs(Peer):
    """ext4 through libext2fs. It writes no journal."""
    name = "fuse2fs"
    programs = ("fuse2fs", "mkfs.ext4")

    def format(self):
        run("mkfs.ext4", "-q", "-F", "-E", "nodiscard,lazy_itable_init=0,lazy_journal_init=0",
            self.device.path)

    def mount(self):
        self.server = Background("fuse2fs", "-f", "-o", "rw,fakeroot,allow_other", self.device.path,
                                 self.mountpoint)
        wait_for(lambda: os.path.ismount(self.mountpoint), "fuse2fs")
        raise_read_ahead(self.mountpoint)

    def unmount(self):
        unmount_patiently(self.mountpoint)
        self.server.process.wait(timeout=120)

    def pids(self):
        return [self.server.pid]


class ZfsFuse(Peer):
    """One pool on one device, with the defaults of zfs-fuse."""
    name = "zfs-fuse"
    programs = ("zfs-fuse", "zpool")
    replaces = True
    pool = "moltfsbench"

    def missing(self):
        for entry in pathlib.Path("/proc").iterdir():
            if entry.name.isdigit():
                try:
                    if (entry / "comm").read_text().strip() == "zfs-fuse":
                        return "another zfs-fuse is running"
                except OSError:
                    continue
        return super().missing()

    def serve(self):
        """Starts the daemon. Its socket has a fixed path, so a machine can have only one."""
        socket_path = pathlib.Path("/var/run/zfs/zfs_socket")
        self.server = Background("zfs-fuse", "-n", "-p", f"{self.context.directory}/zfs.pid",
                                 "--no-kstat-mount", "-a", "3600", "-e", "3600")
        wait_for(socket_path.exists, "zfs-fuse")

    def end_server(self, sign=signal.SIGTERM):
        self.server.process.send_signal(sign)
        self.server.process.wait(timeout=120)
        self.server = None

    def make(self, device):
        self.device = device
        device.clear()
        self.serve()
        run("zpool", "create", "-f", "-m", self.mountpoint, self.pool, device.path)
        raise_read_ahead(self.mountpoint)

    def link(self, device):
        return pathlib.Path(self.context.directory) / "zfs-devices" / os.path.basename(device.path)

    def mount(self, *devices):
        """Imports the pool, from a directory with links to our devices only."""
        links = self.link(self.device).parent
        links.mkdir(exist_ok=True)
        for link in links.iterdir():
            link.unlink()
        for device in devices or (self.device,):
            self.link(device).symlink_to(device.path)
        if self.server is None:
            self.serve()
        if self.pool in run("zpool", "list", "-H", "-o", "name").split():
            run("zfs", "mount", "-a")   # after a kill the new daemon has already imported the pool
        else:
            run("zpool", "import", "-f", "-d", links, self.pool)
        wait_for(lambda: os.path.ismount(self.mountpoint), "zpool import")
        raise_read_ahead(self.mountpoint)

    def unmount(self):
        run("zpool", "export", self.pool, timeout=300)
        self.end_server()

    def sync(self):
        fd = os.open(self.root, os.O_RDONLY)
        try:
            os.fsync(fd)
        finally:
            os.close(fd)

    def pids(self):
        return [self.server.pid]

    def allocated(self):
        return int(run("zfs", "get", "-Hp", "-o", "value", "used", self.pool))

    def replace_start(self, target):
        run("zpool", "replace", "-f", self.pool, self.link(self.device), target.path)

    def stop_by_kill(self):
        self.end_server(signal.SIGKILL)
        run("umount", "-l", self.mountpoint)

    def mount_resumed(self, target):
        self.mount(self.device, target)
        self.device = target

    def replace_done(self):
        text = run("zpool", "status", self.pool)
        return "replacing" not in text and "resilver in progress" not in text


class Qemu(Peer):
    """ext4 on a loop device on the FUSE export of QEMU's storage daemon. It cannot replace: a
    writable FUSE export takes the permission to resize its node (QEMU 7.2), and then no mirror can
    start."""
    name = "qemu"
    programs = ("qemu-storage-daemon", "mkfs.ext4")
    loop = None

    def __init__(self, context):
        super().__init__(context)
        self.export = pathlib.Path(context.directory) / "qemu-export"
        self.export.touch()

    def serve(self):
        self.server = Background(
            "qemu-storage-daemon",
            "--blockdev", f"driver=host_device,node-name=source,filename={self.device.path},"
            "cache.direct=on,aio=threads",
            "--export",
            f"type=fuse,id=export,node-name=source,writable=on,mountpoint={self.export}")
        wait_for(lambda: os.path.ismount(self.export), "qemu-storage-daemon")
        # No direct I/O: with it QEMU 7.2 returns data that was written to another place.
        self.loop = run("losetup", "-f", "--show", "--direct-io=off", self.export).strip()
        refuse_discards(self.loop)

    def format(self):
        run("mkfs.ext4", "-q", "-F", "-E", "nodiscard,lazy_itable_init=0,lazy_journal_init=0",
            self.device.path)

    def end_server(self):
        run("blockdev", "--flushbufs", self.loop)
        detach(self.loop)
        self.loop = None
        self.server.stop()
        self.server = None

    def abandon(self):
        run("umount", "-l", self.mountpoint, check=False)
        if self.loop:
            detach(self.loop)
        super().abandon()

    def mount(self):
        self.serve()
        run("mount", "-t", "ext4", "-o", "nodiscard", self.loop, self.mountpoint)

    def unmount(self):
        unmount_patiently(self.mountpoint)
        self.end_server()

    def pids(self):
        return [self.server.pid]
