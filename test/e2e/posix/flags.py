# SPDX-License-Identifier: MIT
"""The flags of chattr(1): who may set them, what they forbid; and other ioctls that files answer."""
import array
import ctypes
import fcntl
import os
import struct
import subprocess

from check import ANN, BEN, directory, expect, libc, main, make, moved, outcome

GETFLAGS, SETFLAGS = 0x80086601, 0x40086602
FSGETXATTR, FSSETXATTR = 0x801c581f, 0x401c5820
GETVERSION, FITRIM, UNKNOWN = 0x80087601, 0xc0185879, 0x8008f7f7
IMMUTABLE, APPEND, NODUMP, NOATIME, DIRSYNC = 0x10, 0x20, 0x40, 0x80, 0x10000
X_IMMUTABLE, X_APPEND, X_NOATIME, X_NODUMP = 0x8, 0x10, 0x40, 0x80
KNOWN = IMMUTABLE | APPEND | NODUMP | NOATIME | DIRSYNC
W, A, T = os.O_WRONLY, os.O_APPEND, os.O_TRUNC


def ask(path, command, size):
    fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    try:
        data = array.array("B", bytes(size))
        fcntl.ioctl(fd, command, data)
        return data.tobytes()
    finally:
        os.close(fd)


def tell(path, command, data):
    fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    try:
        fcntl.ioctl(fd, command, data)
    finally:
        os.close(fd)


def all_flags_of(path):
    return struct.unpack("I", ask(path, GETFLAGS, 8)[:4])[0]


def flags_of(path):
    return all_flags_of(path) & KNOWN


def set_flags(path, flags):
    """Others, by which a filesystem tells of itself, stay."""
    tell(path, SETFLAGS, struct.pack("Q", (all_flags_of(path) & ~KNOWN) | flags))


def extended_of(path):
    return struct.unpack("I", ask(path, FSGETXATTR, 28)[:4])[0]


def setting():
    make("file")
    os.mkdir("dir")
    for path in ("file", "dir"):
        expect(f"flags of a new {path}", flags_of(path), 0)
        for flag, extended in ((IMMUTABLE, X_IMMUTABLE), (APPEND, X_APPEND), (NODUMP, X_NODUMP),
                               (NOATIME, X_NOATIME)):
            set_flags(path, flag)
            expect(f"flag {flag:#x} of {path}", flags_of(path), flag)
            expect(f"the same, extended, of {path}", extended_of(path), extended)
            set_flags(path, 0)
        tell(path, FSSETXATTR, struct.pack("I24x", X_NODUMP | X_IMMUTABLE))
        expect(f"set as extended, of {path}", flags_of(path), NODUMP | IMMUTABLE)
        tell(path, FSSETXATTR, struct.pack("I24x", 0))
    set_flags("dir", DIRSYNC | NODUMP)
    expect("a directory with dirsync", flags_of("dir"), DIRSYNC | NODUMP)
    tell("dir", FSSETXATTR, struct.pack("I24x", X_NOATIME))
    expect("extended flags leave it alone", flags_of("dir"), DIRSYNC | NOATIME)
    set_flags("dir", 0)
    subprocess.run(["chattr", "+id", "file"], check=True)
    shown = subprocess.run(["lsattr", "file"], check=True, capture_output=True, text=True).stdout
    expect("lsattr", ("i" in shown.split()[0], "d" in shown.split()[0]), (True, True))
    subprocess.run(["chattr", "=", "file"], check=True)
    expect("chattr =", flags_of("file"), 0)
    os.chown("file", ANN.uid, ANN.gid)
    os.chmod("file", 0o644)
    expect("a flag by the owner", ANN.do(set_flags, "file", NODUMP), "ok")
    for flag in (IMMUTABLE, APPEND):
        expect(f"{flag:#x} by the owner", ANN.do(set_flags, "file", NODUMP | flag), "EPERM")
    expect("a flag by somebody", BEN.do(set_flags, "file", 0), "EPERM")
    set_flags("file", IMMUTABLE)
    expect("taking it away by the owner", ANN.do(set_flags, "file", 0), "EPERM")
    set_flags("file", 0)
    expect("directories move ctime", moved(lambda: set_flags("dir", NODUMP), "dir"), ["c"])
    os.mkfifo("fifo")
    expect("flags of a fifo", outcome(flags_of, "fifo"), "ENOTTY")


