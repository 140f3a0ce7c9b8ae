# SPDX-License-Identifier: MIT
"""What writing, cutting and giving away does to set-id bits and capabilities."""
import ctypes
import os
import struct

from check import ANN, BEN, CID, LIBC, TEAM, User, expect, main, make, mode_of, outcome

ROOT = User(0, 0)
CAPABILITY = struct.pack("<5I", 0x02000000, 1, 0, 0, 0)
FALLOC_KEEP_PUNCH, FALLOC_ZERO = 3, 0x10


def with_file(flags, act):
    fd = os.open("f", flags)
    act(fd)
    os.close(fd)


def fallocate(fd, mode):
    if LIBC.fallocate(fd, mode, ctypes.c_long(0), ctypes.c_long(100)) != 0:
        raise OSError(ctypes.get_errno(), "fallocate")


def copy_into(fd):
    source = os.open("source", os.O_RDONLY)
    os.copy_file_range(source, fd, 50)
    os.close(source)


CHANGES = {
    "write": lambda: with_file(os.O_WRONLY, lambda fd: os.write(fd, b"new")),
    "write past the end": lambda: with_file(os.O_WRONLY, lambda fd: os.pwrite(fd, b"new", 9000)),
    "append": lambda: with_file(os.O_WRONLY | os.O_APPEND, lambda fd: os.write(fd, b"new")),
    "O_TRUNC": lambda: with_file(os.O_WRONLY | os.O_TRUNC, lambda fd: None),
    "truncate down": lambda: os.truncate("f", 10),
    "truncate up": lambda: os.truncate("f", 10000),
    "ftruncate": lambda: with_file(os.O_RDWR, lambda fd: os.ftruncate(fd, 5)),
    "fallocate": lambda: with_file(os.O_RDWR, lambda fd: fallocate(fd, 0)),
    "punch hole": lambda: with_file(os.O_RDWR, lambda fd: fallocate(fd, FALLOC_KEEP_PUNCH)),
    "zero range": lambda: with_file(os.O_RDWR, lambda fd: fallocate(fd, FALLOC_ZERO)),
    "copy_file_range": lambda: with_file(os.O_RDWR, copy_into),
}


def kept(mode, root, member):
    """Root keeps all; set-uid goes; set-gid goes where the group may execute, or for strangers."""
    if root:
        return mode
    mode &= ~0o4000
    return mode & ~0o2000 if mode & 0o010 or not member else mode


def changes():
    make("source", content=b"s" * 1000)
    for name, change in CHANGES.items():
        for mode in (0o6777, 0o6767, 0o2767, 0o2777, 0o4766, 0o1777):
            for who, root, member in ((ROOT, True, True), (BEN, False, True), (CID, False, False)):
                make("f", mode, b"old" * 200, owner=(ANN.uid, TEAM))
                expect(f"{name} of {mode:o} by {who.uid}", who.run(lambda: outcome(change)), "ok")
                expect(f"{name} of {mode:o} by {who.uid}, mode", mode_of("f"),
                       oct(kept(mode, root, member)))
                os.unlink("f")


def owners():
    for what, uid, gid in (("to another", BEN.uid, 7), ("to the same", ANN.uid, TEAM),
                           ("to nobody", -1, -1), ("group", -1, 7)):
        for mode, want in ((0o6755, 0o755), (0o6745, 0o2745), (0o2711, 0o711), (0o2644, 0o2644)):
            make("f", mode, owner=(ANN.uid, TEAM))
            os.chown("f", uid, gid)
            expect(f"chown {what} of {mode:o} by root", mode_of("f"), oct(want))
            os.unlink("f")
    for gid in (TEAM, ANN.gid, -1):
        make("f", 0o6755, owner=(ANN.uid, TEAM))
        expect(f"chown to {gid} by the owner", (ANN.do(os.chown, "f", -1, gid), mode_of("f")),
               ("ok", "0o755"))
        os.unlink("f")
    os.mkfifo("p")
    for path in (make("f"), "p"):
        os.chown(path, ANN.uid, TEAM)
        for who, mode, want in ((BEN, 0o6755, "EPERM"), (BEN, 0o2755, "EPERM"), (BEN, 0o2644, "ok"),
                                (CID, 0o2644, "EPERM"), (CID, 0o644, "ok"), (CID, 0o4644, "EPERM")):
            os.chmod(path, mode)
            expect(f"chown to nobody of {path}, {mode:o}, by {who.uid}",
                   (who.do(os.chown, path, -1, -1), mode_of(path)), (want, oct(mode)))
    os.mkdir("d")
    os.chmod("d", 0o6755)
    os.chown("d", 5, 6)
    expect("directories keep theirs", mode_of("d"), "0o6755")


def capabilities():
    def has():
        return outcome(os.getxattr, "f", "security.capability") == "ok"

    make("source", content=b"s" * 1000)
    for name, change in CHANGES.items():
        for who in (ROOT, BEN):
            make("f", 0o777, b"old" * 200, owner=(ANN.uid, TEAM))
            os.setxattr("f", "security.capability", CAPABILITY)
            os.chmod("f", 0o2777)
            who.run(lambda: outcome(change))
            expect(f"{name} by {who.uid} takes capabilities", has(), False)
            expect(f"{name} by {who.uid}, mode beside", mode_of("f"),
                   oct(kept(0o2777, who is ROOT, True)))
            os.unlink("f")
    for name, change, want in (
            ("chmod", lambda: os.chmod("f", 0o700), True), ("utime", lambda: os.utime("f"), True),
            ("rename", lambda: os.rename("f", "f"), True),
            ("chown", lambda: os.chown("f", 5, -1), False)):
        make("f")
        os.setxattr("f", "security.capability", CAPABILITY)
        change()
        expect(f"capabilities after {name}", has(), want)
        os.unlink("f")
    make("f", owner=(ANN.uid, ANN.gid))
    expect("by a user", ANN.do(os.setxattr, "f", "security.capability", CAPABILITY), "EPERM")
    expect("nonsense", outcome(os.setxattr, "f", "security.capability", b"xx"), "EINVAL")


main(changes, owners, capabilities)
