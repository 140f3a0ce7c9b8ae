# SPDX-License-Identifier: MIT
"""The machine below the benchmark: commands, loop devices, counters of devices and CPUs.

All files and mount points are in one private directory, so that scripts/bench can remove what is
left even if this program was killed."""
import fcntl
import json
import os
import pathlib
import resource
import signal
import subprocess
import sys
import time

SECTOR = 512
MIB = 1 << 20
PF_KTHREAD = 0x00200000
LOOP_CTL_REMOVE = 0x4C81  # linux/loop.h
TICKS = os.sysconf("SC_CLK_TCK")


class Unable(Exception):
    """A peer cannot do this on this machine. The rows are skipped, and the reason is shown."""


def run(*command, timeout=600, check=True):
    """Runs a command and returns its standard output."""
    done = subprocess.run([str(word) for word in command], capture_output=True, text=True,
                          timeout=timeout, stdin=subprocess.DEVNULL)
    if check and done.returncode != 0:
        text = (done.stderr + done.stdout).strip()[-400:]
        raise Unable(f"{' '.join(map(str, command))}: {text or f'exit {done.returncode}'}")
    return done.stdout


def measured(*command, timeout=600):
    """Runs one of our load generators and returns the JSON object that it prints."""
    return json.loads(run(*command, timeout=timeout))


def wait_for(condition, what, seconds=30, pause=0.01):
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            raise Unable(f"{what}: did not happen within {seconds} s")
        time.sleep(pause)


def drop_caches():
    os.sync()
    pathlib.Path("/proc/sys/vm/drop_caches").write_text("3")


def refuse_discards(loop):
    """Discards would free blocks of the file below, and the next peer would have to allocate them
    again. Only detach() allows discards again."""
    queue = pathlib.Path("/sys/block") / os.path.basename(loop) / "queue"
    (queue / "discard_max_bytes").write_text("0")


def detach(loop):
    """Detaches and removes a loop device. Otherwise the next user would get its settings."""
    run("losetup", "-d", loop, check=False)
    backing = pathlib.Path("/sys/block") / os.path.basename(loop) / "loop/backing_file"
    wait_for(lambda: not backing.exists(), f"detaching {loop}")
    number = int(loop.removeprefix("/dev/loop"))
    with open("/dev/loop-control", "rb", buffering=0) as control:
        fcntl.ioctl(control, LOOP_CTL_REMOVE, number)


class Loop:
    """A loop device on a file that is written in full. It offers no discard."""

    def __init__(self, directory, name, size, direct):
        self.file = pathlib.Path(directory) / name
        self.size = size
        with open(self.file, "wb") as out:
            for _ in range(size // MIB):
                out.write(bytes(MIB))
            os.fsync(out.fileno())
        self.path = run("losetup", "-f", "--show", f"--direct-io={'on' if direct else 'off'}",
                        self.file).strip()
        self.system = pathlib.Path("/sys/block") / os.path.basename(self.path)
        refuse_discards(self.path)

    def counters(self):
        """Bytes read, bytes written and flushes since the device was made."""
        words = (self.system / "stat").read_text().split()
        return {"read": int(words[2]) * SECTOR, "written": int(words[6]) * SECTOR,
                "flushes": int(words[15])}

    def clear(self):
        """Removes the signatures of the filesystem that was on it."""
        run("wipefs", "-qaf", self.path)
        with open(self.path, "r+b", buffering=0) as device:
            for at in (0, self.size - 8 * MIB):
                device.seek(at)
                device.write(bytes(8 * MIB))
            os.fsync(device.fileno())

    def close(self):
        detach(self.path)
        self.file.unlink(missing_ok=True)


class Media:
    """Two loop devices of one size, on files in RAM (/dev/shm) or on disk (private directory)."""

    def __init__(self, kind, directories, size):
        self.kind = kind
        direct = kind == "disk"
        self.source = Loop(directories[kind], "source", size, direct)
        self.target = Loop(directories[kind], "target", size, direct)

    def close(self):
        self.source.close()
        self.target.close()


def process_ticks(pid):
    """(CPU ticks used, whether it is a kernel thread), or None if the process has ended."""
    try:
        fields = pathlib.Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    except OSError:
        return None
    return int(fields[11]) + int(fields[12]), bool(int(fields[6]) & PF_KTHREAD)


class Cpu:
    """CPU seconds since it was made: of the given processes, of all kernel threads (those of the
    loop devices included) and of the programs that we started and that have ended."""

    def __init__(self, pids=()):
        self.pids = set(pids)
        self.children = self._children()
        self.before = self._snapshot()

    @staticmethod
    def _children():
        used = resource.getrusage(resource.RUSAGE_CHILDREN)
        return used.ru_utime + used.ru_stime

    def _snapshot(self):
        found = {}
        for entry in os.listdir("/proc"):
            if entry.isdigit():
                ticks = process_ticks(entry)
                if ticks and (ticks[1] or int(entry) in self.pids):
                    found[entry] = ticks[0]
        return found

    def seconds(self):
        now = self._snapshot()
        ticks = sum(max(0, ticks - self.before.get(pid, 0)) for pid, ticks in now.items())
        return ticks / TICKS + self._children() - self.children


def resident_bytes(pid, what="VmRSS"):
    for line in pathlib.Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith(what + ":"):
            return int(line.split()[1]) * 1024
    return 0


class Background:
    """A program that runs until stop(), which returns its standard output."""

    def __init__(self, *command):
        self.process = subprocess.Popen([str(word) for word in command], stdout=subprocess.PIPE,
                                        stderr=subprocess.PIPE, text=True,
                                        stdin=subprocess.DEVNULL)
        self.pid = self.process.pid

    def stop(self, sign=signal.SIGTERM):
        self.process.send_signal(sign)
        return self.process.communicate(timeout=120)[0]


if __name__ == "__main__":
    for device in sys.argv[1:]:
        detach(device)
