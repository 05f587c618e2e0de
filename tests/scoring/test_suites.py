"""Suites as data: members with options of their own, suites in suites, and the scores that a run of one has."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest

from evalkit import load_run, recompute_metrics, registry, run
from evalkit.errors import DataUnavailable, UsageError
from evalkit.registry import SuiteEntry, SuiteMember, suites
from evalkit.reports.page import write_report
from evalkit.results.reading import read_metrics
from evalkit.results.suites import shape_of
from evalkit.scoring.collect import collect, completed, expand
from evalkit.statistics.suite_scores import Member, Shape
from evalkit.task import TaskOptions
from evalkit.tasks import suites as shipped
from evalkit.tasks.suites import read_suite
from tests.made import invented_tasks  # noqa: F401 (registers test_texts)
from tests.made.command_line import DOCS

COLOURS = """
import math
from evalkit.records import Document, Metric, Prompt
from evalkit.registry import TaskEntry, tasks
from evalkit.statistics.metrics import choice_metrics, predict
from evalkit.task import TaskBase

class Colours(TaskBase):
    '''Questions in two forms, of which a limit takes the first.'''
    def __init__(self, name, options):
        self.name, self.split = name, options.split or "test"
        self.shots = 0 if options.shots is None else options.shots
        self.n = min(options.limit or 30, 30)
    @property
    def limited(self):
        return self.n < 30
    def protocol(self):
        return {"version": 1, "documents": self.n, "split": self.split, "shots": self.shots, "primary": "acc"}
    def documents(self):
        for i in range(self.n):
            yield Document(i, None, {"options": ["red", "green", "blue"], "gold": i % 3})
    def prompts(self, document):
        asked = f"{self.name} {self.split} {self.shots} {document.index}:"
        return [Prompt(asked, " " + option, "joint", i) for i, option in enumerate(document.fields["options"])]
    def score(self, document, scores):
        row = {"index": document.index, "native_id": None, "gold": document.fields["gold"], "truncated": 0,
               "sums": [score.sum for score in scores], "tokens": [score.tokens for score in scores],
               "characters": [3, 5, 4], "bytes": [3, 5, 4], "is_greedy": [score.is_greedy for score in scores]}
        return row | {"predicted": predict(row)}
    def metrics(self, rows):
        base = Metric(self.name.base, "", math.nan, 0, form=self.name.form, regime=self.name.regime, limited=self.limited)
        return choice_metrics(rows, base=base, names=["acc"], primary="acc")

for _name in ("colours", "shades"):
    tasks.add(TaskEntry(_name, Colours, {"olmes": ("rc", "mc")}, where=__name__))