def changes_of_attributes(path):
    return {
        "chmod": lambda: outcome(os.chmod, path, 0o600),
        "chown": lambda: outcome(os.chown, path, 1, 1),
        "utime": lambda: outcome(os.utime, path, (1, 1)),
        "mtime": lambda: libc("utimensat", -100, path,
                              struct.pack("qqqq", 0, (1 << 30) - 2, 5, 5), 0),
        "setxattr": lambda: outcome(os.setxattr, path, "user.a", b"x"),
        "removexattr": lambda: outcome(os.removexattr, path, "user.there"),
        "setfacl": lambda: outcome(os.setxattr, path, "system.posix_acl_access", struct.pack(
            "<IHHIHHIHHIHHIHHI", 2, 1, 6, 0xffffffff, 2, 4, 5, 4, 4, 0xffffffff,
            16, 4, 0xffffffff, 32, 4, 0xffffffff)),
    }


def protected_file(path, flag):
    make(path, content=b"x" * 10000)
    os.setxattr(path, "user.there", b"1")
    make("over")
    set_flags(path, flag)
    word = "an immutable file" if flag == IMMUTABLE else "an append-only file"
    for name, call in changes_of_attributes(path).items():
        expect(f"{name} of {word}", call(), "EPERM")
    for name, call in {
            "open to write": lambda: outcome(os.open, path, W),
            "open for both": lambda: outcome(os.open, path, os.O_RDWR),
            "open to cut": lambda: outcome(os.open, path, W | T),
            "truncate": lambda: outcome(os.truncate, path, 1),
            "link": lambda: outcome(os.link, path, "other"),
            "unlink": lambda: outcome(os.unlink, path),
            "rename": lambda: outcome(os.rename, path, "other"),
            "rename over": lambda: outcome(os.rename, "over", path),
            "exchange": lambda: libc("renameat2", -100, "over", -100, path, 2)}.items():
        expect(f"{name} of {word}", call(), "EPERM")
    expect(f"reading {word}", outcome(os.open, path, os.O_RDONLY), "ok")
    expect(f"O_CREAT of {word}", outcome(os.open, path, os.O_CREAT | os.O_RDONLY), "ok")
    expect(f"O_EXCL of {word}", outcome(os.open, path, os.O_CREAT | os.O_EXCL | W), "EEXIST")
    os.unlink("over")


def immutable_file():
    protected_file("file", IMMUTABLE)
    expect("touch", outcome(os.utime, "file"), "EPERM")
    expect("open to append", outcome(os.open, "file", W | A), "EPERM")
    set_flags("file", 0)
    fd = os.open("file", os.O_RDWR)
    make("from", content=b"y" * 5000)
    source = os.open("from", os.O_RDONLY)
    set_flags("file", IMMUTABLE)
    for name, mode in (("allocate", 0), ("keep size", 1), ("punch", 3)):
        expect(f"{name} by who had it open", libc("fallocate", fd, mode, ctypes.c_long(0),
                                                  ctypes.c_long(4096)), "EPERM")
    expect("copy by who had it open", outcome(os.copy_file_range, source, fd, 5000, 0, 0), "EPERM")
    expect("its content", os.pread(fd, 20000, 0), b"x" * 10000)
    os.close(fd)
    os.close(source)
    set_flags("file", 0)
    expect("when the flag has gone", outcome(os.unlink, "file"), "ok")


