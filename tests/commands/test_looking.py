"""Looking without scoring: list, show, report, metrics, models, data, doctor."""

from __future__ import annotations

import io
import json
from pathlib import Path

import pytest
from rich.console import Console

from evalkit import registry
from evalkit.commands import task_listing
from evalkit.commands.terminal import clean, size
from tests.made import invented_tasks  # noqa: F401 (registers test_tales)
from tests.made.byte_checkpoints import make_checkpoint
from tests.made.command_line import Command, fake_run


def test_no_command_prints_the_help(evalkit: Command) -> None:
    """A person who types the name alone learns what there is."""
    done = evalkit()
    assert done.code == 0
    for name in (
        "run",
        "train",
        "watch",
        "compare",
        "trend",
        "list",
        "show",
        "report",
        "leaderboard",
        "metrics",
        "models",
        "data",
        "doctor",
    ):
        assert f" {name} " in done.out


@pytest.mark.parametrize("later", ["contamination", "decontaminate", "corpus"])
def test_what_does_not_work_yet_is_not_there(evalkit: Command, later: str) -> None:
    """No stubs."""
    assert "There is no command" in evalkit(later).fails(2)


def test_the_version(evalkit: Command) -> None:
    """--version names it."""
    assert evalkit("--version").out == "evalkit 0.1.0\n"


@pytest.mark.parametrize(
    ("kind", "some"),
    [("tasks", "arc_easy"), ("suites", "quickstart"), ("models", "olmo-tiny"), ("engines", "transformers")],
)
def test_lists_for_people_and_for_programs(evalkit: Command, kind: str, some: str) -> None:
    """The same names in the table and in --json."""
    assert some in evalkit("list", kind).out
    assert some in [entry["name"] for entry in json.loads(evalkit("list", kind, "--json").out)]


def test_listed_names_of_tasks_are_complete(evalkit: Command) -> None:
    """--json gives every full name, ready for --task."""
    names = [name for entry in json.loads(evalkit("list", "tasks", "--json").out) for name in entry["names"]]
    assert {"arc_easy:rc::lm-eval", "arc_easy:mc::olmes", "hellaswag:rc::olmo1"} <= set(names)
    assert all(str(registry.parse_task_name(name)) == name for name in names)


def test_suites_are_told_in_short_and_whole(evalkit: Command) -> None:
    """A line a suite with the number of its tasks, those of suites in it too; NAME tells members, options and the score."""
    rows = {line.split()[0]: line.split()[1] for line in evalkit("list", "suites").out.splitlines() if line.strip()}
    assert {name: rows[name] for name in ("olmo-core-small", "mmlu", "olmobase-easy", "uncheatable")} == {
        "olmo-core-small": "61",
        "mmlu": "57",
        "olmobase-easy": "56",
        "uncheatable": "1",
    }
    told = evalkit("list", "suites", "open-llm-v1").out
    for said in ("shots 25", "gsm8k", "lm-eval/truthfulqa_mc2", "62 tasks in all"):
        assert said in told
    (entry,) = json.loads(evalkit("list", "suites", "open-llm-v1", "--json").out)
    assert entry["members"][0] == {"name": "arc_challenge::lm-eval", "shots": 25}
    assert "cannot be scored: another model judges its answers" in evalkit("list", "suites", "tulu").out
    assert "Did you mean 'olmes'" in evalkit("list", "suites", "olmess").fails(2)


