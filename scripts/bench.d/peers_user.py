# SPDX-License-Identifier: MIT
"""Peers that live outside the kernel: fuse2fs, zfs-fuse, QEMU's storage daemon."""
import json
import os
import pathlib
import signal
import socket

from machine import Background, Unable, run, wait_for
from peers import Peer, raise_read_ahead


class Fuse2fs(Peer):
    """ext4 by libext2fs; no journal is written, and fsync is what it makes of it."""
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
        run("umount", self.mountpoint)
        self.server.process.wait(timeout=120)

    def pids(self):
        return [self.server.pid]


class ZfsFuse(Peer):
    """One pool on one device, as zfs-fuse makes it when told nothing."""
    name = "zfs-fuse"
    programs = ("zfs-fuse", "zpool")
    replaces = True
    pool = "moltfsbench"
    server = None

    def missing(self):
        for entry in pathlib.Path("/proc").iterdir():
            if entry.name.isdigit():
                try:
                    if (entry / "comm").read_text().strip() == "zfs-fuse":
                        return "another zfs-fuse is at work"
                except OSError:
                    continue
        return super().missing()

    def serve(self):
        """Its socket has a fixed place: there is one daemon on a machine."""
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

    def mount(self, *devices):
        """A directory with links to just our devices: the import looks at nobody else's."""
        links = pathlib.Path(self.context.directory) / "zfs-devices"
        links.mkdir(exist_ok=True)
        for link in links.iterdir():
            link.unlink()
        for device in devices or (self.device,):
            (links / os.path.basename(device.path)).symlink_to(device.path)
        if self.server is None:
            self.serve()
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
        return int(run("zpool", "get", "-Hp", "-o", "value", "allocated", self.pool) or 0)

    def replace_start(self, target):
        run("zpool", "replace", "-f", self.pool, os.path.basename(self.device.path), target.path)

    def replace_done(self):
        text = run("zpool", "status", self.pool)
        return "replacing" not in text and "resilver in progress" not in text


class Qemu(Peer):
    """ext4 on a loop over the FUSE export of QEMU's storage daemon, which mirrors for a replace."""
    name = "qemu"
    programs = ("qemu-storage-daemon", "mkfs.ext4")
    replaces = True

    def __init__(self, context):
        super().__init__(context)
        self.export = pathlib.Path(context.directory) / "qemu-export"
        self.socket_path = pathlib.Path(context.directory) / "qemu.sock"
        self.export.touch()

    def serve(self):
        self.server = Background(
            "qemu-storage-daemon",
            "--blockdev", self.node("source", self.device),
            "--export", f"type=fuse,id=export,node-name=source,mountpoint={self.export},writable=on",
            "--chardev", f"socket,id=monitor,path={self.socket_path},server=on,wait=off",
            "--monitor", "chardev=monitor")
        wait_for(lambda: os.path.ismount(self.export), "qemu-storage-daemon")
        wait_for(self.socket_path.exists, "the monitor of qemu-storage-daemon")
        self.monitor = Monitor(self.socket_path)
        self.loop = run("losetup", "-f", "--show", "--direct-io=on", self.export).strip()

    @staticmethod
    def node(name, device):
        return (f"driver=host_device,node-name={name},filename={device.path},"
                "cache.direct=on,aio=io_uring")

    def format(self):
        self.serve()
        run("mkfs.ext4", "-q", "-F", "-E", "nodiscard,lazy_itable_init=0,lazy_journal_init=0",
            self.loop)
        self.end_server()

    def end_server(self):
        run("losetup", "-d", self.loop)
        self.monitor.close()
        self.server.stop()

    def mount(self):
        self.serve()
        run("mount", "-t", "ext4", "-o", "nodiscard", self.loop, self.mountpoint)

    def unmount(self):
        run("umount", self.mountpoint)
        self.end_server()

    def pids(self):
        return [self.server.pid]

    def allocated(self):
        found = os.statvfs(self.mountpoint)
        return (found.f_blocks - found.f_bfree) * found.f_frsize

    def replace_start(self, target):
        self.monitor.ask("blockdev-add", driver="host_device", filename=target.path,
                         aio="io_uring", cache={"direct": True}, **{"node-name": "target"})
        self.monitor.ask("blockdev-mirror", device="source", target="target", sync="full",
                         **{"job-id": "mirror", "copy-mode": "write-blocking"})

    def replace_done(self):
        jobs = self.monitor.ask("query-jobs")
        for job in jobs:
            if job["id"] == "mirror" and job["status"] == "ready":
                self.monitor.ask("job-complete", id="mirror")
            if job.get("error"):
                raise Unable("QEMU's mirror: " + job["error"])
        return not jobs


class Monitor:
    """QEMU's control socket."""

    def __init__(self, path):
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.connect(str(path))
        self.stream = self.socket.makefile("rw")
        self.stream.readline()
        self.ask("qmp_capabilities")

    def ask(self, command, **arguments):
        self.stream.write(json.dumps({"execute": command, "arguments": arguments}) + "\n")
        self.stream.flush()
        while True:
            answer = json.loads(self.stream.readline())
            if "error" in answer:
                raise Unable(f"QEMU: {command}: {answer['error']['desc']}")
            if "return" in answer:
                return answer["return"]

    def close(self):
        self.stream.close()
        self.socket.close()
