# SPDX-License-Identifier: MIT
"""Who may do what: owner, group, supplementary group, others, root; sticky directories; changes of
mode and owner."""
import os
import stat

from check import ANN, BEN, CID, TEAM, directory, expect, main, make, mode_of, outcome

R, W, X = 4, 2, 1


def file_classes():
    """Each class by its own bits only, even where another class may more."""
    for bits in range(8):
        for who, shift in ((ANN, 6), (BEN, 3), (CID, 0)):
            make("f", (0o777 & ~(7 << shift)) | bits << shift, owner=(ANN.uid, TEAM))
            may = {R: os.O_RDONLY, W: os.O_WRONLY}
            for bit, flags in may.items():
                expect(f"bits {bits} << {shift}, open {flags}", who.do(os.open, "f", flags),
                       "ok" if bits & bit else "EACCES")
            expect(f"bits {bits} << {shift}, access", who.run(lambda: [
                os.access("f", mode) for mode in (R, W, X)]), [bool(bits & b) for b in (R, W, X)])
            expect(f"bits {bits} << {shift}, truncate", who.do(os.truncate, "f", 0),
                   "ok" if bits & W else "EACCES")
            expect(f"bits {bits} << {shift}, execve", who.do(os.execv, "./f", ["f"]),
                   "ENOEXEC" if bits & X else "EACCES")
    make("f", 0o000)
    expect("root reads", outcome(os.open, "f", os.O_RDWR), "ok")
    expect("root runs nothing without x", outcome(os.execv, "./f", ["f"]), "EACCES")


def directory_classes():
    for bits in range(8):
        for who, shift in ((ANN, 6), (BEN, 3), (CID, 0)):
            directory("d", owner=(ANN.uid, TEAM))
            make("d/f", 0o666)
            directory("d/d")
            os.chmod("d", (0o777 & ~(7 << shift)) | bits << shift)
            where = f"bits {bits} << {shift}, "
            search = "ok" if bits & X else "EACCES"
            change = "ok" if bits & X and bits & W else "EACCES"
            expect(where + "stat", who.do(os.stat, "d/f"), search)
            expect(where + "list", who.do(os.listdir, "d"), "ok" if bits & R else "EACCES")
            expect(where + "chdir", who.do(os.chdir, "d"), search)
            expect(where + "open", who.do(os.open, "d/f", os.O_RDWR), search)
            expect(where + "creat", who.do(os.open, "d/n1", os.O_CREAT | os.O_WRONLY), change)
            expect(where + "mkdir", who.do(os.mkdir, "d/n2"), change)
            expect(where + "mkfifo", who.do(os.mkfifo, "d/n3"), change)
            expect(where + "symlink", who.do(os.symlink, "x", "d/n4"), change)
            expect(where + "rename", who.do(os.rename, "d/f", "d/g"), change)
            expect(where + "rmdir", who.do(os.rmdir, "d/d"), change)
            expect(where + "unlink", who.do(os.unlink, "d/g" if change == "ok" else "d/f"), change)
            expect(where + "O_TMPFILE", who.do(os.open, "d", os.O_TMPFILE | os.O_RDWR), change)
            os.chmod("d", 0o700)
            for name in os.listdir("d"):
                (os.rmdir if os.path.isdir("d/" + name) else os.unlink)("d/" + name)
            os.rmdir("d")


def sticky():
    def fresh():
        directory("s", 0o1777, owner=(ANN.uid, ANN.gid))
        make("s/cids", 0o666, owner=(CID.uid, CID.gid))
        directory("s/cidd", 0o777, owner=(CID.uid, CID.gid))
        make("s/bens", owner=(BEN.uid, BEN.gid))

    def clear():
        os.system("rm -rf s")

    for what, call in (
            ("unlink", lambda who: who.do(os.unlink, "s/cids")),
            ("rmdir", lambda who: who.do(os.rmdir, "s/cidd")),
            ("rename", lambda who: who.do(os.rename, "s/cids", "s/x")),
            ("rename a directory", lambda who: who.do(os.rename, "s/cidd", "s/x"))):
        for who, want in ((BEN, "EPERM"), (CID, "ok"), (ANN, "ok")):
            if what == "rename a directory" and who is ANN:
                continue
            fresh()
            expect(f"{what} in a sticky directory by {who.uid}", call(who), want)
            clear()
    fresh()
    expect("rename over somebody's in a sticky directory",
           BEN.do(os.rename, "s/bens", "s/cids"), "EPERM")
    clear()


