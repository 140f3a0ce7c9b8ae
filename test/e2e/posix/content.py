# SPDX-License-Identifier: MIT
"""Content: what writing, cutting, allocating, copying, seeking and mapping do at their edges."""
import ctypes
import errno
import fcntl
import mmap
import os
import resource
import signal
import stat
import struct

from check import LIBC, directory, expect, libc, main, make, outcome

RW, C = os.O_RDWR, os.O_CREAT
LAST = 2 ** 63 - 1
KEEP_SIZE, PUNCH, COLLAPSE, ZERO, INSERT = 1, 2, 8, 16, 32


def fallocate(fd, mode, offset, length):
    return libc("fallocate", fd, mode, ctypes.c_long(offset), ctypes.c_long(length))


def copy(source, target, count, at=None, to=None, flags=0):
    """Bytes copied, or the name of the errno."""
    ends = [None if place is None else ctypes.byref(ctypes.c_longlong(place)) for place in (at, to)]
    got = LIBC.copy_file_range(source, ends[0], target, ends[1], ctypes.c_size_t(count), flags)
    return got if got >= 0 else errno.errorcode[ctypes.get_errno()]


LIBC.copy_file_range.restype = ctypes.c_ssize_t


def seeking():
    fd = os.open("file", RW | C)
    MiB = 1 << 20

    def seek(offset, whence):
        try:
            return os.lseek(fd, offset, whence)
        except OSError as error:
            return errno.errorcode[error.errno]
    D, H = os.SEEK_DATA, os.SEEK_HOLE
    for whence in (D, H):
        expect("seek in an empty file", seek(0, whence), "ENXIO")
    os.ftruncate(fd, 4 * MiB)
    expect("data in a hole", seek(0, D), "ENXIO")
    expect("hole in a hole", seek(5000, H), 5000)
    os.pwrite(fd, b"d" * MiB, MiB)
    expect("data after a hole", seek(0, D), MiB)
    expect("data within data", seek(MiB + 77, D), MiB + 77)
    expect("hole after data", seek(MiB + 77, H), 2 * MiB)
    expect("data in the last hole", seek(2 * MiB, D), "ENXIO")
    expect("the end", seek(4 * MiB, H), "ENXIO")
    expect("past the end", seek(9 * MiB, D), "ENXIO")
    os.pwrite(fd, b"end", 4 * MiB - 3)
    expect("hole at the end", seek(4 * MiB - 2, H), 4 * MiB)
    os.ftruncate(fd, 6 * MiB)
    fallocate(fd, PUNCH | KEEP_SIZE, MiB, MiB)
    expect("a hole that was punched", seek(MiB, H), MiB)
    expect("the place does not move by a failure",
           (seek(1, os.SEEK_SET), seek(9 * MiB, D), seek(0, os.SEEK_CUR)), (1, "ENXIO", 1))
    expect("a strange whence", seek(0, 77), "EINVAL")
    os.close(fd)


def copying():
    make("source", content=bytes(range(256)) * 4096)
    os.mkdir("dir")
    os.mkfifo("fifo")
    source = os.open("source", RW)
    target = os.open("target", RW | C)
    for what, want, got in (
            ("within itself, overlapping", "EINVAL", copy(source, source, 9000, 0, 4096)),
            ("within itself", 4096, copy(source, source, 4096, 0, 8192)),
            ("with flags", "EINVAL", copy(source, target, 10, 0, 0, 1)),
            ("from the end", 0, copy(source, target, 10, 1 << 20, 0)),
            ("from past the end", 0, copy(source, target, 10, 1 << 30, 0)),
            ("across the end", 100, copy(source, target, 5000, (1 << 20) - 100, 0)),
            ("nothing", 0, copy(source, target, 0, 0, 0)),
            ("from a negative place", "EOVERFLOW", copy(source, target, 10, -1, 0)),
            ("past the last offset", "EFBIG", copy(source, target, 4096, 0, LAST))):
        expect(f"copy {what}", got, want)
    for what, flags, path, want in (
            ("to a descriptor for reading", os.O_RDONLY, "target", "EBADF"),
            ("to one for appending", os.O_WRONLY | os.O_APPEND, "target", "EBADF"),
            ("to a directory", os.O_RDONLY, "dir", "EISDIR"),
            ("to a fifo", RW | os.O_NONBLOCK, "fifo", "EINVAL")):
        fd = os.open(path, flags)
        expect(f"copy {what}", copy(source, fd, 10, 0, 0), want)
        os.close(fd)
    reader = os.open("source", os.O_WRONLY)
    expect("copy from a descriptor for writing", copy(reader, target, 10, 0, 0), "EBADF")
    os.close(reader)
    expect("copy to the place of the descriptor", copy(source, target, 300, 0), 300)
    expect("it moves", os.lseek(target, 0, os.SEEK_CUR), 300)
    expect("the other does not", os.lseek(source, 0, os.SEEK_CUR), 0)
    expect("what is there", os.pread(target, 300, 0), (bytes(range(256)) * 2)[:300])
    with open("source", "rb") as file:
        expect("the copy within", file.read()[8192:12288], bytes(range(256)) * 16)
    os.close(source)
    os.close(target)


