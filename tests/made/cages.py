"""Cages that stand on this machine."""

from __future__ import annotations

import time
from pathlib import Path

MARK = b"starts one program, watches it, and reports how it ended"
"""Words of `evalkit.cage.inside`, which is on the command line of each cage."""


def cages() -> list[int]:
    """Processes in a cage, and those of bubblewrap above them."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                if MARK in (entry / "cmdline").read_bytes():
                    found.append(int(entry.name))
            except OSError:  # it has ended
                continue
    return found


def all_gone(seconds: float = 5.0) -> bool:
    """Whether every cage is gone within some seconds."""
    end = time.monotonic() + seconds
    while cages() and time.monotonic() < end:
        time.sleep(0.05)
    return not cages()
