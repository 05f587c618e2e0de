"""What goes wrong is told in one or two plain sentences, with the right exit code, and nothing is lost."""

from __future__ import annotations

import errno
import json
import pickle
import shutil
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from evalkit import cli
from evalkit.errors import GateFailed
from tests.made.byte_checkpoints import make_checkpoint
from tests.made.command_line import Command, Result, Start, fake_run


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("rnu",), "There is no command 'rnu'. Did you mean 'run'?"),
        (("run", "--modle", "x"), "There is no option '--modle'. Did you mean '--model'"),
        (("run", "--limit", "many"), "--limit"),
        (("run", "--limit", "0"), "--limit"),
        (("run",), "No model given"),
        (("run", "--model", "olmo-tiny"), "Nothing to score"),
        (("run", "--model", "olmo-tiny", "--task", "arc_eazy"), "There is no task 'arc_eazy'. Did you mean 'arc_easy'"),
        (
            ("run", "--model", "olmo-tiny", "--task", "arc_easy::olmse"),
            "There is no regime 'olmse'. Did you mean 'olmes'",
        ),
        (("run", "--model", "olmo-tiny", "--task", "arc_easy:cm::olmes"), "There is no form 'cm'. Did you mean"),
        (
            ("run", "--model", "olmo-tiny", "--suite", "quikstart"),
            "There is no suite 'quikstart'. Did you mean 'quickstart'?",
        ),
        (
            ("run", "--model", "olmo-tniy", "--suite", "quickstart"),
            "There is no model 'olmo-tniy'. Did you mean 'olmo-tiny'",
        ),
        (("run", "--model", "olmo-tiny", "--task", "arc_easy", "--engine", "vlm"), "There is no engine 'vlm'"),
        (("run", "--model", "m", "--task", "t", "--engine-arg", "fast"), "--engine-arg takes KEY=VALUE, not 'fast'."),
        (("show", "arc_eazy"), "There is no task 'arc_eazy'. Did you mean 'arc_easy'"),
        (("show", "arc_easy", "--tokens"), "--model"),
        (("report", "nowhere"), "There is no run 'nowhere'"),
        (("metrics", "nowhere"), "There is no run 'nowhere'"),
        (("models", "rm", "nobody"), "nobody"),
        (("models", "add", "mine", "no/such/folder"), "neither a folder nor a hub repository"),
        (("data", "rm", "nothing"), "There is no cache 'nothing'"),
        (("list", "tasks", "--tasks-dir", "nowhere"), "The tasks folder nowhere does not exist"),
        (("list", "checkpoints", "olmo-tniy"), "Did you mean 'olmo-tiny'"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
def test_wrong_command_lines(evalkit: Command, arguments: tuple[str, ...], told: str) -> None:
    """Exit code 2, what is wrong, and the nearest right name."""
    assert told in evalkit(*arguments).fails(2)


def test_an_unknown_revision_suggests_the_nearest(evalkit: Command, checkpoint: Path, my_tasks: Path) -> None:
    """A revision that a folder does not hold."""
    family = Path("family")
    shutil.copytree(checkpoint, family / "step100")
    message = evalkit(*fake_run(Path(f"{family}@step10"), my_tasks)).fails(2)
    assert "There is no revision 'step10'. Did you mean 'step100'?" in message


def test_a_plugin_file_that_fails_is_named(evalkit: Command, my_tasks: Path) -> None:
    """An error in a person's own file says which file."""
    (my_tasks / "broken.py").write_text("1 / 0\n")
    message = evalkit("list", "tasks", "--tasks-dir", my_tasks).fails(2)
    assert "broken.py" in message
    assert "ZeroDivisionError" in message


def test_a_checkpoint_without_tokenizer(evalkit: Command, my_tasks: Path) -> None:
    """It says that --tokenizer names one."""
    message = evalkit(*fake_run(make_checkpoint(Path("bare"), tokenizer=False), my_tasks)).fails(1)
    assert "no tokenizer" in message
    assert "--tokenizer" in message


def test_weights_only_as_pickle_are_refused(evalkit: Command, checkpoint: Path, my_tasks: Path) -> None:
    """Opening a pickle can run code, so it takes a person's word."""
    (checkpoint / "model.safetensors").unlink()
    (checkpoint / "pytorch_model.bin").write_bytes(pickle.dumps({}))
    message = evalkit(*fake_run(checkpoint, my_tasks)).fails(1)
    assert "pickle" in message
    assert "--trust-remote-code" in message


def test_foreign_formats_name_their_converter(evalkit: Command, my_tasks: Path) -> None:
    """OLMo's own training checkpoints are recognised."""
    native = Path("native")
    native.mkdir()
    (native / "config.yaml").write_text("model: {}\n")
    (native / "model.pt").write_bytes(b"")
    message = evalkit(*fake_run(native, my_tasks)).fails(1)
    assert "convert_olmo_weights_to_hf.py" in message


def test_no_checkpoint_at_all(evalkit: Command, my_tasks: Path) -> None:
    """A folder without config.json."""
    Path("empty").mkdir()
    assert "no config.json" in evalkit(*fake_run(Path("empty"), my_tasks)).fails(1)


def test_damaged_weights(evalkit: Command, checkpoint: Path, my_tasks: Path) -> None:
    """A file that is cut short, as broken downloads are."""
    file = checkpoint / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-100])
    assert "truncated" in evalkit(*fake_run(checkpoint, my_tasks)).fails(1)


