# SPDX-License-Identifier: MIT
"""Which call moves which time, and what times can be set."""
import ctypes
import mmap
import os
import struct
import time

from check import (AT_FDCWD, LIBC, directory, expect, libc, main, make, moved, outcome,
                   times_of, wait_for_tick)

NS = 1_000_000_000


def files():
    make("f", content=b"x" * 10000)
    os.symlink("f", "s")
    fd = os.open("f", os.O_RDWR)

    def through_memory():
        with mmap.mmap(fd, 4096) as memory:
            memory[5] = 7
            memory.flush()

    for what, call, want in (
            ("write", lambda: os.pwrite(fd, b"y", 3), "mc"),
            ("write of nothing", lambda: os.pwrite(fd, b"", 3), ""),
            ("truncate down", lambda: os.truncate("f", 5000), "mc"),
            ("truncate up", lambda: os.truncate("f", 9000), "mc"),
            ("truncate to the same", lambda: os.truncate("f", 9000), ""),
            ("ftruncate to the same", lambda: os.ftruncate(fd, 9000), "mc"),
            ("O_TRUNC", lambda: os.close(os.open("f", os.O_WRONLY | os.O_TRUNC)), "mc"),
            ("posix_fallocate", lambda: os.posix_fallocate(fd, 0, 20000), "mc"),
            ("chmod", lambda: os.chmod("f", 0o600), "c"), ("chown", lambda: os.chown("f", 5, 6), "c"),
            ("chown of nothing", lambda: os.chown("f", -1, -1), "c"),
            ("link", lambda: os.link("f", "f2"), "c"), ("unlink", lambda: os.unlink("f2"), "c"),
            ("rename", lambda: os.rename("f", "g"), None),
            ("setxattr", lambda: os.setxattr("g", "user.a", b"1"), "c"),
            ("getxattr", lambda: os.getxattr("g", "user.a"), ""),
            ("removexattr", lambda: os.removexattr("g", "user.a"), "c"),
            ("a failed chmod", lambda: outcome(os.chmod, "g/", 0o777), ""),
            ("open for writing", lambda: os.close(os.open("g", os.O_WRONLY)), ""),
            ("fsync", lambda: os.fsync(fd), "")):
        path = "g" if os.path.exists("g") else "f"
        if want is None:
            call()
            continue
        expect(what, moved(call, path), [want])
    expect("a mapped write", moved(through_memory, "g")[0][-2:], "mc")  # it may be a read, too
    expect("rename, the directory", moved(lambda: os.rename("g", "h"), "."), ["mc"])
    before = times_of("h")
    wait_for_tick()
    os.rename("h", "i")
    expect("ctime of what is renamed", times_of("i")[2] > before[2], True)
    os.close(fd)


def parents():
    for what, call, want in (
            ("open O_CREAT", lambda: os.close(os.open("d/f", os.O_CREAT)), "mc"),
            ("open of an old one", lambda: os.close(os.open("d/f", os.O_CREAT)), ""),
            ("mkdir", lambda: os.mkdir("d/d"), "mc"), ("rmdir", lambda: os.rmdir("d/d"), "mc"),
            ("mkfifo", lambda: os.mkfifo("d/p"), "mc"), ("symlink", lambda: os.symlink("x", "d/s"), "mc"),
            ("link", lambda: os.link("d/f", "d/l"), "mc"), ("unlink", lambda: os.unlink("d/l"), "mc"),
            ("rename", lambda: os.rename("d/f", "d/g"), "mc"),
            ("a rename to itself", lambda: os.rename("d/g", "d/g"), ""),
            ("a failed mkdir", lambda: outcome(os.mkdir, "d/g"), ""),
            ("a failed unlink", lambda: outcome(os.unlink, "d/none"), ""),
            ("O_TMPFILE", lambda: os.close(os.open("d", os.O_TMPFILE | os.O_RDWR)), ""),
            ("chmod of a file", lambda: os.chmod("d/g", 0o600), "")):
        if not os.path.exists("d"):
            directory("d")
        expect(f"{what}, the directory", moved(call, "d"), [want])
    directory("e")
    expect("rename to another directory", moved(lambda: os.rename("d/g", "e/g"), "d", "e"),
           ["mc", "mc"])
    make("d/one")
    make("e/two")
    wait_for_tick()
    before = times_of("d/one")[2], times_of("e/two")[2]
    expect("exchange", moved(lambda: libc("renameat2", AT_FDCWD, "d/one", AT_FDCWD, "e/two", 2),
                             "d", "e"), ["mc", "mc"])
    expect("ctimes of the exchanged",
           (times_of("e/two")[2] > before[0], times_of("d/one")[2] > before[1]), (True, True))


def fresh():
    for what, call in (("creat", lambda: make("n")), ("mkdir", lambda: os.mkdir("n")),
                       ("mkfifo", lambda: os.mkfifo("n")), ("symlink", lambda: os.symlink("x", "n"))):
        time.sleep(0.1)
        started = time.time_ns() - 50_000_000  # the clock that times are taken from lags behind
        call()
        a, m, c = times_of("n")
        expect(f"{what}: all times are now", all(
            started <= t <= time.time_ns() for t in (a, m, c)), True)
        os.rmdir("n") if os.path.isdir("n") else os.unlink("n")


