# SPDX-License-Identifier: MIT
"""Calls on names: what they make, remove and refuse."""
import os
import socket
import stat
import subprocess

from check import AT_FDCWD, directory, expect, libc, main, make, mode_of, outcome

NOREPLACE, EXCHANGE, WHITEOUT = 1, 2, 4
LONG, TOO_LONG = "n" * 255, "n" * 256


def rename_with(flags, old, new):
    return libc("renameat2", AT_FDCWD, old, AT_FDCWD, new, flags)


def link_through(old, new):
    return libc("linkat", AT_FDCWD, old, AT_FDCWD, new, 0x400)  # AT_SYMLINK_FOLLOW


def one_path_calls():
    """Every call that takes the path of something that is there."""
    return {
        "stat": lambda p: outcome(os.stat, p), "lstat": lambda p: outcome(os.lstat, p),
        "open": lambda p: outcome(os.open, p, os.O_RDONLY | os.O_NONBLOCK),
        "chmod": lambda p: outcome(os.chmod, p, 0o755),
        "chown": lambda p: outcome(os.chown, p, 0, 0),
        "lchown": lambda p: outcome(os.lchown, p, 0, 0),
        "utimensat": lambda p: outcome(os.utime, p, (1, 1)),
        "truncate": lambda p: outcome(os.truncate, p, 0),
        "link": lambda p: outcome(os.link, p, "fresh"),
        "rename": lambda p: outcome(os.rename, p, "fresh"),
        "unlink": lambda p: outcome(os.unlink, p), "rmdir": lambda p: outcome(os.rmdir, p),
        "listdir": lambda p: outcome(os.listdir, p),
        "statvfs": lambda p: outcome(os.statvfs, p),
        "getxattr": lambda p: outcome(os.getxattr, p, "user.a"),
        "access": lambda p: libc("access", p, 0),
        "readlink": lambda p: outcome(os.readlink, p),
    }


def making_calls():
    """Every call that makes a new name."""
    make("source")
    return {
        "open": lambda p: outcome(os.open, p, os.O_CREAT | os.O_EXCL | os.O_WRONLY),
        "mkdir": lambda p: outcome(os.mkdir, p),
        "mkfifo": lambda p: outcome(os.mkfifo, p),
        "mknod": lambda p: outcome(os.mknod, p, stat.S_IFCHR | 0o600, os.makedev(1, 3)),
        "symlink": lambda p: outcome(os.symlink, "source", p),
        "link": lambda p: outcome(os.link, "source", p),
    }


def remove(path):
    if os.path.isdir(path) and not os.path.islink(path):
        os.rmdir(path)
    else:
        os.unlink(path)


def lengths():
    directory("d")
    for name, call in making_calls().items():
        expect(f"{name} with 255 bytes", call("d/" + LONG), "ok")
        remove("d/" + LONG)
        expect(f"{name} with 256 bytes", call("d/" + TOO_LONG), "ENAMETOOLONG")
        path = "./" * 2047 + "p"
        expect(f"{name} with a path of 4095", call(path), "ok")
        remove("p")
        expect(f"{name} with a path of 4096", call("/" + path), "ENAMETOOLONG")
    for name, call in one_path_calls().items():
        expect(f"{name} of 256 bytes", call(TOO_LONG), "ENAMETOOLONG")
        expect(f"{name} below 256 bytes", call(TOO_LONG + "/x"), "ENAMETOOLONG")
    expect("rename to 256 bytes", outcome(os.rename, "source", TOO_LONG), "ENAMETOOLONG")
    expect("a target of 4096 bytes", outcome(os.symlink, "t" * 4096, "s"), "ENAMETOOLONG")
    expect("an empty target", outcome(os.symlink, "", "s"), "ENOENT")
    os.symlink("t" * 3000, "s")
    expect("target", os.readlink("s"), "t" * 3000)
    expect("size of a symlink", os.lstat("s").st_size, 3000)


