"""evalkit: evaluate, compare and fine-tune OLMo checkpoints."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from evalkit.api import run
    from evalkit.comparison.compare import Comparison, compare_runs
    from evalkit.comparison.trends import trend_table
    from evalkit.results.reading import Run, Runs, load_run, load_runs
    from evalkit.results.recompute import recompute_metrics
    from evalkit.train.tuning import fine_tune

__version__ = "0.1.0"

__all__ = [
    "Comparison",
    "Run",
    "Runs",
    "__version__",
    "compare_runs",
    "fine_tune",
    "load_run",
    "load_runs",
    "recompute_metrics",
    "run",
    "trend_table",
]

_MODULES = {  # public name -> the module that defines it  # public name -> the module that defines it
    "run": "evalkit.api",
    "Comparison": "evalkit.comparison.compare",
    "compare_runs": "evalkit.comparison.compare",
    "fine_tune": "evalkit.train.tuning",
    "trend_table": "evalkit.comparison.trends",
    "Run": "evalkit.results.reading",
    "Runs": "evalkit.results.reading",
    "load_run": "evalkit.results.reading",
    "load_runs": "evalkit.results.reading",
    "recompute_metrics": "evalkit.results.recompute",
}


def __getattr__(name: str) -> Any:
    """Import public names on first use, so that ``import evalkit`` loads neither torch nor pandas."""
    if name in _MODULES:
        import importlib

        return getattr(importlib.import_module(_MODULES[name]), name)
    raise AttributeError(f"module 'evalkit' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