def birth_of(path):
    """By statx(2), in ns."""
    buffer = ctypes.create_string_buffer(256)
    btime = 0x800
    LIBC.statx(AT_FDCWD, path.encode(), 0x100, btime, buffer)
    if struct.unpack_from("I", buffer, 0)[0] & btime == 0:
        return None
    seconds, nanoseconds = struct.unpack_from("qI", buffer, 80)
    return seconds * NS + nanoseconds


def births():
    directory("d")
    for what, call in (("creat", lambda: make("n", content=b"x")), ("mkdir", lambda: os.mkdir("n")),
                       ("mkfifo", lambda: os.mkfifo("n")), ("symlink", lambda: os.symlink("x", "n"))):
        wait_for_tick()
        call()
        born = birth_of("n")
        expect(f"{what}: born now", born <= os.lstat("n").st_mtime_ns <= born + NS, True)
        wait_for_tick()
        os.utime("n", ns=(1, 2), follow_symlinks=False)
        os.chown("n", 1, 1, follow_symlinks=False)
        if what == "creat":
            os.link("n", "d/link")
            with open("n", "ab") as file:
                file.write(b"more")
                os.fsync(file.fileno())
            os.truncate("n", 1)
        os.rename("n", "d/n")
        expect(f"{what}: born only once", birth_of("d/n"), born)
        if what == "mkdir":
            os.rmdir("d/n")
        else:
            make("over")
            os.rename("over", "d/n")
            expect(f"{what}: what is renamed over it is another", birth_of("d/n") > born, True)
            os.unlink("d/n")


def settable():
    make("f")
    directory("d")
    for path in ("f", "d"):
        for seconds in (0, 1, -1, -2147483648, 2147483647, 2147483648, 4294967295, 4294967296,
                        8589934592, 15032385535, 32503680000, -5000000000):
            for nanoseconds in (0, 1, 999_999_999):
                ns = seconds * NS + nanoseconds
                os.utime(path, ns=(ns, ns + NS))
                expect(f"{path} {seconds}.{nanoseconds}", times_of(path)[:2], (ns, ns + NS))
    os.utime("f", ns=(5 * NS, 6 * NS))
    os.symlink("f", "s")
    os.utime("s", ns=(1, 2), follow_symlinks=False)
    expect("a symlink's own", os.lstat("s").st_mtime_ns, 2)
    expect("not its target's", times_of("f")[:2], (5 * NS, 6 * NS))
    os.utime("s", ns=(7, 8))
    expect("its target's", times_of("f")[:2], (7, 8))
    for path in ("f", "d"):
        moments = 0
        for _ in range(500):  # a tick of the clock in the middle of one shows
            os.utime(path)
            moments = max(moments, len(set(times_of(path))))
        expect(f"now is one moment for {path}", moments, 1)
    expect("utimensat moves", moved(lambda: os.utime("f", ns=(9, 9)), "f"), ["amc"])
    with open("f", "r+b") as file:
        file.write(b"cached")
        file.flush()
        os.utime("f", ns=(11, 12))
    expect("writes from the cache come later", times_of("f")[:2], (11, 12))


def in_order():
    """Of names and of content: what came later is not the older."""
    wrong = 0
    for i in range(300):
        os.mkdir(f"made{i}")
        open(f"empty{i}", "w").close()
        with open(f"written{i}", "w") as file:
            file.write("text")
        made, empty, written = (os.stat(f"{name}{i}").st_mtime_ns for name in ("made", "empty", "written"))
        wrong += not made <= empty <= written
    expect("times out of order", wrong, 0)


def reads():
    make("f", content=b"text")
    os.utime("f", ns=(5 * NS, 6 * NS))
    expect("relatime: the first read", moved(lambda: open("f", "rb").read(), "f"), ["a"])
    expect("relatime: the next", moved(lambda: open("f", "rb").read(), "f"), [""])
    os.chmod("f", 0o600)
    expect("relatime: after a change", moved(lambda: open("f", "rb").read(), "f"), ["a"])

    def quietly():
        fd = os.open("f", os.O_RDONLY | os.O_NOATIME)
        os.read(fd, 10)
        os.close(fd)

    os.chmod("f", 0o644)
    expect("O_NOATIME", moved(quietly, "f"), [""])
    os.chmod("f", 0o600)
    expect("opened for ioctl alone", moved(lambda: os.close(os.open("f", 3)), "f"), [""])
    make("g")
    expect("written, read from the cache", moved(lambda: open("g", "rb").read(), "g"), ["a"])
    directory("d")
    make("d/x")
    expect("a listing", moved(lambda: os.listdir("d"), "d"), ["a"])
    expect("another", moved(lambda: os.listdir("d"), "d"), [""])


main(files, parents, fresh, births, settable, in_order, reads)
