"""Programs that want out, want too much, or want to pass: none gets out, each ends in its limit, the rest goes on."""

from __future__ import annotations

import os
import socket
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from evalkit.cage.programs import Limits, Program, Verdict
from evalkit.cage.run import run_programs
from tests.made.cages import all_gone

LIMITS = Limits(
    cpu_seconds=1,
    wall_seconds=3,
    memory_bytes=256 << 20,
    disk_bytes=8 << 20,
    output_bytes=1 << 16,
    processes=16,
    files=1000,
)
REFUSED = "import os\ndef refused(action, *given):\n    try:\n        action(*given)\n    except OSError:\n        return True\n    return False\n"

EXHAUSTING = {
    "an endless loop": ("while True: pass", Verdict.TIMEOUT),
    "sleeping": ("import time; time.sleep(1000)", Verdict.TIMEOUT),
    "ignoring signals": (
        "import signal\nfor n in range(1, 65):\n    try: signal.signal(n, signal.SIG_IGN)\n    except (OSError, ValueError): pass\nwhile True: pass",
        Verdict.TIMEOUT,
    ),
    "a fork bomb": ("import os\nwhile True:\n    try: os.fork()\n    except OSError: pass", Verdict.TIMEOUT),
    "waiting for a child": (
        "import os\nif os.fork() == 0:\n    while True: pass\nos.wait(); import time; time.sleep(99)",
        Verdict.TIMEOUT,
    ),
    "10 GB": ("x = bytearray(10 * 2**30)", Verdict.MEMORY),
    "10 GB piece by piece": ("x = []\nwhile True: x.append(bytearray(2**20))", Verdict.MEMORY),
    "memory in many processes": (
        "import os, time\nfor _ in range(8):\n    if os.fork() == 0:\n        x = b'x' * (100 << 20); time.sleep(99)\ntime.sleep(99)",
        Verdict.MEMORY,
    ),
    "endless output": ("while True: print('x' * 1000)", Verdict.OUTPUT),
    "endless errors": ("import os\nwhile True: os.write(2, b'x' * 1000)", Verdict.OUTPUT),
    "many files": ("i = 0\nwhile True:\n    open(f'f{i}', 'w').close(); i += 1", Verdict.MEMORY),
    "a full disk": (
        "i = 0\nwhile True:\n    with open(f'f{i}', 'wb') as f: f.write(b'x' * 2**20)\n    i += 1",
        Verdict.FAILED,
    ),
    "a sparse file": ("f = open('f', 'wb'); f.truncate(2**40)", Verdict.FAILED),
    "many open files": ("import os\nx = [os.open('/dev/null', 0) for _ in range(1000)]", Verdict.FAILED),
    "deep recursion": ("def f(): return f()\nf()", Verdict.FAILED),
    "recursion without a limit": (
        "import sys\nsys.setrecursionlimit(10**9)\nclass A:\n    def __repr__(self): return repr(self)\nrepr(A())",
        Verdict.KILLED,
    ),
    "a crash": ("import os, signal; os.kill(os.getpid(), signal.SIGSEGV)", Verdict.KILLED),
    "no text for its error": ("class E(Exception):\n    def __str__(self): raise SystemExit\nraise E", Verdict.FAILED),
}