def allocating():
    fd = os.open("file", RW | C)
    for what, mode, offset, length, want in (
            ("no length", 0, 0, 0, "EINVAL"), ("a negative length", 0, 0, -1, "EINVAL"),
            ("a negative place", 0, -1, 1, "EINVAL"),
            ("past the last offset", 0, LAST - 1, 4096, "EFBIG"),
            ("a hole that changes the size", PUNCH, 0, 4096, "ENOTSUP"),
            ("two things at once", PUNCH | ZERO | KEEP_SIZE, 0, 4096, "ENOTSUP"),
            ("an unknown mode", 1 << 20, 0, 4096, "ENOTSUP")):
        expect(f"allocate {what}", fallocate(fd, mode, offset, length), want)
    expect("allocate", fallocate(fd, 0, 1000, 9000), "ok")
    expect("size", os.fstat(fd).st_size, 10000)
    expect("blocks", os.fstat(fd).st_blocks, 24)
    expect("zeros", os.pread(fd, 20000, 0), bytes(10000))
    expect("keep the size", fallocate(fd, KEEP_SIZE, 0, 100000), "ok")
    expect("size kept", os.fstat(fd).st_size, 10000)
    os.pwrite(fd, b"x" * 10000, 0)
    expect("zero a range", fallocate(fd, ZERO, 5000, 1000), "ok")
    expect("punch a range", fallocate(fd, PUNCH | KEEP_SIZE, 1, 4999), "ok")
    expect("content", os.pread(fd, 20000, 0), b"x" + bytes(5999) + b"x" * 4000)
    expect("zero beyond the end", fallocate(fd, ZERO, 9000, 11000), "ok")
    expect("size", os.fstat(fd).st_size, 20000)
    expect("punch beyond the end", fallocate(fd, PUNCH | KEEP_SIZE, 40000, 5000), "ok")
    os.close(fd)
    fd = os.open("file", os.O_RDONLY)
    expect("by a reader", fallocate(fd, 0, 0, 10), "EBADF")
    os.close(fd)
    os.mkdir("dir")
    os.mkfifo("fifo")
    fd = os.open("fifo", RW)
    expect("a fifo", fallocate(fd, 0, 0, 10), "ESPIPE")
    os.close(fd)


def sizes():
    make("file", content=b"text")
    for what, size, want in (("negative", -1, "EINVAL"), ("upwards", 1 << 40, "ok"),
                             ("back", 2, "ok")):
        expect(f"truncate {what}", outcome(os.truncate, "file", size), want)
    os.truncate("file", 5000)
    with open("file", "rb") as file:
        expect("zeros where it grew", file.read(), b"te" + bytes(4998))
    os.mkdir("dir")
    os.mkfifo("fifo")
    expect("truncate of a directory", outcome(os.truncate, "dir", 0), "EISDIR")
    expect("truncate of a fifo", outcome(os.truncate, "fifo", 0), "EINVAL")
    fd = os.open("file", os.O_RDONLY)
    expect("ftruncate by a reader", outcome(os.ftruncate, fd, 0), "EINVAL")
    os.close(fd)
    fd = os.open("far", RW | C)
    expect("the last byte", os.pwrite(fd, b"z", LAST - 1), 1)
    expect("its size", os.fstat(fd).st_size, LAST)
    expect("read back", os.pread(fd, 1, LAST - 1), b"z")
    expect("past it", outcome(os.pwrite, fd, b"zz", LAST), "EINVAL")
    expect("read at the end", os.pread(fd, 5, LAST - 5), bytes(4) + b"z")
    os.close(fd)