def test_a_hub_that_cannot_be_reached(evalkit: Command, my_tasks: Path) -> None:
    """A repository that is not on this machine, without a connection."""
    message = evalkit(*fake_run(Path("nobody/nothing-to-see"), my_tasks)).fails(1)
    assert "nobody/nothing-to-see is not on this machine" in message


def load_weights(file: Path) -> dict[str, Any]:
    """Tensors of a safetensors file, bfloat16 among them."""
    from safetensors.torch import load_file as load

    return dict(load(file))


def save_weights(weights: dict[str, Any], file: Path) -> None:
    """Write them back as transformers wants them."""
    from safetensors.torch import save_file as save

    save(weights, file, metadata={"format": "pt"})


def test_nan_logits_are_never_a_score(evalkit: Command, my_tasks: Path, tiny_copy: Path) -> None:
    """One NaN weight in a real model: the run fails, says where, and what was scored before stays."""
    file = tiny_copy / "model.safetensors"
    weights = load_weights(file)
    name = next(name for name in weights if name.endswith("mlp.down_proj.weight"))
    weights[name][0, 0] = float("nan")
    save_weights(weights, file)
    done = evalkit("run", "--model", tiny_copy, "--task", "capitals", "--tasks-dir", my_tasks, "--device", "cpu")
    message = done.fails(1)
    assert "nan" in message.lower()
    info = json.loads(next(Path("results").rglob("run.json")).read_text())
    assert info["status"] == "failed"
    assert not list(Path("results").rglob("metrics.json"))