"""
SUITES = Path(str(shipped.__file__)).parent
MADE = ("inner", "outer", "better", "around", "mixed", "strict", "nothing")


@pytest.fixture
def made(alone: Path) -> Iterator[Path]:
    """Two tasks in two forms; suites that a test adds are gone when it ends."""
    (alone / "my_tasks").mkdir()
    (alone / "my_tasks" / "colours.py").write_text(COLOURS, encoding="utf-8")
    registry.load_tasks_dir(alone / "my_tasks")
    yield alone
    for name in ("colours", "shades"):
        registry.tasks.remove(name)
    for name in MADE:
        suites.remove(name)


def add(folder: Path, name: str, text: str) -> SuiteEntry:
    """A suite from YAML, registered."""
    (folder / f"{name}.yaml").write_text(text, encoding="utf-8")
    return suites.add(read_suite(folder / f"{name}.yaml"))


def test_a_suite_is_data(made: Path) -> None:
    """Members with options, weights and baselines; a plain name is a member without."""
    entry = add(
        made,
        "outer",
        "tasks:\n  - colours::olmes\n  - {task: shades::olmes, shots: 3, split: train, weight: 2, baseline: 0.25}\n"
        "aggregation: centred\nmetric: acc\noptions: {sample: 7}\n",
    )
    assert entry.tasks == ("colours::olmes", "shades::olmes")
    assert entry.members == (
        SuiteMember("colours::olmes"),
        SuiteMember("shades::olmes", {"shots": 3, "split": "train"}, 2.0, 0.25),
    )
    shape, leaves = expand(entry)
    members = (Member("colours:rc::olmes", limited=True), Member("shades:rc::olmes", None, 2.0, 0.25, limited=True))
    assert shape == Shape("outer", members, "centred", "acc")
    assert leaves == {
        "colours:rc::olmes": {"sample": 7},
        "shades:rc::olmes": {"sample": 7, "shots": 3, "split": "train"},
    }


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("tasks:\n  - {shots: 3}\n", "each of its tasks has 'task' or 'suite', a name"),
        ("tasks:\n  - {task: a, suite: b}\n", "each of its tasks has 'task' or 'suite', a name"),
        ("tasks:\n  - {task: a, weigth: 3}\n", "there is no field tasks.0.weigth"),
        ("tasks:\n  - {task: a, baseline: 25}\n", "tasks.0.baseline should be less than 1"),
        ("tasks: [a]\naggregation: median\n", "aggregation should be 'macro'"),
        ("tasks: [a]\naggregation: weighted\n", "is weighted, so each of its tasks needs a 'weight'"),
        ("tasks: [{task: a, weight: 0}]\n", "the weight 0, so it has no score"),
        ("tasks: 3\n", "tasks should be a valid list"),
    ],
)
def test_what_is_no_suite_is_told(made: Path, text: str, told: str) -> None:
    """In a sentence that names the file and the field."""
    with pytest.raises(UsageError, match="(?s)outer.yaml.*" + told.replace(".", r"\.")):
        add(made, "outer", text)


def test_suites_nest_and_options_go_inwards(made: Path) -> None:
    """What an outer suite says of a member is stronger than what that says of its own; its defaults are weaker. The user's
    options are the strongest."""
    add(
        made,
        "inner",
        "tasks:\n  - {task: colours::olmes, shots: 1}\n  - {task: shades::olmes, split: train}\noptions: {shots: 2}\n",
    )
    outer = add(
        made, "outer", "tasks:\n  - {suite: inner, split: val}\n  - colours:mc::olmes\noptions: {shots: 5, limit: 9}\n"
    )
    shape, leaves = expand(outer)
    assert leaves == {
        "colours:rc::olmes": {"shots": 1, "split": "val", "limit": 9},
        "shades:rc::olmes": {"shots": 2, "split": "val", "limit": 9},
        "colours:mc::olmes": {"shots": 5, "limit": 9},
    }
    assert [member.name for member in shape.members] == ["inner", "colours:mc::olmes"]
    assert shape.members[0].suite is not None
    assert completed(TaskOptions(shots=0), leaves["colours:rc::olmes"], outer) == TaskOptions(
        split="val", shots=0, limit=9
    )
    assert completed(TaskOptions(), {"seed": 7}, outer).seed == 7


def test_suites_that_cannot_be_are_told(made: Path) -> None:
    """In themselves, asking one task in two ways, of texts in another, with an unknown aggregation."""
    add(made, "inner", "tasks: [outer]\n")
    add(made, "outer", "tasks: [inner]\n")
    with pytest.raises(UsageError, match=r"contains itself: outer > inner > outer"):
        expand(suites.get("outer"))
    twice = SuiteEntry("s", members=(SuiteMember("colours::olmes"), SuiteMember("colours::olmes", {"shots": 3})))
    with pytest.raises(UsageError, match=r"contains colours:rc::olmes twice with different options"):
        expand(twice)
    with pytest.raises(UsageError, match=r"contains the text suite 'paloma-mini'"):
        expand(SuiteEntry("s", ("paloma-mini",)))
    with pytest.raises(UsageError, match=r"the unknown aggregation 'mean'; choose from macro, micro"):
        expand(SuiteEntry("s", ("colours::olmes",), aggregation="mean"))


def scored(checkpoint: Path, suite: str, **options: object) -> Path:
    """The folder of a run on the fake engine."""
    (found,) = run(
        checkpoint, suite=[suite], engine="fake", output="results", report=False, tasks_dir="my_tasks", **options
    )  # type: ignore[arg-type]
    return found.path


def scores_of(folder: Path) -> dict[str, dict[str, object]]:
    """The suite scores of a run, by name."""
    return {record["task"]: record for record in read_metrics(folder) if record["metric"] == "suite_score"}


def test_a_run_has_the_scores_of_its_suites(made: Path, checkpoint: Path) -> None:
    """The suite's, which is primary, and the inner one's; ``evalkit metrics`` makes the same from rows, without the suite."""
    add(made, "inner", "tasks: [shades:rc::olmes, shades:mc::olmes]\naggregation: micro\n")
    add(made, "outer", "tasks: ['colours:rc::olmes', inner]\n")
    folder = scored(checkpoint, "outer")
    records = read_metrics(folder)
    means = {(r["task"], r["form"]): r["value"] for r in records if r["metric"] == "acc"}
    found = scores_of(folder)
    inner = (means["shades", "rc"] + means["shades", "mc"]) / 2
    assert found["inner"]["value"] == pytest.approx(inner)
    assert found["outer"]["value"] == pytest.approx((means["colours", "rc"] + inner) / 2)
    assert [record["primary"] for record in found.values()] == [True, False]
    assert found["outer"]["n"] == 90
    assert found["outer"]["ci_low"] < found["outer"]["value"] < found["outer"]["ci_high"]  # type: ignore[operator]
    # by hand: the spread of colours, and of the mean of the two forms of each question of shades
    rows = {name: load_run(folder).rows(name) for name in load_run(folder).tasks}
    hits = {name: np.array([row["predicted"] == row["gold"] for row in own], float) for name, own in rows.items()}
    forms = (hits["shades:rc::olmes"] + hits["shades:mc::olmes"]) / 2
    variance = np.var(hits["colours:rc::olmes"], ddof=1) / 30 + np.var(forms, ddof=1) / 30
    assert found["outer"]["stderr"] == pytest.approx(math.sqrt(variance) / 2)
    suites.remove("outer")
    suites.remove("inner")
    again = [asdict(metric) for metric in recompute_metrics(folder, write=False)]
    assert [
        {key: value for key, value in metric.items() if key in record}
        for metric, record in zip(again, records, strict=True)
    ] == [pytest.approx(record, nan_ok=True) for record in records]


def test_mc_or_rc_says_what_it_chose(made: Path, checkpoint: Path) -> None:
    """The better form of each task, and which that was."""
    add(
        made,
        "better",
        "tasks: [colours:rc::olmes, colours:mc::olmes, shades:rc::olmes, shades:mc::olmes]\naggregation: mc_or_rc\n",
    )
    folder = scored(checkpoint, "better")
    means = {(r["task"], r["form"]): r["value"] for r in read_metrics(folder) if r["metric"] == "acc"}
    (score,) = scores_of(folder).values()
    best = {task: max(("rc", "mc"), key=lambda form: means[task, form]) for task in ("colours", "shades")}
    assert score["value"] == pytest.approx(sum(means[item] for item in best.items()) / 2)
    assert score["note"] == "the better form of each task: " + ", ".join(f"{t}:{f}::olmes" for t, f in best.items())


@pytest.mark.parametrize(
    ("options", "name"),
    [
        ({}, "outer"),
        ({"limit": 7}, "part of outer"),
        ({"split": "val"}, "part of outer"),
        ({"split": "test", "shots": 0}, "outer"),  # as the tasks do without being told
        ({"shots": 3}, "outer with other shots"),
    ],
)
def test_what_is_not_the_whole_suite_does_not_have_its_name(
    made: Path, checkpoint: Path, options: dict[str, object], name: str
) -> None:
    """Fewer documents, another split, other shots; also when metrics are made again."""
    add(made, "outer", "tasks: [colours::olmes, shades::olmes]\n")
    folder = scored(checkpoint, "outer", **options)
    assert list(scores_of(folder)) == [name]
    recompute_metrics(folder)
    assert list(scores_of(folder)) == [name]
    assert load_run(folder).suite == "outer"


def test_a_suite_that_asks_few_documents_is_whole_with_them(made: Path, checkpoint: Path) -> None:
    """Its own limit is what it is; another limit makes a part of it."""
    add(made, "outer", "tasks: [colours::olmes, shades::olmes]\noptions: {limit: 12}\n")
    for limit, name in ((None, "outer"), (5, "part of outer")):
        (score,) = scores_of(scored(checkpoint, "outer", limit=limit)).values()
        assert (score["task"], score["limited"]) == (name, True)


def test_a_score_that_cannot_be_has_a_reason(made: Path, checkpoint: Path) -> None:
    """Accuracy and nats per token have no mean; a task whose rows are gone is missed, and no mean of fewer is made."""
    add(made, "mixed", "tasks: [colours::olmes, test_texts]\n")
    folder = scored(checkpoint, "mixed")
    (record,) = [r for r in read_metrics(folder) if r["task"] == "mixed"]
    assert record["value"] is None
    assert record["note"] == "not available: higher is better for some of its tasks and lower for others"
    add(made, "outer", "tasks: [colours::olmes, shades::olmes]\n")
    folder = scored(checkpoint, "outer")
    info = json.loads((folder / "run.json").read_text(encoding="utf-8"))
    del info["tasks"]["shades:rc::olmes"]
    (folder / "run.json").write_text(json.dumps(info), encoding="utf-8")
    (score,) = [metric for metric in recompute_metrics(folder) if metric.metric == "suite_score"]
    assert (score.task, score.note) == ("part of outer", "not available: shades:rc::olmes was not scored")
    assert math.isnan(score.value)


def test_a_run_warns_of_answers_that_say_nothing(made: Path, checkpoint: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of all documents the last option is the likeliest: nothing is above chance; said in run.json and on pages."""
    monkeypatch.setattr("evalkit.statistics.degenerate.LEAST_DOCUMENTS", 30)
    file = made / "my_tasks" / "colours.py"
    file.write_text(COLOURS.replace("[score.sum for score in scores]", "[-3.0, -2.0, -1.0]"), encoding="utf-8")
    add(made, "outer", "tasks: [colours::olmes, shades::olmes]\n")
    folder = scored(checkpoint, "outer")
    told = load_run(folder).info["warnings"]
    assert told[-3:] == [
        "No task of outer is significantly above chance (95 %), so its score says nothing about what the model knows.",
        *(
            f"{name}:rc::olmes: option 3 is chosen for 100% of 30 documents, but is correct for 33%. The "
            "answers do not depend on the questions."
            for name in ("colours", "shades")
        ),
    ]
    write_report([folder], made / "page.html")
    assert "is chosen for 100% of 30 documents" in (made / "page.html").read_text(encoding="utf-8")


