# SPDX-License-Identifier: MIT
"""A filesystem mounted read-only: DIRECTORY holds "file", "dir", "link" and "fifo" (scripts/tests
makes them before it mounts it so)."""
import os
import stat
import sys

from check import expect, finish, libc, outcome


def refused():
    for what, call in (
            ("open for writing", lambda: os.open("file", os.O_WRONLY)),
            ("open for both", lambda: os.open("file", os.O_RDWR)),
            ("O_TRUNC", lambda: os.open("file", os.O_RDONLY | os.O_TRUNC)),
            ("O_CREAT", lambda: os.open("new", os.O_CREAT | os.O_WRONLY)),
            ("O_TMPFILE", lambda: os.open(".", os.O_TMPFILE | os.O_RDWR)),
            ("mkdir", lambda: os.mkdir("new")), ("mkfifo", lambda: os.mkfifo("new")),
            ("mknod", lambda: os.mknod("new", stat.S_IFREG | 0o600)),
            ("symlink", lambda: os.symlink("x", "new")), ("link", lambda: os.link("file", "new")),
            ("unlink", lambda: os.unlink("file")), ("rmdir", lambda: os.rmdir("dir")),
            ("rename", lambda: os.rename("file", "new")), ("chmod", lambda: os.chmod("file", 0)),
            ("chown", lambda: os.chown("file", 1, 1)), ("lchown", lambda: os.lchown("link", 1, 1)),
            ("utimensat", lambda: os.utime("file")), ("truncate", lambda: os.truncate("file", 1)),
            ("setxattr", lambda: os.setxattr("file", "user.a", b"")),
            ("removexattr", lambda: os.removexattr("file", "user.a"))):
        expect(what, outcome(call), "EROFS")
    expect("access for writing", libc("access", "file", 2), "EROFS")
    expect("mkdir of what is there", outcome(os.mkdir, "dir"), "EEXIST")
    expect("unlink of nothing", outcome(os.unlink, "none"), "EROFS")
    expect("O_CREAT of what is there", outcome(os.open, "file", os.O_CREAT), "ok")
    expect("a fifo can be written to", outcome(os.open, "fifo", os.O_RDWR | os.O_NONBLOCK), "ok")
    before = os.stat("file").st_atime_ns
    expect("read", open("file", "rb").read(), b"text")
    expect("atime stays", os.stat("file").st_atime_ns, before)


os.chdir(sys.argv[1])
refused()
finish()
