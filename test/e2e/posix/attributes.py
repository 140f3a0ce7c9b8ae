# SPDX-License-Identifier: MIT
"""Extended attributes and POSIX ACLs."""
import os
import stat
import struct

from check import ANN, BEN, CID, TEAM, User, directory, expect, main, make, mode_of, outcome

CREATE, REPLACE = os.XATTR_CREATE, os.XATTR_REPLACE
ACCESS, DEFAULT = "system.posix_acl_access", "system.posix_acl_default"
USER_OBJ, USER, GROUP_OBJ, GROUP, MASK, OTHER = 1, 2, 4, 8, 16, 32


def acl(*entries):
    """Entries are (tag, permissions) or (tag, permissions, id)."""
    return struct.pack("<I", 2) + b"".join(
        struct.pack("<HHI", e[0], e[1], e[2] if len(e) > 2 else 0xffffffff) for e in entries)


def xattrs():
    make("f")
    for what, call, want in (
            ("get none", lambda: os.getxattr("f", "user.a"), "ENODATA"),
            ("remove none", lambda: os.removexattr("f", "user.a"), "ENODATA"),
            ("replace none", lambda: os.setxattr("f", "user.a", b"1", REPLACE), "ENODATA"),
            ("create", lambda: os.setxattr("f", "user.a", b"1", CREATE), "ok"),
            ("create again", lambda: os.setxattr("f", "user.a", b"2", CREATE), "EEXIST"),
            ("replace", lambda: os.setxattr("f", "user.a", b"3", REPLACE), "ok"),
            ("create and replace", lambda: os.setxattr("f", "user.a", b"4", 3), "EEXIST"),
            ("create and replace none", lambda: os.setxattr("f", "user.z", b"4", 3), "ENODATA"),
            ("an unknown flag", lambda: os.setxattr("f", "user.a", b"4", 4), "EINVAL"),
            ("an empty value", lambda: os.setxattr("f", "user.e", b""), "ok"),
            ("a name of 255", lambda: os.setxattr("f", "user." + "n" * 250, b""), "ok"),
            ("a name of 256", lambda: os.setxattr("f", "user." + "n" * 251, b""), "ERANGE"),
            ("no name", lambda: os.setxattr("f", "user.", b""), "EINVAL"),
            ("an empty name", lambda: os.setxattr("f", "", b""), "ERANGE"),
            ("no namespace", lambda: os.setxattr("f", "colour", b""), "ENOTSUP"),
            ("another namespace", lambda: os.setxattr("f", "foo.bar", b""), "ENOTSUP"),
            ("a value of 16000", lambda: os.setxattr("f", "user.b", b"x" * 16000), "ok"),
            ("a value of 65537", lambda: os.setxattr("f", "user.c", b"x" * 65537), "E2BIG"),
            ("trusted", lambda: os.setxattr("f", "trusted.t", b"t"), "ok"),
            ("security", lambda: os.setxattr("f", "security.s", b"s"), "ok")):
        expect(what, outcome(call), want)
    expect("values", (os.getxattr("f", "user.a"), os.getxattr("f", "user.e"),
                      os.getxattr("f", "user.b")), (b"3", b"", b"x" * 16000))
    expect("names", sorted(os.listxattr("f")), sorted(
        ["user.a", "user.b", "user.e", "user." + "n" * 250, "trusted.t", "security.s"]))
    os.chmod("f", 0o666)
    expect("trusted for a user", ANN.do(os.getxattr, "f", "trusted.t"), "ENODATA")
    expect("setting trusted by a user", ANN.do(os.setxattr, "f", "trusted.u", b""), "EPERM")
    expect("setting security by a user", ANN.do(os.setxattr, "f", "security.u", b""), "EPERM")
    expect("a user's by a writer", ANN.do(os.setxattr, "f", "user.u", b""), "ok")
    os.chmod("f", 0o644)
    expect("a user's by a reader", ANN.do(os.setxattr, "f", "user.u", b""), "EACCES")
    expect("reading a user's", ANN.do(os.getxattr, "f", "user.a"), "ok")
    os.chmod("f", 0o600)
    expect("reading by one who may not", ANN.do(os.getxattr, "f", "user.a"), "EACCES")
    for i in range(100):
        os.setxattr("f", f"user.many{i}", str(i).encode() * 20)
    expect("many", all(os.getxattr("f", f"user.many{i}") == str(i).encode() * 20
                       for i in range(100)), True)
    for i in range(0, 100, 2):
        os.removexattr("f", f"user.many{i}")
    expect("fewer", sum("many" in name for name in os.listxattr("f")), 50)


def special_files():
    os.mkfifo("fifo")
    os.mknod("char", stat.S_IFCHR | 0o666, os.makedev(1, 3))
    os.symlink("fifo", "link")
    directory("sticky", 0o1777)
    for path in ("fifo", "char", "link"):
        expect(f"user. on {path}", outcome(os.setxattr, path, "user.a", b"", follow_symlinks=False),
               "EPERM")
        expect(f"get user. of {path}", outcome(os.getxattr, path, "user.a", follow_symlinks=False),
               "ENODATA")
        expect(f"trusted. on {path}", outcome(
            os.setxattr, path, "trusted.a", b"1", follow_symlinks=False), "ok")
        expect(f"list of {path}", os.listxattr(path, follow_symlinks=False), ["trusted.a"])
    expect("user. on a sticky directory of another", ANN.do(os.setxattr, "sticky", "user.a", b""),
           "EPERM")
    expect("an ACL of a symlink", outcome(os.setxattr, "link", ACCESS, acl(
        (USER_OBJ, 7), (GROUP_OBJ, 5), (OTHER, 5)), follow_symlinks=False), "ENOTSUP")