def bad_prefixes():
    make("file")
    os.symlink("loop", "loop")
    os.symlink("nowhere", "dangling")
    for prefix, want in (("file", "ENOTDIR"), ("missing", "ENOENT"), ("loop", "ELOOP"),
                         ("dangling", "ENOENT")):
        for calls in (one_path_calls(), making_calls()):
            for name, call in calls.items():
                expect(f"{name} below {prefix}", call(prefix + "/x"), want)
        expect(f"rename below {prefix}", outcome(os.rename, "file", prefix + "/x"), want)
    for name in ("stat", "open", "chmod", "chown", "utimensat", "truncate", "statvfs", "getxattr",
                 "access", "listdir"):
        expect(f"{name} of a loop", one_path_calls()[name]("loop"), "ELOOP")
        expect(f"{name} of nothing", one_path_calls()[name]("missing"), "ENOENT")
    for name in ("unlink", "rmdir", "readlink", "lchown", "link", "rename"):
        expect(f"{name} of nothing", one_path_calls()[name]("missing"), "ENOENT")
    for i in range(42):
        os.symlink(f"chain{i}", f"chain{i + 1}")
    make("chain0")
    expect("40 symlinks", outcome(os.stat, "chain40"), "ok")
    expect("41 symlinks", outcome(os.stat, "chain41"), "ELOOP")


def all_types():
    make("t.file")
    os.mkdir("t.dir")
    os.mkfifo("t.fifo")
    os.symlink("t.file", "t.link")
    os.symlink("nowhere", "t.dangling")
    os.mknod("t.char", stat.S_IFCHR | 0o600, os.makedev(1, 3))
    os.mknod("t.block", stat.S_IFBLK | 0o600, os.makedev(240, 7))
    with socket.socket(socket.AF_UNIX) as s:
        s.bind("t.socket")
    return [name for name in os.listdir() if name.startswith("t.")]


def existing():
    for there in all_types():
        for name, call in making_calls().items():
            expect(f"{name} over {there}", call(there), "EEXIST")
    expect("device number", os.stat("t.block").st_rdev, os.makedev(240, 7))
    os.mknod("wide", stat.S_IFCHR | 0o600, os.makedev(4095, 1048575))
    expect("wide device number", os.stat("wide").st_rdev, os.makedev(4095, 1048575))
    expect("mknod of a file", outcome(os.mknod, "plain", 0o640), "ok")
    expect("its mode", oct(os.stat("plain").st_mode), oct(stat.S_IFREG | 0o640))
    expect("mknod of a directory", outcome(os.mknod, "no", stat.S_IFDIR | 0o755), "EPERM")
    expect("mkfifo with umask", (os.mkfifo("f2", 0o666), mode_of("f2"))[1], "0o644")


def opening():
    make("file", content=b"12345")
    os.mkdir("dir")
    os.symlink("file", "link")
    os.symlink("new", "dangling")
    W, C = os.O_WRONLY, os.O_CREAT
    for what, path, flags, want in (
            ("a directory for writing", "dir", W, "EISDIR"),
            ("a directory for both", "dir", os.O_RDWR, "EISDIR"),
            ("a directory with O_CREAT", "dir", C, "EISDIR"),
            ("a directory with O_TRUNC", "dir", os.O_TRUNC, "EISDIR"),
            ("a file as directory", "file", os.O_DIRECTORY, "ENOTDIR"),
            ("O_CREAT with O_DIRECTORY", "other", C | os.O_DIRECTORY, "EINVAL"),
            ("a symlink not followed", "link", os.O_NOFOLLOW, "ELOOP"),
            ("a symlink as O_PATH", "link", os.O_NOFOLLOW | os.O_PATH, "ok"),
            ("O_EXCL over a symlink", "dangling", C | os.O_EXCL, "EEXIST"),
            ("O_CREAT of a name with a slash", "other/", C, "EISDIR"),
            ("a file with a slash", "file/", os.O_RDONLY, "ENOTDIR"),
            ("O_CREAT through a dangling symlink", "dangling", C | W, "ok"),
            ("O_TMPFILE for reading", ".", os.O_TMPFILE, "EINVAL"),
            ("O_TMPFILE on a file", "file", os.O_TMPFILE | W, "ENOTDIR"),
            ("an empty path", "", os.O_RDONLY, "ENOENT")):
        expect("open " + what, outcome(os.open, path, flags, 0o644), want)
    expect("made through the symlink", os.path.exists("new"), True)
    expect("not made", os.path.exists("other"), False)
    os.mkfifo("fifo")
    expect("open a fifo without reader", outcome(os.open, "fifo", W | os.O_NONBLOCK), "ENXIO")
    with socket.socket(socket.AF_UNIX) as s:
        s.bind("socket")
    expect("open a socket", outcome(os.open, "socket", os.O_RDONLY), "ENXIO")
    fd = os.open("readable", C | os.O_RDWR, 0o000)
    expect("write to one made with mode 0", os.write(fd, b"x"), 1)
    os.close(fd)
    fd = os.open("file", W | os.O_APPEND)
    os.pwrite(fd, b"6", 0)
    os.close(fd)
    expect("append", open("file", "rb").read(), b"123456")
    fd = os.open("file", os.O_RDONLY)
    expect("write to one opened for reading", outcome(os.write, fd, b"x"), "EBADF")
    expect("ftruncate of one opened for reading", outcome(os.ftruncate, fd, 0), "EINVAL")
    os.close(fd)


