"""The cage's walls: the command line of bubblewrap, and the user that a program runs as.

As root, each program has a user number of its own that nobody else has. As an ordinary user, the cage is a user name
space of its own, in which programs are nobody. Both are without privileges, and the limit on processes counts theirs alone
(in user name spaces since Linux 5.14; before that it counts all of the user's, and programs can start none).
"""

from __future__ import annotations

import os
import shutil
import sys
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from evalkit.cage.programs import Limits

SYSTEM = ("/lib", "/lib32", "/lib64", "/usr/lib", "/usr/lib32", "/usr/lib64")
"""Folders of shared libraries."""
DEVICES = ("null", "zero", "full", "random", "urandom")
FOLDER = "/tmp"  # noqa: S108  a folder in the cage
ENVIRONMENT = {
    "HOME": FOLDER,
    "TMPDIR": FOLDER,
    "PATH": "/nowhere",
    "LANG": "C.UTF-8",
    "PYTHONHASHSEED": "0",  # sets have the same order in every run
    "MALLOC_ARENA_MAX": "2",  # else each thread takes 64 MiB of addresses
}
NOBODY = 65534


@dataclass(frozen=True)
class Walls:
    """How programs are separated here."""

    bubblewrap: str
    """Path of the program ``bwrap``."""
    users: range | None
    """User numbers that programs get, one each; None if the cage is a user name space instead."""

    def user(self, number: int) -> int | None:
        """The user of the `number`-th program of this process; None in a user name space."""
        if self.users is None:
            return None
        return self.users[-(16 + (os.getpid() * 512 + number % 512) % (len(self.users) // 2))]

    def command(self, limits: Limits, seccomp: int, report: int) -> list[str]:
        """The command that makes a cage and starts `evalkit.cage.inside` in it.

        `seccomp`: the file descriptor of the filter; `report`: that for what `inside` tells.
        """
        if self.users is None:
            who = ["--unshare-user", "--uid", str(NOBODY), "--gid", str(NOBODY)]
        else:
            who = ["--cap-drop", "ALL", "--cap-add", "CAP_SETUID", "--cap-add", "CAP_SETGID"]
        apart = ["--unshare-pid", "--unshare-net", "--unshare-ipc", "--unshare-uts", "--unshare-cgroup-try"]
        ends = ["--die-with-parent", "--new-session", "--as-pid-1"]
        private = ["--perms", "0777", "--size", str(limits.disk_bytes), "--tmpfs", FOLDER, "--chdir", FOLDER]
        variables = [word for name, value in ENVIRONMENT.items() for word in ("--setenv", name, value)]
        devices = [word for name in DEVICES for word in ("--dev-bind", f"/dev/{name}", f"/dev/{name}")]
        python = [os.path.realpath(sys.executable), "-P", "-s", "-B", "-c", _inside(), str(report)]
        return [
            *(self.bubblewrap, *who, *apart, *ends, "--seccomp", str(seccomp), "--clearenv", *variables),
            *(*_python_and_libraries(), *devices, *private, "--remount-ro", "/", "--", *python),
        ]


def find_walls() -> Walls | None:
    """How programs can be separated here; None without bubblewrap."""
    bubblewrap = shutil.which("bwrap")
    if bubblewrap is None:
        return None
    return Walls(bubblewrap, _spare_users() if os.geteuid() == 0 else None)


def _spare_users() -> range | None:
    """User numbers for programs, where this process is root and has more than a few; users and groups alike."""
    ranges = []
    for name in ("uid_map", "gid_map"):
        lines = Path(f"/proc/self/{name}").read_text(encoding="ascii").splitlines()
        first, _, count = max((tuple(map(int, line.split())) for line in lines), key=lambda one: one[2])
        ranges.append(range(max(first, 1000), first + count))
    both = range(max(one.start for one in ranges), min(one.stop for one in ranges))
    return both if len(both) > 2048 else None


@cache
def _inside() -> str:
    return Path(__file__).with_name("inside.py").read_text(encoding="utf-8")


@cache
def _python_and_libraries() -> tuple[str, ...]:
    """Arguments that show Python, its standard library and the system's shared libraries, read-only and at their places.

    Packages that are installed beside the standard library are hidden.
    """
    base, standard = Path(sys.base_prefix), Path(os.__file__).parent
    shown: list[Path] = []
    arguments: list[str] = []
    for place in (*map(Path, SYSTEM), base / "lib", standard, Path(os.path.realpath(sys.executable))):
        if place.is_symlink() and str(place) in SYSTEM:
            arguments += ["--symlink", str(place.readlink()), str(place)]
        elif place.exists() and not any(place.is_relative_to(other) for other in shown):
            for parent in reversed(place.parents[:-1]):  # of a closed home folder, say
                arguments += ["--perms", "0755", "--dir", str(parent)]
            arguments += ["--ro-bind", str(place), str(place)]
            shown.append(place)
    if Path("/etc/ld.so.cache").exists():
        arguments += ["--perms", "0755", "--dir", "/etc", "--ro-bind", "/etc/ld.so.cache", "/etc/ld.so.cache"]
    for folder in sorted(
        {standard / "site-packages", standard / "dist-packages", *base.glob("lib/python*/*-packages")}
    ):
        if folder.is_dir():
            arguments += ["--tmpfs", str(folder), "--remount-ro", str(folder)]
    return tuple(arguments)