def test_tasks_fit_a_terminal(evalkit: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    """A line a family, no wider than the terminal; through a pipe the descriptions are whole."""
    lines = io.StringIO()
    terminal = Console(file=lines, force_terminal=True, width=100, color_system=None)
    monkeypatch.setattr(task_listing, "stdout", lambda: terminal)
    evalkit("list", "tasks")
    shown = lines.getvalue().splitlines()
    assert len(shown) <= 60
    assert max(map(len, shown)) <= 100
    (arc,) = [line for line in shown if line.startswith("arc_challenge ")]
    assert arc.split()[:3] == ["arc_challenge", "rc", "rc"]
    assert arc.endswith("…")
    monkeypatch.undo()
    assert registry.tasks.get("arc_challenge").description in evalkit("list", "tasks").out


def test_one_task_is_told_whole(evalkit: Command) -> None:
    """Its variants with split, shots and metric, its parts and groups, its other names, and where its data are."""
    told = evalkit("list", "tasks", "mmlu").out
    for text in ("mmlu:mc::olmes", "Also called: hendrycks_test", "Group stem (18)", "abstract_algebra", "cais/mmlu"):
        assert text in told
    assert told == evalkit("list", "tasks", "hendrycks_test/anatomy:mc::olmes").out
    (entry,) = json.loads(evalkit("list", "tasks", "mmlu", "--json").out)
    assert len(entry["parts"]) == 57
    assert entry["groups"]["other"][0] == "global_facts"
    by_name = {variant["name"]: variant for variant in entry["settings"]}
    assert by_name["mmlu:mc::olmes"] == {
        "name": "mmlu:mc::olmes",
        "kind": "choice",
        "split": "test",
        "shots": 5,
        "primary": "acc",
        "sample": None,
    }
    assert "paloma/c4_en" in evalkit("list", "tasks", "paloma").out
    assert "hellaswag:rc::in-loop, as OLMo-core asks it" in evalkit("list", "tasks", "hellaswag_rc_5shot").out
    assert "Did you mean 'mmlu'?" in evalkit("list", "tasks", "mmlx").fails(2)


def test_runs_are_listed(evalkit: Command, checkpoint: Path, my_tasks: Path) -> None:
    """A folder of results shows its runs; a damaged one is a warning."""
    assert "There are no runs in results" in evalkit("list", "runs").err
    evalkit(*fake_run(checkpoint, my_tasks, "--no-report"))
    Path("results/broken").mkdir()
    Path("results/broken/run.json").write_text("{")
    done = evalkit("list", "runs")
    assert "results/tiny/tasks~fake/main" in done.out
    assert "results/broken/run.json" in done.err


def test_prompts_are_shown_one_a_line(evalkit: Command, my_tasks: Path) -> None:
    """--json prints one object a prompt, to the letter."""
    done = evalkit("show", "capitals", "--tasks-dir", my_tasks, "--limit", "2", "--json")
    lines = [json.loads(line) for line in done.out.splitlines()]
    assert len(lines) == 6
    assert lines[4] == {
        "doc_id": 1,
        "native_id": "Japan",
        "context": "Question: What is the capital of Japan?\nAnswer:",
        "continuation": " Tokyo",
        "label": 1,
    }


def test_one_document_is_shown_at_once(evalkit: Command, alone: Path) -> None:
    """How the task asks in a line, the first example, and the right answer marked; --full and --limit show examples whole."""
    rows = [{"q": f"{name} is red?", "o": ["yes", "no"], "g": 0} for name in ("Mars", "Venus")]
    (alone / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    examples = [{"q": f"Example {number}?", "o": ["yes", "no"], "g": 1} for number in range(3)]
    mine = {
        "data": "rows.jsonl",
        "question": "{{ q }}",
        "options": "{{ o }}",
        "gold": "{{ g }}",
        "preamble": "Answer.\n\n",
        "examples": {"rows": examples},
        "shots": 3,
    }
    (alone / "shown.yaml").write_text(json.dumps(mine))
    words = ("show", "shown", "--tasks-dir", alone)
    try:
        done, full, two = evalkit(*words), evalkit(*words, "--full"), evalkit(*words, "--limit", 2)
        drawn, both = evalkit(*words, "--sample", 1), evalkit(*words, "--sample", 1, "--limit", 1)
        several = evalkit("show", "show*", "--tasks-dir", alone)
        prompts = [json.loads(line) for line in evalkit(*words, "--json").out.splitlines()]
    finally:
        registry.tasks.remove("shown")
    head, *lines = done.out.splitlines()
    for fact in ("split test", "3 shots", "2 documents", "metric acc (also acc_norm", "data rows.jsonl (files)"):
        assert fact in head
    left = len("Example 1?\nAnswer: no\n\n") * 2
    assert "\n".join(lines) == (
        "document 0\nAnswer.\n\nExample 0?\nAnswer: no\n\n"
        f"[{left} more characters of few-shot examples; use --full to show them]\n\nMars is red?\nAnswer:\n  * ' yes'\n    ' no'\n"
    )
    assert several.out == done.out
    assert "Example 2?" in full.out
    assert "Venus" not in full.out
    assert "Example 2?" in two.out
    assert "Venus is red?" in two.out
    assert drawn.out.count(" is red?") == 1
    assert "cannot be combined" in both.fails(2)
    assert [prompt["continuation"] for prompt in prompts] == [" yes", " no"] * 2


WRITTEN = """
description: "Number words"
kind: generation
data: rows.jsonl
split: test
question: "Q: {{ q }}"
cue: "A:"
answer: "{{ a }}"
shots: 0
generation: {stop: ["\\n", "Q:"], max_tokens: 8}
judge: words
"""


def test_what_a_model_is_to_write_is_shown(evalkit: Command, checkpoint: Path, tmp_path: Path) -> None:
    """The prompt, what ends the text, and the right answer: to read, and for programs."""
    (tmp_path / "number_words.yaml").write_text(WRITTEN, encoding="utf-8")
    (tmp_path / "rows.jsonl").write_text('{"q": "one and one?", "a": "two"}\n', encoding="utf-8")
    shown = evalkit("show", "number_words", "--tasks-dir", str(tmp_path)).out
    assert "Q: one and one?\nA:" in shown
    assert "at 8 tokens, or before '\\n', 'Q:'" in shown.replace("\\\\", "\\")
    assert "* 'two'" in shown
    assert "* ''" not in shown
    (line,) = evalkit("show", "number_words", "--json").out.splitlines()
    about = json.loads(line)
    assert about["accepted"] == ["two"]
    assert about["generation"]["stop"] == ["\n", "Q:"]
    assert about["generation"]["max_tokens"] == 8
    tokens = ("show", "number_words", "--tokens", "--model", checkpoint)
    (request,) = evalkit(*tokens, "--json").out.splitlines()
    assert len(json.loads(request)["tokens"]) == len("Q: one and one?\nA:")
    assert json.loads(request)["max_tokens"] == 8
    assert "18 tokens, from which the model writes up to 8 more" in evalkit(*tokens).out
    registry.tasks.remove("number_words")


def test_requests_are_shown_as_tokens(evalkit: Command, checkpoint: Path, my_tasks: Path) -> None:
    """--tokens shows ids and where scoring starts; the test's tokenizer has one token a byte."""
    words = ("show", "capitals", "--tasks-dir", my_tasks, "--limit", 1, "--tokens", "--model", checkpoint)
    first = json.loads(evalkit(*words, "--json").out.splitlines()[0])
    context = "Question: What is the capital of France?\nAnswer:"
    assert first["start"] == len(context)
    assert len(first["tokens"]) == len(context + " Paris")
    assert "scored from 48" in evalkit(*words).out


def test_one_document_of_a_run(evalkit: Command, checkpoint: Path, my_tasks: Path) -> None:
    """A document is found by its own id or by its row, with its options and sums."""
    evalkit(*fake_run(checkpoint, my_tasks, "--no-report"))
    folder = "results/tiny/tasks~fake/main"
    by_id, by_row = evalkit("show", folder, "--doc", "Japan"), evalkit("show", folder, "--doc", "1")
    assert by_id.code == 0, by_id.err
    assert by_id.out == by_row.out
    assert "What is the capital of Japan?" in by_id.out
    assert "' Tokyo'" in by_id.out
    known = json.loads(evalkit("show", folder, "--doc", "Japan", "--json").out)
    assert known["row"]["gold"] == 1
    assert "has no document 'Mars'" in evalkit("show", folder, "--doc", "Mars").fails(2)
    assert "--doc" in evalkit("show", folder).fails(2)


def test_reports_and_metrics_come_again(evalkit: Command, checkpoint: Path, my_tasks: Path) -> None:
    """Without a model: the report is written anew, and the metrics are the same."""
    evalkit(*fake_run(checkpoint, my_tasks, "--no-report"))
    folder = Path("results/tiny/tasks~fake/main")
    before = (folder / "metrics.json").read_bytes()
    done = evalkit("report", folder)
    assert done.code == 0, done.err
    assert done.out.strip() == f"Report: {folder / 'report.html'}"
    assert (folder / "report.html").is_file()
    (folder / "metrics.json").unlink()
    again = evalkit("metrics", folder, "--tasks-dir", my_tasks, "--json")
    assert again.code == 0, again.err
    assert (folder / "metrics.json").read_bytes() == before
    assert json.loads(again.out)[0]["metrics"][0]["task"] == "capitals"


def test_a_report_takes_what_a_glob_finds(evalkit: Command, checkpoint: Path, my_tasks: Path) -> None:
    """Pages and figures of earlier reports lie beside runs and are no runs; samples and figures are chosen here too."""
    evalkit(*fake_run(checkpoint, my_tasks, "--no-report"))
    folder = Path("results/tiny/tasks~fake/main")
    assert evalkit("report", folder, "--out", folder.parent / "report.html", "--figures", "svg").code == 0
    files = sorted(folder.parent.glob("*"))
    assert [file.name for file in files] == ["figures", "main", "report.html"]
    done = evalkit("report", *files, "--samples", "none")
    assert done.code == 0, done.err
    assert "samples-data" not in (folder / "report.html").read_text(encoding="utf-8")
    assert evalkit("report", *files, "--samples", "1").code == 0
    assert "samples-data" in (folder / "report.html").read_text(encoding="utf-8")
    assert "takes a number" in evalkit("report", folder, "--samples", "many").fails(2)
    assert "takes png" in evalkit("report", folder, "--figures", "gif").fails(2)


def test_models_of_ones_own(evalkit: Command, checkpoint: Path) -> None:
    """A name is added, listed, and forgotten; the files stay."""
    assert evalkit("models", "add", "mine", checkpoint).code == 0
    assert str(checkpoint) in evalkit("list", "models").out
    assert "already registered" in evalkit("models", "add", "mine", checkpoint).fails(2)
    assert evalkit("models", "rm", "mine").code == 0
    assert str(checkpoint) not in evalkit("list", "models").out
    assert (checkpoint / "config.json").is_file()


def test_checkpoints_of_a_folder(evalkit: Command, checkpoint: Path) -> None:
    """Revisions in the order of training, with steps and tokens from their names."""
    for name in ("step2000-tokens4B", "step1000-tokens2B"):
        (Path("family") / name).mkdir(parents=True)
        for file in checkpoint.iterdir():
            (Path("family") / name / file.name).write_bytes(file.read_bytes())
    rows = json.loads(evalkit("list", "checkpoints", "family", "--json").out)
    assert [(row["revision"], row["step"], row["tokens"]) for row in rows] == [
        ("step1000-tokens2B", 1000, 2 * 10**9),
        ("step2000-tokens4B", 2000, 4 * 10**9),
    ]


def test_caches_are_listed_and_removed(evalkit: Command, tmp_path: Path) -> None:
    """Sizes in bytes of what can be fetched again."""
    folder = tmp_path / "home" / "cache" / "bundle"
    folder.mkdir(parents=True)
    (folder / "part").write_bytes(b"x" * 1500)
    assert "1.5 kB" in evalkit("data", "list").out
    (row,) = json.loads(evalkit("data", "list", "--json").out)
    assert row["bytes"] == 1500
    assert evalkit("data", "rm", "bundle").code == 0
    assert not folder.exists()


def test_a_bundle_that_is_none_is_refused(evalkit: Command) -> None:
    """--bundle with another file."""
    Path("other.whl").write_bytes(b"x")
    assert "is not evalkit's bundle" in evalkit("data", "fetch", "--bundle", "other.whl").fails(1)


def test_the_doctor_knows_this_machine(evalkit: Command) -> None:
    """Facts for people and for programs; never a failure."""
    done = evalkit("doctor")
    assert done.code == 0
    assert "cores" in done.out
    facts = json.loads(evalkit("doctor", "--json").out)
    assert facts["python"].startswith("3.")
    assert facts["cores"] >= 1
    assert facts["engines"]["transformers"] == "ready"
    assert facts["engines"]["fake"] == "ready"
    assert facts["hub"] == {**facts["hub"], "reachable": False, "reason": "HF_HUB_OFFLINE is set"}
    assert facts["bundle"]["present"] is False
    assert facts["torch"]["version"]
    vllm = facts["vllm"]
    assert vllm["ready"] == (vllm["command"] is None) == (facts["engines"]["vllm"] == "ready")
    assert (vllm["path"] if vllm["ready"] else vllm["command"]) in done.out


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain ünïcode 日本", "plain ünïcode 日本"),
        ("\x1b]0;title\x07", "\\x1b]0;title\\x07"),
        ("a\nb\tc\rd", "a\\nb\\tc\\rd"),
        ("\u202egnp.exe", "\\u202egnp.exe"),
        ("[red]no markup[/red]", "[red]no markup[/red]"),
        ("\x9b31m", "\\x9b31m"),
        ("\udcff", "\\udcff"),
    ],
)
def test_hostile_text_is_shown_and_not_obeyed(text: str, shown: str) -> None:
    """Control characters stand as escapes."""
    assert clean(text) == shown