def test_runs_that_do_not_say_how_have_a_mean(made: Path, checkpoint: Path) -> None:
    """A run folder of before: the mean of its questions; a damaged description is left out likewise."""
    add(made, "outer", "tasks: [colours::olmes, shades::olmes]\n")
    folder = scored(checkpoint, "outer")
    before = scores_of(folder)["outer"]["value"]
    info = json.loads((folder / "run.json").read_text(encoding="utf-8"))
    for score in (None, {"shape": {"name": 3}}, {"shape": {"name": "x", "aggregation": "macro", "members": [{}]}}):
        (folder / "run.json").write_text(json.dumps({**info, "score": score}), encoding="utf-8")
        (again,) = [metric for metric in recompute_metrics(folder, write=False) if metric.metric == "suite_score"]
        assert (again.task, again.value) == ("outer", pytest.approx(before))
    mixed = {"suite": "s", "tasks": {"a": {"kind": "choice"}, "b": {"kind": "text"}}}
    assert shape_of(mixed) == Shape("s", (Member("a"), Member("b", weight=0.0)))
    assert shape_of({**mixed, "suite": "tasks"}) is None
    assert shape_of({**mixed, "aggregation": "texts"}) is None


def test_the_suite_of_the_page(made: Path) -> None:
    """docs/tasks.md shows a suite that can be read, with another in it."""
    text = (DOCS / "tasks.md").read_text(encoding="utf-8").partition("## Suites\n")[2]
    shape, leaves = expand(add(made, "outer", text.partition("```yaml\n")[2].partition("```")[0]))
    assert [member.name for member in shape.members] == [
        "arc_easy:rc::olmes", "arc_challenge:rc::olmes", "olmo1", "quickstart_texts",
    ]  # fmt: skip
    assert leaves["arc_challenge:rc::olmes"] == {"split": "validation", "data_source": "bundle", "shots": 0}
    assert "quickstart_texts" not in dict(shape.scored_tasks())