def limits():
    """RLIMIT_FSIZE: EFBIG and a signal."""
    signals = []
    before = signal.signal(signal.SIGXFSZ, lambda *_: signals.append(1))
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    fd = os.open("file", RW | C)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10000, hard))
    try:
        expect("up to the limit", os.pwrite(fd, b"x" * 4000, 8000), 2000)
        expect("past it", outcome(os.pwrite, fd, b"x", 10000), "EFBIG")
        expect("cut beyond it", outcome(os.ftruncate, fd, 10001), "EFBIG")
        expect("allocate beyond it", fallocate(fd, 0, 0, 10001), "EFBIG")
        expect("allocate up to it", fallocate(fd, 0, 0, 10000), "ok")
        expect("signals", len(signals) >= 2, True)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        signal.signal(signal.SIGXFSZ, before)
    os.close(fd)


def appending():
    children = []
    open("log", "w").close()
    for letter in "abcd":
        pid = os.fork()
        if pid == 0:
            fd = os.open("log", os.O_WRONLY | os.O_APPEND)
            for _ in range(200):
                os.write(fd, letter.encode() * 99 + b"\n")
            os._exit(0)
        children.append(pid)
    for pid in children:
        os.waitpid(pid, 0)
    with open("log") as file:
        lines = file.read().split("\n")
    expect("lines appended by four", len(lines), 801)
    expect("none torn", all(len(set(line)) == 1 and len(line) == 99 for line in lines[:-1]), True)
    fd = os.open("log", os.O_WRONLY | os.O_APPEND)
    os.pwrite(fd, b"end", 0)  # Linux appends whatever the offset says
    expect("pwrite appends", os.fstat(fd).st_size, 80003)
    os.close(fd)


def direct():
    page = mmap.mmap(-1, 1 << 16)
    page[:] = b"D" * (1 << 16)
    fd = os.open("file", RW | C | os.O_DIRECT)
    expect("direct write", os.pwritev(fd, [page], 0), 1 << 16)
    back = mmap.mmap(-1, 1 << 16)
    expect("direct read", os.preadv(fd, [back], 0), 1 << 16)
    expect("the same", back[:] == page[:], True)
    expect("direct read at the end", os.preadv(fd, [back], 1 << 16), 0)
    expect("direct read across the end", os.preadv(fd, [back], 61440), 4096)
    cached = os.open("file", RW)
    os.pwrite(cached, b"c" * 100, 4096)
    os.preadv(fd, [back], 0)
    expect("direct reads see cached writes", bytes(back[4096:4200]), b"c" * 100 + b"D" * 4)
    os.pread(cached, 8192, 0)
    os.pwritev(fd, [page], 0)
    expect("cached reads see direct writes", os.pread(cached, 104, 4096), b"D" * 104)
    with mmap.mmap(cached, 1 << 16) as shared:
        expect("mappings, too", shared[4096:4100], b"DDDD")
        shared[5000:5004] = b"mmap"
        os.preadv(fd, [back], 0)
        expect("direct reads see mapped writes", bytes(back[5000:5004]), b"mmap")
    os.ftruncate(cached, 1000)
    expect("a short file, read directly", os.preadv(fd, [back], 0), 1000)
    os.close(fd)
    os.close(cached)


