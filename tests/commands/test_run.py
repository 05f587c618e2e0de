"""`evalkit run` from the command line to its output: options, files of options, JSON, resuming, interruptions."""

from __future__ import annotations

import json
import shutil
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from evalkit.commands.progress import TerminalProgress
from tests.made.command_line import Command, Start, fake_run


def wait_for(condition: Callable[[], bool], seconds: float = 300.0) -> None:
    """Wait until something is so, and fail when it never is."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.02)


def test_it_ends_with_a_table_and_the_report(evalkit: Command, checkpoint: Path, my_tasks: Path) -> None:
    """The plan comes on stderr, the table and the report's path on stdout."""
    done = evalkit(*fake_run(checkpoint, my_tasks))
    assert done.code == 0, done.err
    assert "12 documents, 36 unique requests" in done.err
    assert "capitals" in done.out
    last = done.out.strip().splitlines()[-1]
    assert last == "Report: results/tiny/tasks~fake/main/report.html"
    assert Path(last.removeprefix("Report: ")).is_file()


def test_json_is_for_programs(evalkit: Command, checkpoint: Path, my_tasks: Path) -> None:
    """--json prints one JSON value on stdout and nothing else."""
    done = evalkit(*fake_run(checkpoint, my_tasks, "--json", "--no-report"))
    assert done.code == 0, done.err
    (run,) = json.loads(done.out)
    assert run["status"] == "done"
    assert run["report"] is None
    assert run["counts"]["documents"] == 12
    assert {metric["metric"] for metric in run["metrics"]} >= {"acc", "acc_norm", "bits_per_byte"}


def test_a_dry_run_says_what_it_would_do(evalkit: Command, checkpoint: Path, my_tasks: Path) -> None:
    """--dry-run prints the plan and leaves nothing behind."""
    done = evalkit(*fake_run(checkpoint, my_tasks, "--dry-run"))
    assert done.code == 0, done.err
    assert "would be written to results/tiny/tasks~fake/main" in done.out
    assert not Path("results").exists()


def test_the_same_command_again_scores_nothing(evalkit: Command, checkpoint: Path, my_tasks: Path) -> None:
    """Resuming is running the same command again."""
    command = fake_run(checkpoint, my_tasks, "--json", "--no-report")
    first, second = evalkit(*command), evalkit(*command)
    (one,), (other,) = json.loads(first.out), json.loads(second.out)
    assert one["counts"]["batches_scored"] > 0
    assert other["counts"]["batches_scored"] == 0
    assert other["metrics"] == one["metrics"]


def test_the_command_stands_in_the_run(evalkit: Command, checkpoint: Path, my_tasks: Path) -> None:
    """run.json holds the command as it was typed, quoted for a shell."""
    evalkit(*fake_run(checkpoint, my_tasks, "--no-report", "--output", "two words"))
    info = json.loads(Path("two words/tiny/tasks~fake/main/run.json").read_text())
    assert info["command"].startswith("evalkit run --model ")
    assert info["command"].endswith("--no-report --output 'two words'")


def test_options_come_from_a_file_and_the_command_line_wins(evalkit: Command, checkpoint: Path, my_tasks: Path) -> None:
    """--config reads options under their names; one on the command line replaces the file's."""
    Path("run.yaml").write_text(
        f"model: {checkpoint}\ntask: [capitals]\ntasks-dir: {my_tasks}\nengine: fake\nno-report: true\nlimit: 3\n"
        "engine-arg: {delay: 0}\n"
    )
    from_file = evalkit("run", "--config", "run.yaml", "--json")
    assert json.loads(from_file.out)[0]["counts"]["documents"] == 3
    overridden = evalkit("run", "--config", "run.yaml", "--limit", "2", "--json")
    assert json.loads(overridden.out)[0]["counts"]["documents"] == 2


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("modle: x\n", "has no option 'modle'. Did you mean 'model'?"),
        ("limit: many\n", "--limit cannot be 'many'"),
        ("limit: true\n", "--limit cannot be True: it takes neither true nor false"),
        ("limit: 1:30\n", "--limit cannot be '1:30'"),
        ("limit: 2024-13-45\n", "--limit cannot be '2024-13-45'"),
        ("limit: 10\nlimit: 100\n", "line 2, has the key 'limit' twice"),
        ("limit: !!int x\n", "line 1, is not YAML: 'x' is no int"),
        ("limit: 0\n", "--limit cannot be 0"),
        ("window: wide\n", "--window cannot be 'wide'"),
        ("- a\n- b\n", "must contain options of 'evalkit run'"),
        ("model: [unclosed\n", "is not YAML"),
    ],
)
def test_wrong_files_of_options_are_explained(evalkit: Command, text: str, told: str) -> None:
    """A wrong option in the file is named with the file."""
    Path("run.yaml").write_text(text)
    message = evalkit("run", "--config", "run.yaml").fails(2)
    assert told in message
    assert "run.yaml" in message


