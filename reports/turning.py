"""Domains that did not move one way through training: `evalkit.trends`, as the words of a table's cell."""

from __future__ import annotations

from evalkit.reports.story import Story
from evalkit.reports.view import Report


def turning_domains(report: Report, story: Story) -> dict[tuple[str, str, str], str]:
    """(task, source, domain) to where it turned; empty where the columns are no checkpoints of one model."""
    return {}
