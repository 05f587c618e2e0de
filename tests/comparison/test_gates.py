"""The rules of --fail-if: how they are read, when they fire, and what is said of those that cannot be judged."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from evalkit.comparison.compare import Comparison, compare_runs
from evalkit.comparison.gates import Rule, check_rules, parse_rule
from evalkit.errors import EvalkitError, UnknownName, UsageError
from tests.made.document_runs import choice_rows, text_rows, write_run

HITS = np.random.default_rng(0).integers(0, 2, 200).astype(float)


def made_runs(folder: Path, *, shots: bool) -> Comparison:
    """B against A: arc_easy 8 points worse, hellaswag half a point better, wikihow's gardens 0.2 bits worse; and, if asked
    for, a task of other shots."""
    worse = HITS.copy()
    worse[np.flatnonzero(HITS == 1)[:16]] = 0
    better = HITS.copy()
    better[np.flatnonzero(HITS == 0)[0]] = 1
    sizes, noise = [100 + i for i in range(20)], np.random.default_rng(1).normal(0, 0.02, (2, 20))
    texts = [{"Home & Garden": (1 + noise[i] + 0.2 * i, sizes), "Food": (1 - noise[i], sizes)} for i in range(2)]
    runs: list[Path] = []
    for i, (easy, swag) in enumerate(((HITS, HITS), (worse, better))):
        tasks = {
            "arc_easy:rc::olmes": ("choice", choice_rows(easy.tolist())),
            "hellaswag": ("choice", choice_rows(swag.tolist())),
            "t/wikihow": ("text", text_rows("wikihow", texts[i])),
        }
        if shots:
            tasks["shots"] = ("choice", choice_rows(HITS.tolist()))
        protocols = {"shots": {"shots": i}} if shots else {}
        runs.append(write_run(folder / str(i), tasks, revision=f"step{i}", protocols=protocols))
    return compare_runs(runs)


@pytest.fixture(scope="module")
def comparison(tmp_path_factory: pytest.TempPathFactory) -> Comparison:
    return made_runs(tmp_path_factory.mktemp("runs"), shots=False)


@pytest.fixture(scope="module")
def refused(tmp_path_factory: pytest.TempPathFactory) -> Comparison:
    return made_runs(tmp_path_factory.mktemp("runs"), shots=True)


@pytest.mark.parametrize(
    ("text", "rule"),
    [
        ("any primary worse resolved", {"any": "primary", "sign": "worse", "resolved": True}),
        ("any domain worse by 0.05", {"any": "domain", "sign": "worse", "number": 0.05}),
        ("macro(bits_per_byte) > +0.01", {"macro": "bits_per_byte", "sign": ">", "number": 0.01}),
        ("macro(acc)>=.5", {"macro": "acc", "sign": ">=", "number": 0.5}),
        (
            "arc_easy.acc_norm < -0.02 resolved",
            {"name": "arc_easy", "metric": "acc_norm", "sign": "<", "number": -0.02, "resolved": True},
        ),
        ("arc_easy:mc::olmes better", {"name": "arc_easy:mc::olmes", "sign": "better"}),
        ('"wikihow/Home & Garden" worse', {"name": "wikihow/Home & Garden", "sign": "worse"}),
        ("x < −1e-3", {"name": "x", "sign": "<", "number": -0.001}),
    ],
)
def test_rules_are_read(text: str, rule: dict[str, object]) -> None:
    """Each form of the language."""
    assert parse_rule(text) == Rule(text, **rule)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "at its end: it is empty"),
        ("any thing worse", "at 'thing': 'any' must be followed by one of primary, task, source, domain"),
        ("any", "at its end: 'any' must be followed by"),
        ("arc_easy", "at its end: expected 'worse', 'better', or"),
        ("arc_easy is bad", "at 'is': expected 'worse', 'better', or"),
        ("arc_easy < much", "at 'much': '<' must be followed by a number"),
        ("arc_easy <", "at its end: '<' must be followed by a number"),
        ("any task worse by -1", "at '-1': 'by' must be followed by a size"),
        ("any task worse surely", "at 'surely': only 'resolved' may follow"),
        ("macro(bits", "at 'macro(bits': a mean is written macro(METRIC)"),
        ("worse", "at 'worse': a rule starts with"),
        ("> 3", "at '>': a rule starts with"),
        ('"open worse', "has a quote that is not closed"),
    ],
)
def test_rules_that_are_not_understood_say_where(text: str, message: str) -> None:
    """The place and what may stand there, in one sentence, as an error of the command line."""
    with pytest.raises(UsageError) as caught:
        parse_rule(text)
    assert message in str(caught.value)
    assert caught.value.exit_code == 2


@pytest.mark.parametrize(
    ("text", "first"),
    [
        ("any primary worse resolved", "wikihow/Home & Garden +0.19"),
        ("any task worse", "arc_easy:rc::olmes −8.0 points"),
        ("any task worse by 0.07", "arc_easy:rc::olmes −8.0 points"),
        ("any source worse", "wikihow +0.10"),
        ("any task better", "hellaswag +0.5 points"),
        ("macro(bits_per_byte) > 0.05", "macro bits_per_byte +0.10"),
        ("macro(bits_per_byte) worse resolved", "macro bits_per_byte +0.10"),
        ("macro(acc) < -0.03", "macro acc −3.8 points"),
        ("arc_easy < -0.05 resolved", "arc_easy:rc::olmes −8.0 points"),
        ("arc_easy.bits_per_byte > 0.1", "arc_easy:rc::olmes +0."),
        ('"wikihow/Home & Garden" worse by 0.1 resolved', "wikihow/Home & Garden +0.19"),
        ("wikihow > 0", "wikihow +0.10"),
        ("hellaswag better", "hellaswag +0.5 points"),
    ],
)
def test_rules_fire(comparison: Comparison, text: str, first: str) -> None:
    """What holds is named, the largest change first."""
    (fired,) = check_rules(comparison, [parse_rule(text)])
    assert fired.reasons[0].startswith(first)
    assert str(fired).startswith(f"'{text}' fired for step1: {first}")


@pytest.mark.parametrize(
    "text",
    [
        "hellaswag better resolved",
        "any task worse by 0.08",
        "any task > 0.01",
        "any domain worse by 0.3",
        "macro(bits_per_byte) > 0.2",
        "macro(bits_per_byte) better",
        "macro(acc) > 0",
        "macro(acc) better",
        "arc_easy < -0.2",
        "wikihow/Food worse resolved",
    ],
)
def test_rules_do_not_fire(comparison: Comparison, text: str) -> None:
    """What does not hold, or holds but not surely, is silent."""
    assert check_rules(comparison, [parse_rule(text)]) == []


def test_a_gate_that_cannot_close_is_an_error(refused: Comparison) -> None:
    """Unknown names, unknown metrics, and tasks that do not compare: never taken for a pass."""
    with pytest.raises(UnknownName, match="Did you mean 'hellaswag'"):
        check_rules(refused, [parse_rule("helaswag worse")])
    with pytest.raises(UnknownName, match="no metric 'acc_pmi'"):
        check_rules(refused, [parse_rule("hellaswag.acc_pmi worse")])
    with pytest.raises(UnknownName, match="no mean 'acc_pmi'"):
        check_rules(refused, [parse_rule("macro(acc_pmi) worse")])
    for rule in ("shots worse", "any task worse by 0.5", "any primary better by 9", "macro(acc) < -0.5"):
        with pytest.raises(EvalkitError, match=r"cannot be evaluated for step1: shots: shots: 1 against 0"):
            check_rules(refused, [parse_rule(rule)])


def test_a_gate_fires_whatever_else_cannot_be_judged(refused: Comparison) -> None:
    """A regression that is sure comes before what is not known; rules on texts do not ask for questions."""
    assert [one.rule for one in check_rules(refused, [parse_rule("any task worse resolved")])] == [
        "any task worse resolved"
    ]
    assert check_rules(refused, [parse_rule("macro(bits_per_byte) > 0.2")]) == []


def simple(folder: Path, tasks: dict[str, Any], **more: Any) -> Path:
    return write_run(folder, tasks, model=more.pop("model", folder.name), **more)


def test_what_a_run_has_lost_is_an_error(tmp_path: Path) -> None:
    """A task that only the baseline has, one that only the run has, and one that is not scored yet."""
    both = {name: ("choice", choice_rows(HITS.tolist())) for name in ("one", "two")}
    a, b = simple(tmp_path / "a", both), simple(tmp_path / "b", {"one": both["one"]})
    for runs, owner in (((a, b), "a"), ((b, a), "a")):
        with pytest.raises(EvalkitError, match=f"two: only {owner} has it"):
            check_rules(compare_runs(runs), [parse_rule("any primary worse resolved")])
    c = simple(tmp_path / "c", both)
    (c / "documents" / "two.parquet").unlink()
    with pytest.raises(EvalkitError, match="two: c has not scored it yet"):
        check_rules(compare_runs([a, c]), [parse_rule("any primary worse")])


def test_what_cannot_be_tested_is_an_error(tmp_path: Path) -> None:
    """Domains of one document, documents without a score, and a rule that fits no line."""
    texts = {"t/s": ("text", text_rows("s", {"x": ([1.0], [100]), "y": ([1.0], [90]), "z": ([1.0], [80])}))}
    a, b = simple(tmp_path / "a", texts), simple(tmp_path / "b", texts | {"t/s": ("text", text_rows(
        "s", {"x": ([1.9], [100]), "y": ([1.0], [90]), "z": ([1.1], [80])}))})  # fmt: skip
    comparison = compare_runs([a, b])
    with pytest.raises(EvalkitError, match=r"s/x: too few documents to test \(1\)"):
        check_rules(comparison, [parse_rule("any domain worse resolved")])
    assert check_rules(comparison, [parse_rule("any domain worse by 0.5")])[0].reasons == ("s/x +0.900 bits per byte",)
    with pytest.raises(EvalkitError, match="there is no task to compare"):
        check_rules(comparison, [parse_rule("any task worse")])
    c = simple(tmp_path / "c", {"one": ("choice", choice_rows([float("nan")] * 8))})
    d = simple(tmp_path / "d", {"one": ("choice", choice_rows([1.0] * 8))})
    with pytest.raises(EvalkitError, match="one: no document has a score in both runs"):
        check_rules(compare_runs([d, c]), [parse_rule("any task worse")])


def test_one_level_for_all_rules_and_runs(tmp_path: Path) -> None:
    """8 losses and no gain of 200: McNemar's p is 2 / 2^8 = 0.0078. Alone it is resolved; of seven tests it is not."""
    lost = HITS.copy()
    lost[np.flatnonzero(HITS == 1)[:8]] = 0
    names = [f"t{i}" for i in range(7)]
    same = {name: ("choice", choice_rows(HITS.tolist())) for name in names}
    a = simple(tmp_path / "a", same)
    b = simple(tmp_path / "b", same | {"t0": ("choice", choice_rows(lost.tolist()))})
    comparison = compare_runs([a, b])
    assert check_rules(comparison, [parse_rule("t0 worse resolved")])
    assert not check_rules(comparison, [parse_rule("any task worse resolved")])
    assert not check_rules(comparison, [parse_rule(f"{name} worse resolved") for name in names])
    runs = compare_runs([a, b, *(simple(tmp_path / f"c{i}", same) for i in range(6))])
    assert not check_rules(runs, [parse_rule("t0 worse resolved")])