def busy_text():
    subprocess.run(["cp", "/bin/sleep", "program"], check=True)
    running = subprocess.Popen(["./program", "60"])
    expect("open a running program", outcome(os.open, "program", os.O_WRONLY), "ETXTBSY")
    expect("truncate a running program", outcome(os.truncate, "program", 0), "ETXTBSY")
    expect("unlink a running program", outcome(os.unlink, "program"), "ok")
    running.kill()
    running.wait()
    subprocess.run(["cp", "/bin/true", "program"], check=True)
    with open("program", "r+b"):
        expect("run one open for writing", outcome(subprocess.run, ["./program"]), "ETXTBSY")
    expect("run it closed", outcome(subprocess.run, ["./program"]), "ok")


def removing():
    for there in all_types():
        want = ("EISDIR", "ok") if there == "t.dir" else ("ok", "ENOTDIR")
        expect(f"rmdir {there}", outcome(os.rmdir, there), want[1])
        if os.path.lexists(there):
            expect(f"unlink {there}", outcome(os.unlink, there), want[0])
    os.mkdir("d")
    expect("unlink a directory", outcome(os.unlink, "d"), "EISDIR")
    os.symlink("d", "to-d")
    expect("rmdir a symlink", outcome(os.rmdir, "to-d"), "ENOTDIR")
    expect("rmdir a symlink with a slash", outcome(os.rmdir, "to-d/"), "ENOTDIR")
    make("d/x")
    expect("rmdir one with a file", outcome(os.rmdir, "d"), "ENOTEMPTY")
    expect("rmdir .", outcome(os.rmdir, "d/."), "EINVAL")
    expect("rmdir ..", outcome(os.rmdir, "d/.."), "ENOTEMPTY")
    expect("unlink with a slash", outcome(os.unlink, "d/x/"), "ENOTDIR")
    fd = os.open("d/x", os.O_RDWR)
    os.link("d/x", "d/y")
    os.unlink("d/x")
    expect("one link left", os.fstat(fd).st_nlink, 1)
    os.unlink("d/y")
    expect("no link left", os.fstat(fd).st_nlink, 0)
    os.write(fd, b"still there")
    expect("content without a name", os.pread(fd, 20, 0), b"still there")
    expect("no new name for it", link_through(f"/proc/self/fd/{fd}", "z"), "ENOENT")
    os.close(fd)
    os.chdir("d")
    os.rmdir("../d")
    expect("open in a removed directory", outcome(os.open, "x", os.O_CREAT | os.O_WRONLY), "ENOENT")
    expect("mkdir in a removed directory", outcome(os.mkdir, "x"), "ENOENT")
    expect("list a removed directory", os.listdir("."), [])
    os.chdir("..")


