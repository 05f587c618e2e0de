"""What the tests of pages share, made once: a browser, and simulated runs that no test may change."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.made import browser as browsers
from tests.made import simulated_sweeps as simulated


@pytest.fixture(scope="session")
def browser() -> Iterator[Any]:
    """Headless Chromium; tests that need it are skipped by name where it is not installed."""
    if browsers.CHROMIUM is None:
        pytest.skip(browsers.WHY_NOT)
    with browsers.chromium() as started:
        yield started


@pytest.fixture(scope="session")
def stories(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, list[Path]]]:
    """The runs of every kind of report: one, a pair, a sweep, a base and what was tuned from it, four models.

    A test that changes a run makes its own: at the end no file may be another than at the beginning.
    """
    folder = tmp_path_factory.mktemp("simulated")

    def write(one: simulated.Simulated, worse: float = 0.0) -> Path:
        return simulated.write(
            folder, one, questions=simulated.SMALL, domains=simulated.few_domains(), shift={("forums", "chess"): worse}
        )

    base = simulated.Simulated("base", skill=0.9, tokens=2 * 10**12, step=476837)
    tuned = simulated.Simulated("sft", skill=1.2, training={**simulated.TRAINING, "base": {"name": base.name}})
    models = [
        simulated.Simulated(f"m{i}", skill=0.4 + 0.2 * i, tokens=10**12, parameters=10**9 * (i + 1), style=i)
        for i in range(4)
    ]
    sweep = [write(one, 0.4 * max(0, i - 3)) for i, one in enumerate(simulated.sweep(6, stages=True))]
    made = {
        "one": sweep[-1:],
        "pair": sweep[2:4],
        "sweep": sweep,
        "tuned": [write(base), write(tuned)],
        "models": [write(one) for one in models],
    }
    before = contents(folder)
    yield made
    assert contents(folder) == before


def contents(folder: Path) -> dict[Path, int]:
    """Every file and when it was last written."""
    return {file: file.stat().st_mtime_ns for file in folder.rglob("*") if file.is_file()}


@pytest.fixture
def sweep(stories: dict[str, list[Path]]) -> list[Path]:
    """Six checkpoints of a model, two of them of a second stage; in those two one domain of eight becomes worse."""
    return list(stories["sweep"])