def acl_rules():
    full = acl((USER_OBJ, 6), (USER, 4, BEN.uid), (GROUP_OBJ, 0), (GROUP, 6, 62002), (MASK, 6),
               (OTHER, 0))
    make("f", owner=(ANN.uid, ANN.gid))
    for what, value, want in (
            ("full", full, "ok"), ("empty", struct.pack("<I", 2), "ok"), ("short", b"\2\0", "EINVAL"),
            ("another version", struct.pack("<I", 3), "ENOTSUP"),
            ("no owner", acl((GROUP_OBJ, 0), (OTHER, 0)), "EINVAL"),
            ("no mask", acl((USER_OBJ, 6), (USER, 4, 5), (GROUP_OBJ, 0), (OTHER, 0)), "EINVAL"),
            ("wrong order", acl((OTHER, 0), (USER_OBJ, 6), (GROUP_OBJ, 0)), "EINVAL"),
            ("permissions of 8", acl((USER_OBJ, 8), (GROUP_OBJ, 0), (OTHER, 0)), "EINVAL")):
        expect(f"ACL: {what}", outcome(os.setxattr, "f", ACCESS, value), want)
    expect("a default ACL of a file", outcome(os.setxattr, "f", DEFAULT, full), "EACCES")
    expect("by another", BEN.do(os.setxattr, "f", ACCESS, full), "EPERM")
    os.setxattr("f", ACCESS, full)
    expect("mode shows the mask", mode_of("f"), "0o660")
    reader, writer = os.O_RDONLY, os.O_WRONLY
    for what, who, flags, want in (
            ("named user reads", BEN, reader, "ok"), ("named user writes", BEN, writer, "EACCES"),
            ("named group writes", User(61009, 61009, [62002]), writer, "ok"),
            ("owning group", User(61009, ANN.gid), reader, "EACCES"),
            ("others", CID, reader, "EACCES"), ("owner", ANN, os.O_RDWR, "ok")):
        expect(what, who.do(os.open, "f", flags), want)
    os.chmod("f", 0o640)
    expect("chmod changes the mask", os.getxattr("f", ACCESS), acl(
        (USER_OBJ, 6), (USER, 4, BEN.uid), (GROUP_OBJ, 0), (GROUP, 6, 62002), (MASK, 4), (OTHER, 0)))
    expect("the mask holds", User(61009, 61009, [62002]).do(os.open, "f", writer), "EACCES")
    os.removexattr("f", ACCESS)
    expect("removed", outcome(os.getxattr, "f", ACCESS), "ENODATA")
    expect("removing none", outcome(os.removexattr, "f", ACCESS), "ok")
    os.setxattr("f", ACCESS, acl((USER_OBJ, 7), (GROUP_OBJ, 5), (OTHER, 1)))
    expect("what the mode can say is kept there", (mode_of("f"), outcome(
        os.getxattr, "f", ACCESS)), ("0o751", "ENODATA"))


def acl_inheritance():
    default = acl((USER_OBJ, 7), (USER, 6, BEN.uid), (GROUP_OBJ, 5), (MASK, 7), (OTHER, 0))
    directory("d", 0o777)
    os.setxattr("d", DEFAULT, default)
    os.umask(0o077)
    make_with = (("file", lambda p: os.close(os.open(p, os.O_CREAT, 0o666)), 6),
                 ("fifo", lambda p: os.mkfifo(p, 0o644), 4),
                 ("unnamed", None, 6))
    for name, call, mask in make_with[:2]:
        call("d/" + name)
        expect(f"{name} inherits", os.getxattr("d/" + name, ACCESS), acl(
            (USER_OBJ, 6), (USER, 6, BEN.uid), (GROUP_OBJ, 5), (MASK, mask), (OTHER, 0)))
        expect(f"mode of {name}", mode_of("d/" + name), oct(0o600 | mask << 3))
        expect(f"{name} has no default ACL", DEFAULT in os.listxattr("d/" + name), False)
    os.mkdir("d/sub", 0o777)
    expect("a directory inherits both", (os.getxattr("d/sub", DEFAULT), os.getxattr(
        "d/sub", ACCESS)), (default, default))
    os.symlink("x", "d/link")
    expect("a symlink nothing", os.listxattr("d/link", follow_symlinks=False), [])
    fd = os.open("d", os.O_TMPFILE | os.O_RDWR, 0o666)
    expect("an unnamed file inherits", outcome(os.getxattr, fd, ACCESS), "ok")
    os.close(fd)
    os.removexattr("d", DEFAULT)
    os.mkdir("d/plain", 0o777)
    expect("without one the umask counts", mode_of("d/plain"), "0o700")
    os.setxattr("d", DEFAULT, acl((USER_OBJ, 7), (GROUP_OBJ, 5), (OTHER, 5)))
    os.mkdir("d/minimal", 0o777)
    expect("a minimal one goes before the umask", mode_of("d/minimal"), "0o755")
    os.umask(0o022)


def acl_and_set_gid():
    for who, gid, want in ((ANN, TEAM, "0o2755"), (ANN, CID.gid, "0o755")):
        make("f", 0o2755, owner=(ANN.uid, gid))
        expect("set an ACL", who.do(os.setxattr, "f", ACCESS, acl(
            (USER_OBJ, 7), (USER, 5, BEN.uid), (GROUP_OBJ, 5), (MASK, 5), (OTHER, 5))), "ok")
        expect(f"set-gid after an ACL, group {gid}", mode_of("f"), want)
        os.unlink("f")


main(xattrs, special_files, acl_rules, acl_inheritance, acl_and_set_gid)
