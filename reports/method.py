"""The method section: what the words on this page mean, of ``definitions.yaml`` what the page shows."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from evalkit.reports.view import Report
from evalkit.system.documents import read_yaml

DEFINITIONS = Path(__file__).resolve().parent / "definitions.yaml"


def definitions(report: Report) -> dict[str, Any]:
    """Of ``definitions.yaml`` what this report shows."""
    every: Mapping[str, Any] = read_yaml(DEFINITIONS)
    shown: dict[str, str] = {}
    visible = [line for line in report.lines if not line.domain or line.metric in ("bits_per_byte", "token_perplexity")]
    for line in visible:
        for prefix in ("macro_", "median_", "ordinary_", "reweighted_", "total_"):
            if line.metric.startswith(prefix):
                shown[prefix] = prefix.rstrip("_")
        name = line.metric
        if name == "bits_per_byte" and not line.domain:
            name = "gold_bits_per_byte"
        if name in every["metrics"]:
            shown[name] = "bits_per_byte (questions)" if name == "gold_bits_per_byte" else name
    return {
        "metrics": [(word, every["metrics"][name]) for name, word in shown.items()],
        "intervals": every["intervals"],
        "regimes": _used(every["regimes"], (line.known.regime for line in report.lines)),
        "windows": _used(every["windows"], _encoders(report, "window")),
        "prefixes": _used(every["prefixes"], _encoders(report, "prefix_token")),
        "guidelines": every["guidelines"],
    }


def _encoders(report: Report, key: str) -> Iterable[str]:
    """What the encoders of the text tasks were set to."""
    for run in report.runs:
        for about in run.tasks.values():
            protocol = about.get("protocol")
            encoder = protocol.get("encoder") if isinstance(protocol, Mapping) else None
            if about.get("kind") == "text" and isinstance(encoder, Mapping):
                yield str(encoder.get(key))


def _used(texts: Mapping[str, str], names: Iterable[str]) -> list[tuple[str, str]]:
    return [(name, texts.get(name, "")) for name in dict.fromkeys(names) if name and name != "None"]