def test_sizes_for_people() -> None:
    """Decimal units, as disks are sold."""
    assert [size(count) for count in (0, 999, 1000, 85_644_377, 3e12)] == [
        "0 B",
        "999 B",
        "1.0 kB",
        "85.6 MB",
        "3.0 TB",
    ]


def test_checkpoints_show_what_would_be_chosen(evalkit: Command, tmp_path: Path) -> None:
    """`list checkpoints` with the options of `run`: the chosen ones marked, gaps named, the same in JSON; `run` takes them."""
    for step in (1, 2, 3, 4, 7, 8):
        make_checkpoint(tmp_path / "many" / f"step{step}000", seed=step)
    plain = evalkit("list", "checkpoints", tmp_path / "many")
    assert "chosen" not in plain.out
    assert "Gap: 2 checkpoints missing between step4000 and step7000 (usually one every 1,000 steps)." in plain.err
    shown = evalkit("list", "checkpoints", tmp_path / "many", "--max-points", 3)
    chosen = [line.split()[0].rpartition("@")[2] for line in shown.out.splitlines() if line.rstrip().endswith("yes")]
    assert chosen == ["step1000", "step4000", "step8000"]
    assert "3 of 6 checkpoints would be scored." in shown.err
    rows = json.loads(evalkit("list", "checkpoints", tmp_path / "many", "--every", "4000steps", "--json").out)
    assert [row["revision"] for row in rows if row["chosen"]] == ["step1000", "step4000", "step8000"]
    assert [row["missing_before"] for row in rows] == [0, 0, 0, 0, 2, 0]
    message = evalkit("list", "checkpoints", tmp_path / "many", "--revisions", "stop*").fails(2)
    assert "There is no revision 'stop*'" in message


