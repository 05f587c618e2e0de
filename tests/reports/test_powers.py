"""Logarithmic axes of pages have powers of ten as leaderboards write them."""

from __future__ import annotations

import re

import vl_convert

from evalkit.reports.charts.pareto import CheckpointPoint, pareto_chart


def test_costs_are_powers_of_ten() -> None:
    """One, two and five of each power, with raised digits; never ``1e+20``."""
    points = [CheckpointPoint(i, f"m{i}", cost, 0.5 + i / 10, True) for i, cost in enumerate((1e18, 7e18, 2e20))]
    drawn = vl_convert.vegalite_to_svg(pareto_chart(points, "accuracy, %").to_dict())
    labels = re.findall(r">([^<>]*10[⁰¹²³⁴⁵⁶⁷⁸⁹]+)<", drawn)
    assert {"10¹⁸", "10¹⁹", "10²⁰"} <= set(labels)
    assert all(re.fullmatch(r"([25]·)?10[⁰¹²³⁴⁵⁶⁷⁸⁹]+", label) for label in labels)
    assert "e+" not in "".join(re.findall(r">([^<>]*)<", drawn))