def moving_directories():
    """A directory that gets another parent must be writable: its ".." changes."""
    directory("from", 0o777)
    directory("to", 0o777)
    directory("from/d", 0o555, owner=(BEN.uid, BEN.gid))
    expect("not writable", BEN.do(os.rename, "from/d", "to/d"), "EACCES")
    expect("in the same directory", BEN.do(os.rename, "from/d", "from/e"), "ok")
    os.chmod("from/e", 0o755)
    expect("writable", BEN.do(os.rename, "from/e", "to/d"), "ok")


def changing_modes():
    make("f", owner=(ANN.uid, ANN.gid))
    expect("chmod by the owner", ANN.do(os.chmod, "f", 0o600), "ok")
    expect("chmod by another", BEN.do(os.chmod, "f", 0o777), "EPERM")
    expect("mode", mode_of("f"), "0o600")
    expect("all bits by root", (os.chmod("f", 0o7777), mode_of("f"))[1], "0o7777")
    os.chmod("f", 0)
    os.chown("f", ANN.uid, CID.gid)
    expect("set-gid of a group not the owner's",
           (ANN.do(os.chmod, "f", 0o2755), mode_of("f")), ("ok", "0o755"))
    os.chown("f", ANN.uid, TEAM)
    expect("set-gid of a supplementary group",
           (ANN.do(os.chmod, "f", 0o2755), mode_of("f")), ("ok", "0o2755"))
    expect("sticky file", (ANN.do(os.chmod, "f", 0o1644), mode_of("f")), ("ok", "0o1644"))
    expect("not writable for creat", (os.chmod("f", 0o444), ANN.do(
        os.open, "f", os.O_CREAT | os.O_WRONLY))[1], "EACCES")
    directory("d", 0o2777, owner=(0, CID.gid))
    ANN.do(os.mkdir, "d/sub", 0o777)
    expect("set-gid directories breed", (mode_of("d/sub"), os.stat("d/sub").st_gid),
           ("0o2755", CID.gid))
    ANN.run(lambda: os.close(os.open("d/f", os.O_CREAT | os.O_WRONLY, 0o2775)))
    expect("no set-gid file for a stranger to the group",
           (mode_of("d/f"), os.stat("d/f").st_gid), ("0o755", CID.gid))
    ANN.run(lambda: os.mknod("d/fifo", stat.S_IFIFO | 0o644))
    expect("group of a fifo", os.stat("d/fifo").st_gid, CID.gid)


def changing_owners():
    make("f", owner=(ANN.uid, ANN.gid))
    for what, who, uid, gid, want in (
            ("by another", BEN, BEN.uid, -1, "EPERM"), ("giving away", ANN, BEN.uid, -1, "EPERM"),
            ("to a group of hers", ANN, -1, TEAM, "ok"),
            ("to a group not hers", ANN, -1, CID.gid, "EPERM"),
            ("to herself", ANN, ANN.uid, ANN.gid, "ok"),
            ("nothing by the owner", ANN, -1, -1, "ok")):
        expect("chown " + what, who.do(os.chown, "f", uid, gid), want)
    expect("owner", (os.stat("f").st_uid, os.stat("f").st_gid), (ANN.uid, ANN.gid))
    os.symlink("f", "s")
    os.lchown("s", 5, 6)
    expect("lchown", (os.lstat("s").st_uid, os.stat("f").st_uid), (5, ANN.uid))
    expect("big ids", (os.chown("f", 4294967294, 4294967294), os.stat("f").st_uid)[1], 4294967294)


def setting_times():
    make("f", 0o666, owner=(ANN.uid, ANN.gid))
    expect("now by a writer", BEN.do(os.utime, "f"), "ok")
    expect("a date by a writer", BEN.do(os.utime, "f", (1, 1)), "EPERM")
    os.chmod("f", 0o644)
    expect("now by a reader", BEN.do(os.utime, "f"), "EACCES")
    os.chmod("f", 0)
    expect("now by the owner", ANN.do(os.utime, "f"), "ok")
    expect("a date by the owner", ANN.do(os.utime, "f", (1, 1)), "ok")
    os.chmod("f", 0o666)
    expect("O_NOATIME by another", BEN.do(os.open, "f", os.O_RDONLY | os.O_NOATIME), "EPERM")
    expect("O_NOATIME by the owner", ANN.do(os.open, "f", os.O_RDONLY | os.O_NOATIME), "ok")


def devices():
    for kind, want in ((stat.S_IFCHR, "EPERM"), (stat.S_IFBLK, "EPERM"), (stat.S_IFIFO, "ok"),
                       (stat.S_IFSOCK, "ok"), (stat.S_IFREG, "ok")):
        expect(f"mknod {kind:o} by a user", ANN.do(os.mknod, f"n{kind:o}", kind | 0o600, 259), want)


main(file_classes, directory_classes, sticky, moving_directories, changing_modes, changing_owners,
     setting_times, devices)