def test_a_run_scores_the_chosen_checkpoints(evalkit: Command, tmp_path: Path, my_tasks: Path) -> None:
    """`run --max-points` scores those and no others, under one plan."""
    for step in (1, 2, 3, 4, 5):
        make_checkpoint(tmp_path / "many" / f"step{step}000", seed=step, max_position_embeddings=512)
    ran = evalkit(*fake_run(tmp_path / "many", my_tasks, "--max-points", 3, "--no-report"))
    assert ran.code == 0, ran.err
    scored = sorted(file.parent.name for file in (tmp_path / "results").rglob("run.json"))
    assert scored == ["step1000", "step3000", "step5000"]
    assert evalkit("trend", "many").code == 0


def test_runs_have_their_score_and_checkpoints_what_is_scored(
    evalkit: Command, checkpoint: Path, my_tasks: Path
) -> None:
    """The only task's primary metric stands beside the run; the checkpoint shows its run, and which one is the default."""
    evalkit(*fake_run(checkpoint, my_tasks, "--no-report"))
    (row,) = json.loads(evalkit("list", "runs", "--json").out)
    stored = json.loads((Path(row["run"]) / "metrics.json").read_text())
    (primary,) = [record for record in stored if record["primary"]]
    assert (row["score"], row["metric"]) == (primary["value"], primary["metric"])
    shown = evalkit("list", "runs").out
    assert f"{100 * primary['value']:.1f} %" in shown
    (one,) = json.loads(evalkit("list", "checkpoints", checkpoint, "--json").out)
    assert (one["default"], one["scored"]) == (True, ["tasks~fake"])
    assert "tasks~fake" in evalkit("list", "checkpoints", checkpoint).out