def direct_asynchronous():
    """Direct writes by io_submit(2), many at once, while others read the file through the cache."""
    block, count = 65536, 16
    setup, getevents, submit = 206, 208, 209
    page = mmap.mmap(-1, block)
    start = ctypes.addressof(ctypes.c_char.from_buffer(page))
    context = ctypes.c_ulong(0)
    if os.uname().machine != "x86_64" or LIBC.syscall(setup, count, ctypes.byref(context)) != 0:
        return
    fd, cached = os.open("file", RW | C | os.O_DIRECT), os.open("file", os.O_RDONLY)
    os.ftruncate(fd, block * count)
    readers = []
    for _ in range(2):
        child = os.fork()
        if child == 0:
            while os.pread(cached, block * count, 0):
                pass
        readers.append(child)
    stale = 0
    for letter in range(1, 41):
        page[:] = bytes([letter]) * block
        blocks = [ctypes.create_string_buffer(struct.pack(
            "<QIIHhIQQqQII", 0, 0, 0, 1, 0, fd, start, block, i * block, 0, 0, 0))
            for i in range(count)]
        where = (ctypes.c_void_p * count)(*map(ctypes.addressof, blocks))
        events = ctypes.create_string_buffer(32 * count)
        expect("submitted", LIBC.syscall(submit, context, count, where), count)
        expect("done", LIBC.syscall(getevents, context, count, count, events, None), count)
        stale += os.pread(cached, block * count, 0) != page[:] * count
    expect("cached reads after the write that are stale", stale, 0)
    for child in readers:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
    os.close(fd)
    os.close(cached)


def mapped_pages(fd, flags=mmap.MAP_SHARED):
    """Two pages, whatever the size of the file."""
    size = os.fstat(fd).st_size
    os.ftruncate(fd, 8192)
    mapped = mmap.mmap(fd, 8192, flags=flags)
    os.ftruncate(fd, size)
    return mapped


def mapping():
    fd = os.open("file", RW | C)
    os.pwrite(fd, b"m" * 5000, 0)
    shared, other = mapped_pages(fd), mapped_pages(fd)
    private = mapped_pages(fd, mmap.MAP_PRIVATE)
    expect("zeros after the end", shared[5000:8192], bytes(3192))
    shared[0:5] = b"shown"
    expect("another mapping", other[0:5], b"shown")
    expect("read", os.pread(fd, 5, 0), b"shown")
    private[0:5] = b"mine!"
    expect("a private one stays private", (shared[0:5], os.pread(fd, 5, 0)), (b"shown", b"shown"))
    os.pwrite(fd, b"W", 4999)
    expect("a write shows", shared[4999:5000], b"W")
    os.ftruncate(fd, 100)
    expect("cut", shared[99:200], b"m" + bytes(100))
    os.ftruncate(fd, 8192)
    expect("grown again", shared[100:8192], bytes(8092))
    shared[8000:8004] = b"late"
    shared.flush()
    expect("after msync", os.pread(fd, 4, 8000), b"late")
    fallocate(fd, PUNCH | KEEP_SIZE, 4096, 4096)
    expect("a hole shows", shared[8000:8004], bytes(4))
    for mapped in (shared, other, private):
        mapped.close()
    child = os.fork()
    if child == 0:  # beyond the last page: SIGBUS
        signal.signal(signal.SIGBUS, signal.SIG_DFL)
        os.ftruncate(fd, 8192)
        lost = mmap.mmap(fd, 8192)
        os.ftruncate(fd, 10)
        lost[5000]
        os._exit(0)
    expect("behind the last page", os.WTERMSIG(os.waitpid(child, 0)[1]), signal.SIGBUS)
    reader = os.open("file", os.O_RDONLY)
    expect("shared and writable by a reader",
           outcome(mmap.mmap, reader, 10, mmap.MAP_SHARED, mmap.PROT_WRITE), "EACCES")
    os.close(reader)
    os.close(fd)


def own_pages():
    """What is written to a file, or read from it, lies in a mapping of that very file."""
    fd, direct_fd = os.open("file", RW | C), os.open("file", RW | os.O_DIRECT)
    os.pwrite(fd, b"o" * 65536, 0)
    os.fsync(fd)
    mapped = mmap.mmap(fd, 65536)
    start = ctypes.addressof(ctypes.c_char.from_buffer(mapped))
    for what, call, used in (("written", LIBC.pwrite, fd), ("read", LIBC.pread, fd),
                             ("written directly", LIBC.pwrite, direct_fd),
                             ("read directly", LIBC.pread, direct_fd)):
        os.fsync(fd)
        os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
        expect(f"own pages {what}", call(used, ctypes.c_void_p(start + 16384),
                                         ctypes.c_size_t(8192), ctypes.c_long(32768)), 8192)
    expect("the same everywhere", mapped[:] == b"o" * 65536, True)
    os.close(fd)
    os.close(direct_fd)


