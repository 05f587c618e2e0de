"""Whether the process that wrote something still lives: a killed one cannot say that it has ended."""

from __future__ import annotations

import os
import socket
from collections.abc import Mapping
from pathlib import Path
from typing import Any


def this_process() -> dict[str, Any]:
    """What identifies this process: its host, its number, and where the system tells it when it began."""
    return {"host": socket.gethostname(), "pid": os.getpid(), "began": _began(os.getpid())}


def is_gone(process: Mapping[str, Any]) -> bool:
    """Whether a process that `this_process` described has ended. False where that cannot be known (another host)."""
    pid = process.get("pid")
    if process.get("host") != socket.gethostname() or not isinstance(pid, int) or pid <= 0 or os.name != "posix":
        return False
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    except OSError:  # it lives and is somebody else's
        pass
    began, now = process.get("began"), _began(pid)
    return began is not None and now is not None and began != now  # numbers are given again


def _began(pid: int) -> str | None:
    """The boot and the clock tick at which a process began, as Linux tells them; None elsewhere."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
        return f"{boot} {stat.rpartition(')')[2].split()[19]}"  # field 22, counted behind the name in brackets
    except (OSError, IndexError):
        return None