def test_a_document_of_a_run_is_found_by_name(evalkit: Command, checkpoint: Path, my_tasks: Path) -> None:
    """`show MODEL --suite S --doc ID` is `show FOLDER --doc ID`."""
    evalkit(*fake_run(checkpoint, my_tasks, "--no-report"))
    by_name = evalkit("show", "tiny", "--suite", "tasks", "--doc", "0")
    assert by_name.code == 0, by_name.err
    assert by_name.out == evalkit("show", "results/tiny/tasks~fake/main", "--doc", "0").out
    assert "Choose a document with --doc" in evalkit("show", "tiny", "--suite", "tasks").fails(2)


def test_a_model_that_is_not_there_says_how_to_get_it(evalkit: Command) -> None:
    """`evalkit models add`, and the recipe that trains a model called so."""
    message = evalkit("run", "--model", "olmo-1b-sft", "--suite", "quickstart").fails(2)
    assert "'evalkit models add NAME PATH'" in message
    assert message.endswith("To train it: evalkit train tulu-v2-olmo-1b --name olmo-1b-sft.")
    assert "To train it" not in evalkit("run", "--model", "nothing-of-it", "--suite", "quickstart").fails(2)


def test_a_generated_document_is_shown(evalkit: Command, checkpoint: Path) -> None:
    """Prompt, every text, what was cut from it, how it ended, what was extracted and why; the same as JSON."""
    assert evalkit("run", "--model", "tiny", "--task", "test_tales", "--engine", "fake", "--no-report").code == 0
    (folder,) = Path("results/tiny").glob("*/main")
    row = json.loads(evalkit("show", folder, "--doc", "tale-3", "--json").out)["row"]
    told = evalkit("show", folder, "--doc", "tale-3").out
    assert "Once there were 3 cats" in told
    said = {"stop": "a stop string ended it", "end": "it ended by itself", "cap": "cut off at the length limit"}
    for place, (text, answer) in enumerate(zip(row["texts"], row["answers"], strict=True)):
        heading = f"text {place + 1} of 2: {row['tokens'][place]} tokens, {said[row['ended'][place]]}"
        assert heading in told
        assert answer in told
        assert (f"cut: {text[len(answer) :]!r}" in told) is (len(text) > len(answer))
        assert f"extracted: {answer!r}. {len(answer)} signs" in told
