# SPDX-License-Identifier: MIT
"""What stays open: file handles, listings that go on, locks, leases, notifications."""
import ctypes
import errno
import fcntl
import os
import select
import signal
import struct
import time

from check import AT_FDCWD, LIBC, directory, expect, libc, main, make, outcome


def handle_of(path):
    buffer = ctypes.create_string_buffer(struct.pack("<Ii", 128, 0) + bytes(128))
    mount = ctypes.c_int()
    if LIBC.name_to_handle_at(AT_FDCWD, path.encode(), buffer, ctypes.byref(mount), 0) != 0:
        raise OSError(ctypes.get_errno(), "name_to_handle_at")
    return buffer


def open_handle(handle, flags=os.O_RDONLY):
    mount = os.open(".", os.O_RDONLY)
    fd = LIBC.open_by_handle_at(mount, handle, flags)
    error = ctypes.get_errno()
    os.close(mount)
    if fd < 0:
        raise OSError(error, "open_by_handle_at")
    return fd


def inode_of(handle):
    try:
        fd = open_handle(handle)
    except OSError as error:
        return errno.errorcode[error.errno]
    inode = os.fstat(fd).st_ino
    os.close(fd)
    return inode


def file_handles():
    make("f")
    directory("d")
    file, folder = handle_of("f"), handle_of("d")
    inode, folder_inode = os.stat("f").st_ino, os.stat("d").st_ino
    expect("a file", inode_of(file), inode)
    expect("a directory", inode_of(folder), folder_inode)
    os.rename("f", "d/g")
    os.rename("d", "e")
    expect("a file moved", inode_of(file), inode)
    expect("a directory moved", inode_of(folder), folder_inode)
    expect("same handle", handle_of("e/g").raw, file.raw)
    fd = os.open("e/g", os.O_RDONLY)
    os.unlink("e/g")
    expect("removed but open", inode_of(file), inode)
    os.close(fd)
    end = time.monotonic() + 5   # the kernel tells a FUSE filesystem of a close in its own time
    while inode_of(file) == inode and time.monotonic() < end:
        time.sleep(0.01)
    expect("removed", inode_of(file), "ESTALE")
    for i in range(50):
        make(f"e/again{i}")
    expect("removed, others made", inode_of(file), "ESTALE")
    for i in range(50):
        os.unlink(f"e/again{i}")
    os.rmdir("e")
    expect("a directory removed", inode_of(folder), "ESTALE")


class Dirent(ctypes.Structure):
    _fields_ = [("ino", ctypes.c_ulong), ("off", ctypes.c_long), ("reclen", ctypes.c_ushort),
                ("type", ctypes.c_ubyte), ("name", ctypes.c_char * 256)]


class Listing:
    """A directory stream."""

    def __init__(self, path):
        LIBC.opendir.restype = LIBC.readdir.restype = ctypes.c_void_p
        LIBC.telldir.restype = ctypes.c_long
        self.stream = ctypes.c_void_p(LIBC.opendir(path.encode()))

    def next(self):
        entry = LIBC.readdir(self.stream)
        if not entry:
            return None
        e = Dirent.from_address(entry)
        return e.name.decode(), e.type, e.off

    def names(self):
        found = []
        while (entry := self.next()) is not None:
            found.append(entry[0])
        return found

    def tell(self):
        return LIBC.telldir(self.stream)

    def seek(self, place):
        LIBC.seekdir(self.stream, ctypes.c_long(place))

    def close(self):
        LIBC.closedir(self.stream)


def listings():
    directory("d")
    names = [f"name-{i:05}" for i in range(3000)]
    for name in names:
        make("d/" + name)
    listing = Listing("d")
    everything = listing.names()
    expect("each once", sorted(everything), sorted(names + [".", ".."]))
    listing.seek(0)
    places = []
    while True:
        place = listing.tell()
        entry = listing.next()
        if entry is None:
            break
        places.append((place, entry[0]))
    for place, name in places[::211]:
        listing.seek(place)
        expect(f"back at {name}", listing.next()[0], name)
    expect("places fit 31 bits", all(place < 1 << 31 for place, _ in places), True)
    middle, _ = places[1500]
    gone = {name for _, name in places[::3]} - {".", ".."}
    for name in gone:
        os.unlink("d/" + name)
    new = [f"new-{i}" for i in range(500)]
    for name in new:
        make("d/" + name)
    listing.seek(middle)
    rest = [name for name in listing.names() if name not in new]
    expect("from the middle after changes", rest,
           [name for _, name in places[1500:] if name not in gone])
    listing.close()
    listing = Listing("d")
    while (entry := listing.next()) is not None:
        if entry[0] not in (".", ".."):
            os.unlink("d/" + entry[0])
    listing.close()
    expect("removed while listed", os.listdir("d"), [])
    directory("busy")
    for i in range(300):
        make(f"busy/{i}")
    seen = 0
    with os.scandir("busy") as entries:
        for entry in entries:  # an end must come
            seen += 1
            os.rename(f"busy/{entry.name}", "away")
            os.rename("away", f"busy/{entry.name}")
            make(f"busy/more-{seen}")
            if seen > 5000:
                break
    expect("renaming and making while listing ends", 300 <= seen <= 5000, True)
    os.mkdir("d/sub")
    make("d/file")
    os.mkfifo("d/fifo")
    os.symlink("x", "d/link")
    listing, types = Listing("d"), {}
    while (entry := listing.next()) is not None:
        types[entry[0]] = entry[1]
    listing.close()
    expect("types", types, {".": 4, "..": 4, "sub": 4, "file": 8, "fifo": 1, "link": 10})
    with os.scandir("d") as entries:
        expect("inode numbers", {e.name: e.inode() for e in entries},
               {name: os.lstat("d/" + name).st_ino for name in os.listdir("d")})