ESCAPING = {
    "TCP": "import socket\ns = socket.socket(); s.settimeout(1)\nok = refused(s.connect, ('192.0.2.1', 80))",
    "TCP to the host's loopback": "import socket\ns = socket.socket(); s.settimeout(1)\nok = refused(s.connect, ('127.0.0.1', PORT))",
    "UDP": "import socket\ns = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)\nok = refused(s.sendto, b'x', ('192.0.2.1', 53))",
    "a raw socket": "import socket\nok = refused(socket.socket, socket.AF_INET, socket.SOCK_RAW, 1) and refused(socket.socket, 17, 3) and refused(socket.socket, 40, 1)",
    "a Unix socket of the host": "import socket\ns = socket.socket(socket.AF_UNIX)\nok = refused(s.connect, SOCKET) and refused(s.connect, '\\0' + SOCKET)",
    "home and project": "ok = all(refused(os.listdir, p) for p in (HOME + '/.ssh', PROJECT, '/home', '/var', '/opt', '/srv')) and refused(open, '/etc/passwd')",
    "the environment": "ok = 'EVALKIT_SECRET' not in os.environ and len(os.environ) <= 7",
    "installed packages": "ok = True\ntry:\n    import numpy\n    ok = False\nexcept ImportError: pass",
    "its folder holds nothing": "ok = os.getcwd() == '/tmp' and os.listdir() == []",
    "writing outside": "ok = all(refused(open, p + '/x', 'w') for p in ('/', '/usr/lib', '/dev', '/etc', os.__file__.rpartition('/')[0]))",
    "a link outside": "os.symlink('/etc/shadow', 'a'); os.symlink('/', 'b')\nok = refused(open, 'a') and refused(open, 'b/x', 'w') and refused(os.link, '/usr/lib/os-release', 'c')",
    "devices": "import stat\nok = refused(os.mknod, 'd', 0o600 | stat.S_IFBLK, os.makedev(8, 0)) and refused(open, '/dev/mem') and refused(open, '/dev/tty') and refused(os.remove, '/dev/null')",
    "other processes in /proc": "ok = refused(os.listdir, '/proc') and refused(open, '/proc/1/environ')",
    "root": "ok = os.getuid() != 0 and refused(os.setuid, 0) and refused(os.setgroups, [0]) and refused(os.chroot, '/tmp') and refused(os.chown, '/tmp', 0, 0)",
    "ptrace and mounts": "import ctypes\nc = ctypes.CDLL(None, use_errno=True)\nok = c.ptrace(16, 1, 0, 0) == -1 and c.mount(b'x', b'/tmp', b'tmpfs', 0, 0) == -1 and c.unshare(0x10000000) == -1 and c.syscall(319, b'x', 0) == -1",
    "the limits": "import resource\nok = True\nfor n in (resource.RLIMIT_CPU, resource.RLIMIT_NPROC, resource.RLIMIT_AS):\n    try:\n        resource.setrlimit(n, (resource.RLIM_INFINITY,) * 2); ok = False\n    except (ValueError, OSError): pass",
    "the limits of its parent": "import resource\nok = refused(resource.prlimit, 1, resource.RLIMIT_CPU, (0, 0))",
    "its parent": "import signal\nfor n in (signal.SIGKILL, signal.SIGSTOP, signal.SIGINT, signal.SIGTERM):\n    refused(os.kill, 1, n)\nok = True",
    "all processes": "import signal, time\nfor n in (signal.SIGKILL, signal.SIGSTOP, signal.SIGTERM):\n    refused(os.kill, -1, n)\nok = True",
    "a daemon": "import time\nif os.fork() == 0:\n    os.setsid()\n    if os.fork() == 0:\n        time.sleep(1000)\n    os._exit(0)\nok = True",
    "a shell": "ok = os.system('/bin/sh -c true') != 0",
}  # PORT, SOCKET, HOME and PROJECT are filled in

FORGING = {
    "leaving": "import os; os._exit(0)",
    "leaving politely": "raise SystemExit(0)",
    "leaving in the tests": "import os\ndef f(): os._exit(0)",
    "leaving politely in the tests": "def f(): raise SystemExit(0)",
    "printing marks": "import os\nfor n in range(64):\n    try: os.write(n, b'passed\\nready\\n+1 0 0\\n')\n    except OSError: pass\nos._exit(0)",
    "marks over every channel, in the tests": "import os\ndef f():\n    for n in range(3, 64):\n        try: os.write(n, b'1 0 0\\n')\n        except OSError: pass\n    os._exit(0)",
    "new builtins": "import builtins\nbuiltins.AssertionError = Warning\nbuiltins.exec = builtins.compile = lambda *a, **k: None\nf = lambda: 2",
    "new functions of os": "import os, marshal, sys\nos._exit = os.write = lambda *a: 0\nmarshal.load = lambda *a: ((), b'')\nsys.exit = lambda *a: None\nf = lambda: 2",
    "atexit": "import atexit, os\natexit.register(os._exit, 0)\nf = lambda: 2",
    "a hook for errors": "import sys, os\nsys.excepthook = lambda *a: os._exit(0)\nf = lambda: 2",
    "a thread that ends all": "import threading, os, time\nthreading.Timer(0.3, os._exit, (0,)).start()\ndef f(): time.sleep(1)",
    "a trace function": "import sys\nsys.settrace(lambda *a: None)\nf = lambda: 2",
    "closed streams": "import os\nfor n in range(64):\n    try: os.close(n)\n    except OSError: pass\nf = lambda: 1",
    "the frames below": "import sys, gc\nframe = sys._getframe()\nwhile frame.f_back: frame = frame.f_back\nfor value in [*frame.f_globals.values(), *gc.get_objects()]:\n    if isinstance(value, bytes) and len(value) == 32:\n        import os; [os.write(n, value) for n in (3, 4, 5, 6, 7)]\nf = lambda: 2",
    "the verdict of a child": "import os\nif os.fork():\n    os._exit(0)\nf = lambda: 2",
}