def append_only_file():
    protected_file("file", APPEND)
    expect("touch", outcome(os.utime, "file"), "ok")
    expect("open to append and cut", outcome(os.open, "file", W | A | T), "EPERM")
    fd = os.open("file", W | A)
    os.write(fd, b"end")
    expect("ftruncate", outcome(os.ftruncate, fd, 0), "EPERM")
    expect("punch", libc("fallocate", fd, 3, ctypes.c_long(0), ctypes.c_long(4096)), "EPERM")
    expect("allocate", libc("fallocate", fd, 0, ctypes.c_long(0), ctypes.c_long(4096)), "ok")
    os.fsync(fd)
    os.close(fd)
    with open("file", "rb") as file:
        expect("what was appended", file.read()[10000:], b"end")
    set_flags("file", 0)


def directories():
    for flag, word in ((IMMUTABLE, "immutable"), (APPEND, "append-only")):
        top = directory(word)
        make(f"{top}/file")
        os.mkdir(f"{top}/dir")
        make("out")
        set_flags(top, flag)
        adds = "EPERM" if flag == IMMUTABLE else "ok"
        for name, call in {
                "open": lambda p: outcome(os.open, p, os.O_CREAT | W),
                "mkdir": lambda p: outcome(os.mkdir, p),
                "mkfifo": lambda p: outcome(os.mkfifo, p),
                "symlink": lambda p: outcome(os.symlink, "x", p),
                "link": lambda p: outcome(os.link, "out", p)}.items():
            expect(f"{name} in an {word} directory", call(f"{top}/new-{name}"), adds)
            expect(f"{name} over what is there", call(f"{top}/dir"),
                   "EISDIR" if name == "open" else "EEXIST")
        expect("O_TMPFILE", outcome(os.open, top, os.O_TMPFILE | W), adds)
        expect("writing below it", outcome(os.open, f"{top}/file", W | T), "ok")
        expect("chmod below it", outcome(os.chmod, f"{top}/file", 0o600), "ok")
        for name, call in {
                "unlink": lambda: outcome(os.unlink, f"{top}/file"),
                "rmdir": lambda: outcome(os.rmdir, f"{top}/dir"),
                "rename out": lambda: outcome(os.rename, f"{top}/file", "moved"),
                "rename within": lambda: outcome(os.rename, f"{top}/file", f"{top}/moved"),
                "rename over": lambda: outcome(os.rename, "out", f"{top}/file"),
                "chmod": lambda: outcome(os.chmod, top, 0o700)}.items():
            expect(f"{name} of an {word} directory", call(), "EPERM")
        expect("unlink of nothing", outcome(os.unlink, f"{top}/nothing"), "ENOENT")
        expect("rename into it", outcome(os.rename, "out", f"{top}/into"), adds)
        expect("itself renamed", outcome(os.rename, top, "elsewhere"), "EPERM")
        set_flags(top, 0)
        expect("afterwards", outcome(os.unlink, f"{top}/file"), "ok")


def access_times():
    make("file", content=b"text")
    os.utime("file", (1, 1))
    os.mkdir("dir")
    os.utime("dir", (1, 1))

    def read():
        with open("file", "rb") as file:
            file.read()
        os.listdir("dir")
    set_flags("file", NOATIME)
    set_flags("dir", NOATIME)
    expect("reading with the flag", moved(read, "file", "dir"), ["", ""])
    set_flags("file", 0)
    set_flags("dir", 0)
    expect("reading without", moved(read, "file", "dir"), ["a", "a"])


def others():
    make("one")
    make("two")
    os.mkdir("dir")
    versions = [struct.unpack("I", ask(path, GETVERSION, 8)[:4])[0] for path in ("one", "dir")]
    expect("a generation each", all(isinstance(v, int) for v in versions), True)
    expect("FITRIM by somebody", ANN.do(ask, ".", FITRIM, 24), "EPERM")
    expect("unknown to a file", outcome(ask, "one", UNKNOWN, 8), "ENOTTY")
    expect("unknown to a directory", outcome(ask, "dir", UNKNOWN, 8), "ENOTTY")


if __name__ == "__main__":
    main(setting, immutable_file, append_only_file, directories, access_times, others)
