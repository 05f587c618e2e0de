"""Which names imported tasks go by beside other runs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from evalkit.results.alignment import names_beside

IMPORTED: Mapping[str, Any] = {
    "imported": {"tool": "t"},
    "tasks": {"lm-eval/arc_easy": {"same_as": "arc_easy:rc::lm-eval"}, "lm-eval/letters": {}},
}


@pytest.mark.parametrize(
    ("others", "names"),
    [
        ([], {}),
        (["arc_easy:rc::olmes"], {}),
        (["arc_easy:rc::lm-eval"], {"lm-eval/arc_easy": "arc_easy:rc::lm-eval"}),
        (["lm-eval/arc_easy"], {}),
        (["arc_easy:rc::lm-eval", "lm-eval/arc_easy"], {}),
        (["lm-eval/group/letters"], {"lm-eval/letters": "lm-eval/group/letters"}),
        (["lm-eval/group/letters", "lm-eval/other/letters"], {}),
    ],
    ids=["alone", "another regime", "evalkit's own", "lm-eval's here", "both", "in a group", "in two groups"],
)
def test_names_beside(others: list[str], names: dict[str, str]) -> None:
    """evalkit's own task, or the group's, where that is what the others have; two that could be meant change nothing."""
    own = {"tasks": {name: {} for name in others}}
    assert names_beside([own, IMPORTED]) == [{}, names]
    assert names_beside([IMPORTED, own]) == [names, {}]