def renaming():
    for path in ("d", "d/sub", "e", "full"):
        os.mkdir(path)
    make("full/x")
    make("file", content=b"f")
    for what, old, new, want in (
            ("into itself", "d", "d/x", "EINVAL"), ("below itself", "d", "d/sub/x", "EINVAL"),
            ("over its ancestor", "d/sub", "d", "ENOTEMPTY"),
            ("a directory over a file", "d", "file", "ENOTDIR"),
            ("a file over a directory", "file", "d", "EISDIR"),
            ("over a full directory", "d", "full", "ENOTEMPTY"),
            (".", "d/.", "x", "EBUSY"), ("to ..", "e", "d/..", "EBUSY"),
            ("a file to a name with a slash", "file", "x/", "ENOTDIR"),
            ("a directory to a name with a slash", "e", "e2/", "ok"),
            ("over an empty directory", "d/sub", "e2", "ok"),
            ("to itself", "file", "file", "ok")):
        expect("rename " + what, outcome(os.rename, old, new), want)
    os.link("file", "file2")
    expect("two names of one file", outcome(os.rename, "file", "file2"), "ok")
    expect("both stay", os.path.exists("file") and os.path.exists("file2"), True)
    make("target", content=b"t")
    fd = os.open("target", os.O_RDONLY)
    os.rename("file2", "target")
    expect("replaced", open("target", "rb").read(), b"f")
    expect("the old one is open still", (os.read(fd, 9), os.fstat(fd).st_nlink), (b"t", 0))
    os.close(fd)
    expect("NOREPLACE over a name", rename_with(NOREPLACE, "target", "file"), "EEXIST")
    expect("NOREPLACE to none", rename_with(NOREPLACE, "target", "t2"), "ok")
    expect("EXCHANGE with none", rename_with(EXCHANGE, "t2", "none"), "ENOENT")
    expect("EXCHANGE with NOREPLACE", rename_with(EXCHANGE | NOREPLACE, "t2", "d"), "EINVAL")
    expect("EXCHANGE with an ancestor", rename_with(EXCHANGE, "full", "full/x"), "EINVAL")
    expect("EXCHANGE a file and a directory", rename_with(EXCHANGE, "t2", "full"), "ok")
    expect("exchanged", (os.path.isdir("t2"), os.path.isfile("full")), (True, True))
    expect("unknown flag", rename_with(8, "t2", "t3"), "EINVAL")
    for flags, new in ((WHITEOUT, "w1"), (WHITEOUT | NOREPLACE, "w2")):
        make("white")
        expect("WHITEOUT", rename_with(flags, "white", new), "ok")
        left = os.lstat("white")
        expect("a whiteout", (stat.S_ISCHR(left.st_mode), left.st_rdev), (True, 0))
        os.unlink("white")
    os.mkdir("moved")
    os.mkdir("d/in")
    os.rename("d/in", "moved/in")
    expect("..", os.stat("moved/in/..").st_ino, os.stat("moved").st_ino)


def linking():
    make("file")
    os.mkdir("d")
    os.symlink("file", "link")
    expect("link a directory", outcome(os.link, "d", "d2"), "EPERM")
    os.link("link", "link2", follow_symlinks=False)
    expect("a link of a symlink", os.readlink("link2"), "file")
    link_through("link", "file2")
    expect("a link through a symlink", os.stat("file2").st_nlink, 2)
    fd = os.open(".", os.O_TMPFILE | os.O_RDWR, 0o640)
    expect("links of an unnamed file", os.fstat(fd).st_nlink, 0)
    os.write(fd, b"text")
    link_through(f"/proc/self/fd/{fd}", "named")
    expect("named", (open("named", "rb").read(), mode_of("named")), (b"text", "0o640"))
    os.close(fd)
    fd = os.open(".", os.O_TMPFILE | os.O_RDWR | os.O_EXCL)
    expect("O_TMPFILE with O_EXCL stays unnamed", link_through(f"/proc/self/fd/{fd}", "x"), "ENOENT")
    os.close(fd)
    expect("link to another filesystem", outcome(os.link, "file", "/dev/shm/moltfs.x"), "EXDEV")
    expect("rename to another filesystem", outcome(os.rename, "file", "/dev/shm/moltfs.x"), "EXDEV")


main(lengths, bad_prefixes, existing, opening, busy_text, removing, renaming, linking)
