"""Whether programs may run: the person's word, and a cage that was tried."""

from __future__ import annotations

import platform
import sys
from dataclasses import dataclass
from functools import cache

from evalkit.cage.programs import CageError, Limits, Program, Verdict
from evalkit.cage.system_calls import ARCHITECTURES
from evalkit.errors import UsageError

_PROBE = """
import os, socket
from pathlib import Path
def refused(action):
    try:
        action()
    except OSError:
        return True
    return False
seen = sorted(os.environ)
pid = os.getpid()
outside = socket.socket()
outside.settimeout(1)
no_network = refused(lambda: outside.connect(("192.0.2.1", 80)))
no_home = not Path("/home").exists() and not Path("/etc/passwd").exists() and not Path("/proc/self").exists()
read_only = refused(lambda: open("/written", "w"))
no_name_spaces = refused(lambda: os.unshare(os.CLONE_NEWUSER)) if hasattr(os, "unshare") else True
def grow():
    for _ in range(100):
        if os.fork() == 0:
            import time
            time.sleep(60)
processes = refused(grow)
no_root = os.getuid() != 0
"""
_TESTS = "assert no_network and no_home and read_only and no_name_spaces and processes and no_root and pid < 10"


@dataclass(frozen=True)
class Protection:
    """Whether programs can be run here, and what holds them."""

    ready: bool
    sentence: str


@cache
def protection() -> Protection:
    """Try it: a program that reaches for the network, files, privileges and processes gets none of them."""
    try:
        return Protection(True, _try())
    except CageError as error:
        return Protection(False, error.reason)


def _try() -> str:
    if sys.platform != "linux" or platform.machine() not in ARCHITECTURES:
        raise CageError(f"the sandbox supports Linux on {' or '.join(ARCHITECTURES)}")
    from evalkit.cage.bubblewrap import find_walls  # these need modules that only Unix has
    from evalkit.cage.run import run_programs

    (outcome,) = run_programs([Program(_PROBE, _TESTS)], Limits(), at_once=1)
    if outcome.verdict is not Verdict.PASSED:
        raise CageError(f"a program that should have been contained was not ({outcome.message})")
    walls = find_walls()
    who = "a user name space" if walls is None or walls.users is None else "a user of its own for each program"
    return f"bubblewrap with {who}, without network, with limits, and a filter of system calls; tested just now"


def require_cage(allowed: bool, who: str) -> None:
    """Raise unless the person allowed it (`UsageError`) and a cage holds here (`CageError`).

    `who`: the task that wants programs run, for the message. Call it before anything expensive.
    """
    if not allowed:
        raise UsageError(
            f"{who} runs programs that the model writes. Add --allow-code-execution to run them, each in a sandbox without "
            "network; docs/code-execution.md says what it protects."
        )
    found = protection()
    if not found.ready:
        raise CageError(found.sentence)