@pytest.fixture(scope="module", autouse=True)
def _nothing_is_left() -> Iterator[None]:
    """After all of it no process of a cage is there."""
    yield
    assert all_gone()


@pytest.mark.parametrize("name", EXHAUSTING)
def test_each_ends_in_its_limit(name: str) -> None:
    """Within its time, with its own verdict, and a message of one line."""
    code, verdict = EXHAUSTING[name]
    begun = time.monotonic()
    (outcome,) = run_programs([Program(code, "")], LIMITS)
    assert (outcome.verdict, outcome.message.count("\n")) == (verdict, 0), outcome
    assert outcome.message
    assert time.monotonic() - begun < LIMITS.wall_seconds + 10


@pytest.mark.parametrize("name", ESCAPING)
def test_nothing_gets_out(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What it reaches for is refused, while the host offers it."""
    monkeypatch.setenv("EVALKIT_SECRET", "1")
    path = Path("/tmp") / f"evalkit-{os.getpid()}.socket"  # noqa: S108  short, as socket paths must be
    with socket.create_server(("127.0.0.1", 0)) as server, socket.socket(socket.AF_UNIX) as unix:
        unix.bind(str(path))
        try:
            unix.listen()
            given = {
                "PORT": server.getsockname()[1],
                "SOCKET": str(path),
                "HOME": str(Path.home()),
                "PROJECT": str(Path.cwd()),
            }
            head = "\n".join(f"{key} = {value!r}" for key, value in given.items())
            (outcome,) = run_programs([Program(f"{head}\n{REFUSED}{ESCAPING[name]}", "assert ok")], LIMITS)
        finally:
            path.unlink()
    if name == "all processes":  # in a user name space it may end itself
        assert outcome.verdict in (Verdict.PASSED, Verdict.KILLED)
    else:
        assert outcome.verdict is Verdict.PASSED, outcome


@pytest.mark.parametrize("name", FORGING)
def test_no_program_forges_its_verdict(name: str) -> None:
    """Its function is wrong, or never returns, and it does not pass."""
    (outcome,) = run_programs([Program(FORGING[name], "assert f() == 1")], LIMITS)
    assert not outcome.passed, outcome
    assert outcome.verdict in (Verdict.FAILED, Verdict.KILLED)


def test_hostile_text_is_shown_as_one_safe_line() -> None:
    """Control characters are written out, and long messages are cut."""
    code = "raise ValueError('\\x1b[2J\\n\\u202e' + 'x' * 10**6)"
    (outcome,) = run_programs([Program(code, "")], LIMITS)
    assert outcome.message.startswith("ValueError: \\u001b[2J \\u202exxx")
    assert len(outcome.message) <= 500


def test_a_hundred_programs_end_right() -> None:
    """Right ones pass and wrong ones fail among hostile ones, several at once, in order; no process is left."""
    hostile = ["while True: pass", "import os\nwhile True:\n    try: os.fork()\n    except OSError: pass", "x = bytearray(10**11)",
               "while True: print('x' * 999)", "import os; os._exit(0)"]  # fmt: skip
    ends = [Verdict.TIMEOUT, Verdict.TIMEOUT, Verdict.MEMORY, Verdict.OUTPUT, Verdict.FAILED]
    programs, expected = [], []
    for i in range(100):
        if i % 10 == 9:
            programs.append(Program(hostile[i // 10 % 5], "assert f() == 1"))
            expected.append(ends[i // 10 % 5])
        else:
            programs.append(Program(f"def f(): return {i}", f"assert f() == {i if i % 3 else -1}"))
            expected.append(Verdict.PASSED if i % 3 else Verdict.FAILED)
    told: list[int] = []
    outcomes = run_programs(programs, LIMITS, at_once=4, advance=told.append)
    assert [one.verdict for one in outcomes] == expected
    assert sum(told) == 100
    assert Counter(expected)[Verdict.PASSED] == 60
    assert all_gone()