def test_a_suite_beside_has_a_score_too(made: Path, checkpoint: Path) -> None:
    """A suite with the weight 0 is scored and shown, by a metric of its own, and is not part of the score."""
    add(made, "inner", "tasks: [shades::olmes]\nmetric: acc\n")
    add(made, "outer", "metric: soft_log\ntasks: [colours::olmes, {suite: inner, weight: 0}]\n")
    values = {(one["task"], one["metric"]): one["value"] for one in read_metrics(scored(checkpoint, "outer"))}
    assert values["inner", "suite_score"] == pytest.approx(values["shades", "acc"])
    assert values["outer", "mean_soft_log"] == pytest.approx(values["colours", "soft_log"])


def test_a_member_that_cannot_be_asked(made: Path, checkpoint: Path) -> None:
    """It takes the score and the suite's name, with its reason, also where metrics are made again; the others stand."""
    add(made, "outer", "tasks: [colours::olmes, {task: riddles, missing: nobody wrote them}]\n")
    folder = scored(checkpoint, "outer")
    again = [asdict(metric) for metric in recompute_metrics(folder, write=False)]
    for metrics in (read_metrics(folder), again):
        (score,) = [metric for metric in metrics if metric["metric"] == "suite_score"]
        assert score["task"] == "part of outer"
        assert score["value"] is None or math.isnan(score["value"])
        assert score["note"] == "not available: riddles cannot be scored (nobody wrote them)"
        assert [one["n"] for one in metrics if (one["task"], one["metric"]) == ("colours", "acc")] == [30]
    with pytest.raises(UsageError, match="all are missing"):
        add(made, "better", "tasks: [{task: riddles, missing: nobody wrote them}]\n")


