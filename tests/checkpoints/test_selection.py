"""Selecting a few of hundreds of revisions, evenly and stage by stage, and finding gaps."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evalkit.checkpoints import registered as user_models
from evalkit.checkpoints.resolve import resolve
from evalkit.checkpoints.revisions import (
    Gap,
    Revision,
    Selection,
    evenly_spaced,
    find_gaps,
    parse_revision,
    select_revisions,
)
from evalkit.errors import UsageError
from tests.made.byte_checkpoints import make_checkpoint

OLMO_1 = [parse_revision(f"step{n}000-tokens{n * 4}B") for n in range(1, 101)]
"""A hundred revisions, 4B tokens apart, as OLMo-1 names them."""
OLMO_2 = [
    *(parse_revision(f"stage1-step{n}000-tokens{n * 2}B") for n in range(0, 200, 10)),
    *(parse_revision(f"stage2-ingredient{k}-step{n}000-tokens{n * 2}B") for k in (1, 2) for n in range(1, 24)),
    parse_revision("main"),
]


def names(revisions: list[Revision]) -> list[str]:
    return [one.name for one in revisions]


def test_every_so_many_tokens() -> None:
    """--every 100B of 4B to 400B: the first, those at 100, 200, 300, and the last."""
    chosen = select_revisions(OLMO_1, Selection(every="100B"))
    assert [one.tokens for one in chosen] == [4 * 10**9, *(n * 10**11 for n in (1, 2, 3, 4))]


def test_every_so_many_steps() -> None:
    """--every 30000steps: the multiples, the first and the last; also where names tell no tokens."""
    revisions = [parse_revision(f"step{n}000") for n in range(1, 101)]
    for text in ("30000steps", "30000 steps"):
        assert [one.step for one in select_revisions(revisions, Selection(every=text))] == [
            1000,
            30000,
            60000,
            90000,
            100000,
        ]
    assert names(select_revisions(OLMO_1, Selection(every="30000steps"))) == [
        "step1000-tokens4B", "step30000-tokens120B", "step60000-tokens240B", "step90000-tokens360B", "step100000-tokens400B",
    ]  # fmt: skip


def test_a_multiple_in_a_gap_is_not_filled_from_afar() -> None:
    """Where no revision is within half a distance of a multiple there is none for it."""
    revisions = [parse_revision(f"step{n}") for n in (10, 100, 200, 610, 700)]
    assert [one.step for one in select_revisions(revisions, Selection(every="100steps"))] == [10, 100, 200, 610, 700]
    assert [one.step for one in select_revisions(revisions, Selection(every="300steps"))] == [10, 200, 610, 700]


def test_at_most_so_many_points() -> None:
    """Twenty of a hundred, evenly, the first and last among them; as many as there are where fewer."""
    chosen = select_revisions(OLMO_1, Selection(max_points=20))
    steps = [one.step or 0 for one in chosen]
    assert len(chosen) == 20
    assert (steps[0], steps[-1]) == (1000, 100000)
    assert {later - earlier for earlier, later in pairwise(steps)} <= {5000, 6000}
    assert select_revisions(OLMO_1, Selection(max_points=500)) == OLMO_1


def test_stages_keep_their_ends() -> None:
    """Each stage and ingredient keeps first and last, `main` stands for itself, and the number is exact."""
    chosen = select_revisions(OLMO_2, Selection(max_points=12))
    assert len(chosen) == 12
    assert chosen[-1].name == "main"
    for stage, ingredient in ((1, None), (2, 1), (2, 2)):
        own = [one for one in OLMO_2 if (one.stage, one.ingredient) == (stage, ingredient)]
        assert {own[0], own[-1]} <= set(chosen)
    # stage 1 spans 380B tokens and an ingredient 44B: the points that are left belong to stage 1
    assert sum(one.stage == 1 for one in chosen) == 7
    assert {one.stage for one in select_revisions(OLMO_2, Selection(stage=2, every="10B"))} == {2}


@given(st.lists(st.integers(0, 10_000), min_size=2, max_size=60, unique=True).map(sorted), st.integers(2, 60))
def test_points_are_exactly_as_many_and_keep_the_ends(places: list[int], count: int) -> None:
    """Whatever the gaps: the number that was asked, sorted, first and last there."""
    chosen = evenly_spaced([float(place) for place in places], count)
    assert len(chosen) == min(count, len(places))
    assert chosen == sorted(set(chosen))
    assert (chosen[0], chosen[-1]) == (0, len(places) - 1)


@pytest.mark.parametrize(
    ("selection", "message"),
    [
        (Selection(every="often"), r"--every takes tokens \(100B\) or steps \(1000steps\), not 'often'"),
        (Selection(every="100"), "--every takes tokens"),
        (Selection(every="0B"), "--every takes tokens"),
        (Selection(stage=4), "There is no revision of stage 4: there are 1, 2"),
        (Selection(max_points=3), "--max-points 3 is too few: the first and last of each stage make 7"),
    ],
)
def test_what_cannot_be_chosen_is_said(selection: Selection, message: str) -> None:
    """What may be written, and what there is."""
    with pytest.raises(UsageError, match=message):
        select_revisions(OLMO_2, selection)


def test_tokens_that_names_do_not_tell_are_not_made_up() -> None:
    """OLMo-3's later stages tell steps alone."""
    with pytest.raises(
        UsageError, match="stage2-step1000 does not say how many tokens were seen, so --every 1B cannot be measured"
    ):
        select_revisions([parse_revision("stage2-step1000"), parse_revision("stage2-step2000")], Selection(every="1B"))
    with pytest.raises(UsageError, match="the names do not say stages"):
        select_revisions(OLMO_1, Selection(stage=1))


def test_gaps_of_a_regular_series_are_seen() -> None:
    """Two revisions missing between 5,000 and 8,000; stages apart; no claim about a series without a usual distance."""
    series = [parse_revision(f"stage1-step{n}000") for n in (1, 2, 3, 4, 5, 8, 9)]
    other = [parse_revision(f"stage2-step{n}") for n in (100, 200, 300, 400)]
    assert find_gaps([*series, *other]) == [Gap("stage1-step5000", "stage1-step8000", 2, 1000)]
    assert find_gaps([parse_revision(f"step{2**n}") for n in range(10)]) == []
    assert find_gaps(OLMO_1) == []


def test_checkpoints_are_resolved_by_choice(tmp_path: Path) -> None:
    """A selection works on all revisions, or on those that globs fit."""
    for step in range(1, 8):
        make_checkpoint(tmp_path / "many" / f"step{step}00", seed=step)
    chosen = resolve(str(tmp_path / "many"), selection=Selection(max_points=3))
    assert [one.step for one in chosen] == [100, 400, 700]
    chosen = resolve(str(tmp_path / "many"), ["step[1-4]*"], selection=Selection(every="200steps"))
    assert [one.step for one in chosen] == [100, 200, 400]


def test_a_registered_default_gives_way_to_a_choice(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A model with a default revision can be scored at others; one that the name itself asks for stays an error."""
    monkeypatch.setenv("EVALKIT_HOME", str(tmp_path / "home"))
    for step in (1, 2, 3):
        make_checkpoint(tmp_path / "many" / f"step{step}", seed=step)
    user_models.add_model("with-default", str(tmp_path / "many"), default_revision="step2")
    assert [one.step for one in resolve("with-default")] == [2]
    assert [one.step for one in resolve("with-default", selection=Selection(max_points=2))] == [1, 3]
    with pytest.raises(UsageError, match="already has a revision"):
        resolve("with-default@step2", "step*")
    user_models.remove_model("with-default")  # the registry outlives this test's home
