# SPDX-License-Identifier: MIT
"""What the conformance programs of this folder share. Each takes a directory on the filesystem under
test, as root, and says what is not as POSIX and Linux have it. They hold on the kernel's btrfs, too.
"""
import ctypes
import errno
import os
import pickle
import shutil
import sys
import tempfile
import time

CLOCK_REALTIME_COARSE = 5  # the clock that times of files are taken from
LIBC = ctypes.CDLL(None, use_errno=True)
AT_FDCWD = -100

_checks = 0
_wrong = []


def expect(what, got, want):
    global _checks
    _checks += 1
    if got != want:
        _wrong.append(f"{what}: {got}, should be {want}")


def outcome(call, *args, **kwargs):
    """'ok', or the name of the errno."""
    try:
        result = call(*args, **kwargs)
    except OSError as error:
        return errno.errorcode[error.errno]
    if call is os.open:
        os.close(result)
    return "ok"


def libc(name, *args):
    """A call that os lacks: 'ok' or the name of the errno."""
    args = [a.encode() if isinstance(a, str) else a for a in args]
    result = getattr(LIBC, name)(*args)
    return "ok" if result >= 0 else errno.errorcode[ctypes.get_errno()]


class User:
    """Somebody else; `groups` are supplementary."""

    def __init__(self, uid, gid, groups=()):
        self.uid, self.gid, self.groups = uid, gid, list(groups)

    def do(self, call, *args, **kwargs):
        """What outcome() gives when this user makes the call."""
        return self.run(lambda: outcome(call, *args, **kwargs))

    def run(self, function):
        """What the function returns, in a process of this user."""
        reader, writer = os.pipe()
        child = os.fork()
        if child == 0:
            try:
                os.setgroups(self.groups)
                os.setresgid(self.gid, self.gid, self.gid)
                os.setresuid(self.uid, self.uid, self.uid)
                result = function()
            except BaseException as error:  # told to the parent
                result = f"failed: {error!r}"
            os.write(writer, pickle.dumps(result))
            os._exit(0)
        os.close(writer)
        with os.fdopen(reader, "rb") as pipe:
            result = pickle.loads(pipe.read())
        os.waitpid(child, 0)
        return result


ANN = User(61001, 61001, [61001, 62001])
BEN = User(61002, 61002, [62001])
CID = User(61003, 61003)
TEAM = 62001  # ann's and ben's


def make(path, mode=0o644, content=b"", owner=None):
    with open(path, "wb") as file:
        file.write(content)
    if owner is not None:
        os.chown(path, *owner)
    os.chmod(path, mode)
    return path


def directory(path, mode=0o755, owner=None):
    os.mkdir(path)
    if owner is not None:
        os.chown(path, *owner)
    os.chmod(path, mode)
    return path


def mode_of(path):
    return oct(os.lstat(path).st_mode & 0o7777)


def times_of(path):
    s = os.lstat(path)
    return s.st_atime_ns, s.st_mtime_ns, s.st_ctime_ns


def wait_for_tick():
    """Afterwards the time of a file that is set to now differs from all times set before. To sleep
    for the length of a tick is not enough: on a busy virtual machine the clock misses ticks."""
    now = time.time_ns()
    while time.clock_gettime_ns(CLOCK_REALTIME_COARSE) <= now:
        time.sleep(0.001)


def moved(call, *paths):
    """Which times of the paths the call moves, as strings of a, m, c."""
    wait_for_tick()
    before = [times_of(path) for path in paths]
    call()
    after = [times_of(path) for path in paths]
    return ["".join(letter for letter, old, new in zip("amc", b, a) if old != new)
            for b, a in zip(before, after)]


def main(*groups):
    if len(sys.argv) != 2:
        sys.exit(f"usage: {sys.argv[0]} DIRECTORY")
    os.umask(0o022)
    for group in groups:
        work = tempfile.mkdtemp(dir=sys.argv[1])
        os.chmod(work, 0o777)
        os.chdir(work)
        try:
            group()
        except Exception as error:  # a finding like any other
            _wrong.append(f"{group.__name__}: {error!r}, line {error.__traceback__.tb_next.tb_lineno}")
        os.chdir("/")
        shutil.rmtree(work, ignore_errors=True)
    finish()


def finish():
    for line in _wrong:
        print("WRONG:", line)
    print(f"{_checks} checks", file=sys.stderr)
    print("all right" if not _wrong else f"{len(_wrong)} wrong")
    sys.exit(1 if _wrong else 0)