def test_a_full_disk_loses_nothing(
    evalkit: Command, checkpoint: Path, my_tasks: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The disk fills while results are written: exit code 1, and the same command ends well once there is room."""
    command = fake_run(checkpoint, my_tasks, "--no-report", "--json")
    whole = Path.replace

    def full(self: Path, target: Path) -> Path:
        if Path(target).suffix == ".parquet" and "documents" in str(target):
            raise OSError(errno.ENOSPC, "No space left on device", str(target))
        return whole(self, target)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "replace", full)
        message = evalkit(*command).fails(1)
    assert "disk is full" in message
    again = evalkit(*command)
    assert again.code == 0, again.err
    assert json.loads(again.out)[0]["counts"]["batches_scored"] == 0


def test_a_folder_that_may_not_be_written(evalkit: Command, checkpoint: Path, my_tasks: Path) -> None:
    """--output in a place where a file stands already."""
    Path("taken").write_text("")
    message = evalkit(*fake_run(checkpoint, my_tasks, "--output", "taken")).fails(1)
    assert "taken" in message


def test_a_person_is_told_how_to_see_more(evalkit: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    """What evalkit did not foresee is one sentence with the kind of error; --debug adds the traceback."""

    def broken(*_: object, **__: object) -> None:
        raise ZeroDivisionError("division by zero")

    monkeypatch.setattr("evalkit.doctor.collect_facts", broken)
    plain = evalkit("doctor")
    assert plain.code == 1
    assert "ZeroDivisionError: division by zero" in plain.err
    assert "--debug" in plain.err
    assert "Traceback" not in plain.err
    assert "Traceback" in evalkit("doctor", "--debug").err


def test_a_limit_of_the_address_space_is_told(evalkit: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    """Before a model is loaded, since libraries may end the program, and where an error may come from it."""
    monkeypatch.setattr(cli, "address_space_limit", lambda: 1_500_000_000)
    for error in (MemoryError(), SystemError("error return without exception set")):
        assert "limits its address space to 1.5 GB (ulimit -v)" in cli.describe_error(error)[0]
    assert "Warning: The shell limits the address space to 1.5 GB" in evalkit("run", "--model", "x").err
    assert "ulimit" not in evalkit("list", "engines").err
    monkeypatch.setattr(cli, "address_space_limit", lambda: None)
    assert "ulimit" not in evalkit("run", "--model", "x").err + cli.describe_error(MemoryError())[0]


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (GateFailed("The rule acc < 0.5 fired."), 3),
        (MemoryError(), 1),
        (OSError(errno.ENOSPC, "No space left on device", "results/x"), 1),
        (OSError(errno.EACCES, "Permission denied", "results/x"), 1),
        (RuntimeError("a\nb"), 1),
    ],
)
def test_every_error_has_its_sentence_and_code(error: Exception, code: int) -> None:
    """The table of exit codes."""
    message, found = cli.describe_error(error)
    assert found == code
    assert "\n" not in message
    assert message.endswith(".")


@pytest.fixture
def gated_hub() -> Iterator[str]:
    """A hub on this machine that is there, and answers every question as the real one does for a gated repository."""

    class Gated(BaseHTTPRequestHandler):
        def do_HEAD(self) -> None:
            self.do_GET()

        def do_GET(self) -> None:
            body = b'{"error": "Access to this repository is restricted."}'
            self.send_response(200 if self.path == "/" else 401)
            self.send_header("X-Error-Code", "GatedRepo")
            self.send_header("X-Error-Message", "Access to this repository is restricted.")
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            if self.command == "GET":
                self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """Quiet."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Gated)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()
    thread.join()


def from_process(running: subprocess.Popen[str]) -> Result:
    """How a command in a process of its own ended."""
    out, err = running.communicate(timeout=300)
    return Result(running.returncode, out, err)


@pytest.mark.parametrize(
    "arguments",
    [
        ("show", "arc_easy", "--data-source", "hub"),
        ("run", "--model", "someone/secret", "--task", "arc_easy", "--data-source", "bundle"),
    ],
    ids=["data set", "model"],
)
def test_a_gated_repository_says_how_to_get_access(
    arguments: tuple[str, ...], start: Start, gated_hub: str, tmp_path: Path
) -> None:
    """Only the hub's HTTP answer is imitated: 401 with the header that marks a gated repository."""
    hub = {"HF_ENDPOINT": gated_hub, "HF_HUB_OFFLINE": "0", "HF_HOME": str(tmp_path / "hf"), "NO_PROXY": "127.0.0.1"}
    message = from_process(start(*arguments, env=hub)).fails(1)
    assert "is gated: request access" in message
    assert "HF_TOKEN" in message


def test_a_hub_that_does_not_answer_is_no_long_wait(start: Start, tmp_path: Path) -> None:
    """A task asked for from a hub that is not there fails within seconds, and names the ways out."""
    with socket.socket() as busy:  # listens and never answers
        busy.bind(("127.0.0.1", 0))
        busy.listen()
        address = f"http://127.0.0.1:{busy.getsockname()[1]}"
        hub = {"HF_ENDPOINT": address, "HF_HUB_OFFLINE": "0", "HF_HOME": str(tmp_path / "hf"), "NO_PROXY": "127.0.0.1"}
        begun = time.monotonic()
        message = from_process(start("show", "arc_easy", "--data-source", "hub", env=hub)).fails(1)
    assert "cannot be reached" in message
    assert "bundle" in message
    assert time.monotonic() - begun < 120  # the probe takes 3 s; the processor of a test is shared


def test_hostile_names_do_not_reach_the_terminal(evalkit: Command) -> None:
    """Escape sequences and markup in what a person (or a data set) wrote are shown, not obeyed."""
    done = evalkit("run", "--model", "x\x1b[2J[bold]y", "--task", "arc_easy")
    assert "\x1b" not in done.err
    assert "\\x1b[2J[bold]y" in done.err
