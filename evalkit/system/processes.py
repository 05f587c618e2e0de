"""Identifies processes, tells whether one still runs (a killed process cannot record that it ended), and starts evalkit's own."""

from __future__ import annotations

import os
import socket
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any


def this_process() -> dict[str, Any]:
    """Identifies this process: its host, its pid and, if the system reports it, when it began."""
    return {"host": socket.gethostname(), "pid": os.getpid(), "began": _began(os.getpid())}


def is_gone(process: Mapping[str, Any]) -> bool:
    """Whether a process that `this_process` described has ended. False if that cannot be known (another host)."""
    pid = process.get("pid")
    if process.get("host") != socket.gethostname() or not isinstance(pid, int) or pid <= 0 or os.name != "posix":
        return False
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    except OSError:  # it is running under another user
        pass
    began, now = process.get("began"), _began(pid)
    return began is not None and now is not None and began != now  # pids are reused


def own_module(module: str, *arguments: str, env: Mapping[str, str] | None = None) -> dict[str, Any]:
    """``args`` and ``env`` of `subprocess.Popen` for a process that runs a module of this evalkit, wherever it is started.

    Modules are not looked for in the working folder, which may hold anybody's files. `env`: in place of this process's.
    """
    env = os.environ if env is None else env
    package = str(Path(__file__).resolve().parents[2])
    paths = [package, *filter(None, env.get("PYTHONPATH", "").split(os.pathsep))]
    return {
        "args": [sys.executable, "-P", "-m", module, *arguments],
        "env": {**env, "PYTHONPATH": os.pathsep.join(dict.fromkeys(paths))},
    }


def _began(pid: int) -> str | None:
    """The boot id and the clock tick at which a process began, as reported by Linux; None elsewhere."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
        return f"{boot} {stat.rpartition(')')[2].split()[19]}"  # field 22; the name in parentheses may contain spaces
    except (OSError, IndexError):
        return None