def far_mapping():
    fd = os.open("file", RW | C)
    far = 1 << 43
    os.ftruncate(fd, far + 4096)
    with mmap.mmap(fd, 4096, offset=far) as mapped:
        mapped[0:3] = b"far"
        mapped.flush()
    expect("mapped far out", os.pread(fd, 3, far), b"far")
    os.close(fd)


def running():
    """A program that runs is not written; one that is written does not run."""
    make("program", 0o755, b"#!/bin/sh\nsleep 5\n")
    with open("/bin/sleep", "rb") as file:
        make("sleep", 0o755, file.read())
    child = os.spawnv(os.P_NOWAIT, "./sleep", ["sleep", "5"])
    while os.readlink(f"/proc/{child}/exe") != os.path.realpath("sleep"):
        pass
    expect("writing what runs", outcome(os.open, "sleep", os.O_WRONLY), "ETXTBSY")
    expect("cutting what runs", outcome(os.truncate, "sleep", 0), "ETXTBSY")
    expect("removing what runs", outcome(os.unlink, "sleep"), "ok")
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    fd = os.open("program", os.O_WRONLY)
    expect("running what is written", outcome(os.execv, "./program", ["program"]), "ETXTBSY")
    os.close(fd)


def reading():
    os.mkdir("dir")
    fd = os.open("dir", os.O_RDONLY)
    expect("read of a directory", outcome(os.read, fd, 10), "EISDIR")
    expect("pread of a directory", outcome(os.pread, fd, 10, 0), "EISDIR")
    expect("write to a directory", outcome(os.write, fd, b"x"), "EBADF")
    expect("fsync of a directory", outcome(os.fsync, fd), "ok")
    expect("fdatasync of a directory", outcome(os.fdatasync, fd), "ok")
    expect("ftruncate of a directory", outcome(os.ftruncate, fd, 0), "EINVAL")
    os.close(fd)
    fd = os.open("file", os.O_WRONLY | C)
    expect("read by a writer", outcome(os.read, fd, 10), "EBADF")
    expect("pread before the start", outcome(os.pwrite, fd, b"x", -1), "EINVAL")
    expect("fsync", outcome(os.fsync, fd), "ok")
    expect("sync_file_range", libc("sync_file_range", fd, ctypes.c_long(0), ctypes.c_long(0), 7), "ok")
    os.close(fd)
    fd = os.open("file", os.O_RDONLY)
    expect("fsync by a reader", outcome(os.fsync, fd), "ok")
    expect("readahead", libc("readahead", fd, ctypes.c_long(0), ctypes.c_size_t(4096)), "ok")
    expect("fadvise", outcome(os.posix_fadvise, fd, 0, 0, os.POSIX_FADV_DONTNEED), "ok")
    os.close(fd)
    for what, flags in (("O_SYNC", os.O_SYNC), ("O_DSYNC", os.O_DSYNC), ("O_NOATIME", os.O_NOATIME)):
        fd = os.open(what, RW | C | flags)
        expect(what, os.write(fd, b"text"), 4)
        expect(f"flags {what}", fcntl.fcntl(fd, fcntl.F_GETFL) & flags, flags)
        os.close(fd)


def extended_stat():
    """statx(2)."""
    make("file", content=b"12345")

    def statx(path, mask, flags=0):
        data = ctypes.create_string_buffer(256)
        if LIBC.statx(-100, path.encode(), flags, mask, data) != 0:
            return errno.errorcode[ctypes.get_errno()]
        return struct.unpack_from("IIQIIIHHQQQQ", data)
    got = statx("file", 0xfff)
    expect("what it says", got[0] & 0xfff, 0xfff)
    expect("links, mode, size", (got[3], got[6], got[9]), (1, stat.S_IFREG | 0o644, 5))
    expect("number", got[8], os.stat("file").st_ino)
    expect("no mask", statx("file", 0)[9], 5)
    expect("a reserved bit", statx("file", 1 << 31), "EINVAL")
    expect("bad flags", statx("file", 0xfff, 1), "EINVAL")


if __name__ == "__main__":
    main(seeking, copying, allocating, sizes, limits, appending, direct, direct_asynchronous, mapping,
         own_pages, far_mapping, running, reading, extended_stat)
