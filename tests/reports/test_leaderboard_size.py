"""The work for a leaderboard grows with what is on it: twice the runs or tasks, twice the calls of functions."""

from __future__ import annotations

import cProfile
import pstats
from pathlib import Path
from typing import Any

import pytest

from evalkit.options import LeaderboardOptions
from evalkit.reports.leaderboard import build
from tests.made import board_runs as made


def calls(folder: Path, runs: int, tasks: int, *, own_protocols: bool = False) -> int:
    """Calls of functions while a leaderboard is built; counted, so that no other load on the machine matters."""
    for run in range(runs):
        apart: dict[str, Any] = {"note": run} if own_protocols else {}
        parts = [made.question(f"task{task}", 0.3 + 0.01 * run, 100, **apart) for task in range(tasks)]
        made.write(folder, f"m{run}", "olmes", parts)
    options = LeaderboardOptions(ranks="errors", baselines=("none",))
    build([folder], options)  # imports what it needs
    profile = cProfile.Profile()
    profile.enable()
    build([folder], options)
    profile.disable()
    return int(pstats.Stats(profile).total_calls)  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("small", "large"),
    [((20, 4), (40, 4)), ((4, 40), (4, 80))],
)
def test_twice_the_runs_or_tasks(tmp_path: Path, small: tuple[int, int], large: tuple[int, int]) -> None:
    """Linear but for the sorting: a rise with the square would be four times the calls."""
    assert calls(tmp_path / "large", *large) < 2.4 * calls(tmp_path / "small", *small)


def test_protocols_of_their_own(tmp_path: Path) -> None:
    """Runs that were all asked otherwise have a column each, and what tells those apart is found once for all."""
    few = calls(tmp_path / "few", 15, 2, own_protocols=True)
    assert calls(tmp_path / "many", 30, 2, own_protocols=True) < 2.6 * few