def test_a_suite_of_what_there_is(made: Path, checkpoint: Path) -> None:
    """With `skip_unavailable` what cannot be asked here takes the score, with its reason; without it, it is an error."""
    members = "tasks: [colours::olmes, {task: 'hellaswag::lm-eval', shots: 10}, 'codex_humaneval:gen::olmes']\n"
    add(made, "outer", f"data_source: bundle\nskip_unavailable: true\n{members}")
    add(made, "strict", f"data_source: bundle\n{members}")
    add(
        made,
        "nothing",
        "data_source: bundle\nskip_unavailable: true\ntasks: [{task: 'hellaswag::lm-eval', shots: 10}]\n",
    )
    notes: list[str] = []
    tasks, _ = collect(["outer"], [], TaskOptions(), notes.append)
    assert [str(task.name) for task, _ in tasks] == ["colours:rc::olmes"]
    assert [note.partition(": ")[0] for note in notes] == [
        "outer without hellaswag:rc::lm-eval",
        "outer without codex_humaneval:gen::olmes",
    ]
    folder = scored(checkpoint, "outer")
    for metrics in (read_metrics(folder), [asdict(metric) for metric in recompute_metrics(folder, write=False)]):
        (score,) = [metric for metric in metrics if metric["metric"] == "suite_score"]
        assert score["task"] == "part of outer"
        assert score["value"] is None or math.isnan(score["value"])
        assert (
            "hellaswag:rc::lm-eval cannot be scored (lm-eval draws its examples from the train split" in score["note"]
        )
        assert "codex_humaneval:gen::olmes cannot be scored (codex_humaneval:gen::olmes runs programs" in score["note"]
    with pytest.raises(UsageError, match="Add --allow-code-execution"):
        scored(checkpoint, "strict")
    with pytest.raises(
        DataUnavailable, match="No task of the suite 'nothing' can be scored: lm-eval draws its examples"
    ):
        collect(["nothing"], [], TaskOptions())


def test_shipped_suites_expand() -> None:
    """Every suite that ships names tasks that there are, and keeps its texts out of a mean of accuracies."""
    asked = {"olmo-core-fast": 26, "olmo-core-small": 61, "olmo-core-large": 35, "mmlu": 57, "mmlu-rc": 57}
    for entry in suites:
        if not entry.where.startswith(str(SUITES)):
            continue
        shape, leaves = expand(entry)
        missing = {member.name for member in entry.members if member.missing}
        assert list(leaves) == [name for name in shape.tasks() if name not in missing]
        assert len(leaves) == asked.get(entry.name, len(leaves))
    assert "quickstart_texts" not in dict(expand(suites.get("quickstart"))[0].scored_tasks())
    easy = expand(suites.get("olmobase-easy"))[0]
    assert len(easy.members) == 51
    assert {member.weight for member in easy.members} == {None}
    _, groups = collect(["olmes", "quickstart"], [], TaskOptions())
    assert [group.altered for group in groups] == [(), ()]


def test_mmlu_has_each_subject_once_in_a_group() -> None:
    """The four groups of OLMo-core (``olmo_eval/tasks.py``) together are the 57 subjects; MMLU is weighted by questions."""
    for name, form in (("mmlu", "mc"), ("mmlu-rc", "rc")):
        shape, leaves = expand(suites.get(name))
        groups = [member for member in shape.members if member.counts]
        assert [len(group.suite.tasks()) for group in groups if group.suite] == [18, 13, 12, 14]
        assert sum(len(group.suite.tasks()) for group in groups if group.suite) == len(leaves) == 57
        assert all(task.endswith(f":{form}::olmes") for task in leaves)
        assert {shape.aggregation, *(group.suite.aggregation for group in groups if group.suite)} == {"micro"}
        parts = registry.task_family("mmlu").groups
        assert [sorted(group.suite.tasks()) for group in groups if group.suite] == [
            [f"mmlu/{part}:{form}::olmes" for part in sorted(parts[key])]
            for key in ("stem", "humanities", "social_sciences", "other")
        ]