def test_a_missing_file_of_options_is_named(evalkit: Command) -> None:
    """--config with a file that is not there."""
    assert "nowhere.yaml" in evalkit("run", "--config", "nowhere.yaml").fails(2)


def test_ctrl_c_leaves_everything_for_the_next_time(
    start: Start, evalkit: Command, checkpoint: Path, my_tasks: Path
) -> None:
    """Exit code 130, a sentence, and the same command goes on with what was scored."""
    command = fake_run(checkpoint, my_tasks, "--batch-tokens", "150", "--no-report")
    running = start(*command, "--engine-arg", "delay=2")
    journal = Path("results/journal")
    wait_for(lambda: any(file.stat().st_size > 200 for file in journal.rglob("*.log")))
    running.send_signal(signal.SIGINT)
    _, err = running.communicate(timeout=300)
    assert running.returncode == 130, err
    assert "Run the same command again to resume" in err
    assert "Traceback" not in err
    folder = Path("results/tiny/tasks~fake/main")
    assert json.loads((folder / "run.json").read_text())["status"] == "partial"
    again = evalkit(*command, "--json")
    assert again.code == 0, again.err
    counts = json.loads(again.out)[0]["counts"]
    assert counts["batches_found"] >= 1
    assert counts["batches_found"] + counts["batches_scored"] == counts["batches_planned"]


def test_a_closed_pipe_is_quiet(start: Start) -> None:
    """`evalkit list tasks | head -0`: the reader's leaving is no error."""
    running = start("list", "tasks")
    assert running.stdout is not None
    running.stdout.close()
    assert running.stderr is not None
    err = running.stderr.read()
    running.wait(timeout=300)
    assert err == ""
    assert running.returncode == 0


def test_progress_is_plain_lines_without_a_terminal(
    evalkit: Command, checkpoint: Path, my_tasks: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Logs of batch systems hold no escape sequences and no carriage returns, but how far it is and how long it takes."""
    monkeypatch.setattr("evalkit.commands.progress.LINE_SECONDS", 0.0)
    done = evalkit(*fake_run(checkpoint, my_tasks, "--no-report", "--batch-tokens", "150"))
    assert "\x1b" not in done.err
    assert "\r" not in done.err
    assert "% done, about" in done.err
    assert "left" in done.err


def test_progress_is_a_bar_on_a_terminal(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """A person at a terminal sees a bar with an ETA, and names of models cannot write escape sequences into it."""
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm-256color")
    drawn = TerminalProgress()
    drawn.start("m\x1b[2J", 100, 0)
    drawn.advance(40)
    drawn.finish()
    err = capsys.readouterr().err
    assert "ETA" in err
    assert "\\x1b[2J" in err
    assert "\x1b[2J" not in err


def test_several_checkpoints_stand_side_by_side(evalkit: Command, checkpoint: Path, my_tasks: Path) -> None:
    """--revisions scores each, in one table with a column a checkpoint."""
    family = Path("family")
    for step in (10, 20):
        shutil.copytree(checkpoint, family / f"step{step}")
    done = evalkit(*fake_run(family, my_tasks, "--revisions", "step*"))
    assert done.code == 0, done.err
    assert "step10" in done.out
    assert "step20" in done.out
    assert done.out.strip().splitlines()[-1] == "Report: results/family/tasks~fake/report.html"


def test_a_quickstart_on_real_questions(evalkit: Command, checkpoint: Path, bundle_file: Path) -> None:
    """The suite of the README runs on the bundle's questions (here on the fake engine, three documents a task)."""
    shutil.rmtree("results", ignore_errors=True)
    config = json.loads((checkpoint / "config.json").read_text()) | {"max_position_embeddings": 8192}
    (checkpoint / "config.json").write_text(json.dumps(config))
    done = evalkit(
        "run", "--model", checkpoint, "--suite", "quickstart", "--engine", "fake", "--limit", 3, "--bundle", bundle_file
    )
    assert done.code == 0, done.err
    assert "limited" in done.out.lower()
    assert "arc_easy" in done.out