def in_child(function):
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        os.write(writer, str(function()).encode())
        os._exit(0)
    os.close(writer)
    answer = os.read(reader, 100).decode()
    os.close(reader)
    os.waitpid(child, 0)
    return answer


def locks():
    make("f", content=b"0123456789")
    fd = os.open("f", os.O_RDWR)

    def other(call, *args):
        def run():
            mine = os.open("f", os.O_RDWR)
            return outcome(call, mine, *args)
        return in_child(run)

    fcntl.flock(fd, fcntl.LOCK_EX)
    expect("flock against flock", other(fcntl.flock, fcntl.LOCK_SH | fcntl.LOCK_NB), "EAGAIN")
    fcntl.flock(fd, fcntl.LOCK_SH)
    expect("shared flocks", other(fcntl.flock, fcntl.LOCK_SH | fcntl.LOCK_NB), "ok")
    fcntl.flock(fd, fcntl.LOCK_UN)
    exclusive = fcntl.LOCK_EX | fcntl.LOCK_NB
    fcntl.lockf(fd, exclusive, 5, 2)
    expect("a POSIX lock", other(fcntl.lockf, exclusive, 1, 3), "EAGAIN")
    expect("another range", other(fcntl.lockf, exclusive, 2, 0), "ok")
    fcntl.lockf(fd, fcntl.LOCK_UN, 5, 2)
    expect("unlocked", other(fcntl.lockf, exclusive, 1, 3), "ok")
    ofd_set = 37
    lock = struct.pack("hhqqi4x", fcntl.F_WRLCK, 0, 0, 0, 0)
    fcntl.fcntl(fd, ofd_set, lock)
    twin = os.open("f", os.O_RDWR)
    expect("an OFD lock in the same process", outcome(fcntl.fcntl, twin, ofd_set, lock), "EAGAIN")
    os.close(twin)
    os.close(fd)
    fd = os.open("f", os.O_RDONLY)
    expect("a read lease", outcome(fcntl.fcntl, fd, fcntl.F_SETLEASE, fcntl.F_RDLCK), "ok")
    told = []
    signal.signal(signal.SIGIO, lambda *_: told.append(1))
    expect("a writer meets the lease", in_child(lambda: outcome(
        os.open, "f", os.O_WRONLY | os.O_NONBLOCK)), "EAGAIN")
    time.sleep(0.05)
    expect("the holder is told", told, [1])
    fcntl.fcntl(fd, fcntl.F_SETLEASE, fcntl.F_UNLCK)
    expect("given back", in_child(lambda: outcome(
        os.open, "f", os.O_WRONLY | os.O_NONBLOCK)), "ok")
    os.close(fd)


def notifications():
    create, delete, modify, move, attrib = 0x100, 0x200, 0x2, 0xc0, 0x4
    directory("d")
    fd = LIBC.inotify_init1(os.O_NONBLOCK)
    LIBC.inotify_add_watch(fd, b"d", create | delete | modify | move | attrib)
    with open("d/f", "w") as file:
        file.write("x")
    os.chmod("d/f", 0o600)
    os.rename("d/f", "d/g")
    os.unlink("d/g")
    seen = []
    while select.select([fd], [], [], 0.2)[0]:
        data, at = os.read(fd, 65536), 0
        while at < len(data):
            _, mask, _, length = struct.unpack_from("iIII", data, at)
            seen.append(mask)
            at += 16 + length
    os.close(fd)
    expect("inotify", seen, [create, modify, attrib, 0x40, 0x80, delete])


def filesystem():
    s = os.statvfs(".")
    expect("names", s.f_namemax, 255)
    expect("blocks", s.f_bavail <= s.f_bfree <= s.f_blocks and s.f_bsize == 4096, True)
    expect("a mount's root", libc("access", ".", 7), "ok")


main(file_handles, listings, locks, notifications, filesystem)
