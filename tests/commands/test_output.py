"""What reaches a terminal or a pipe whose encoding lacks most characters, and characters that act on a terminal."""

from __future__ import annotations

import io
import json
import sys

import pytest

from evalkit.commands.terminal import print_json
from evalkit.system.characters import let_streams_replace
from tests.made.byte_checkpoints import make_checkpoint
from tests.made.command_line import Command, Start, fake_run


@pytest.mark.parametrize(
    ("encoding", "shown"),
    [("ascii", "yes +/- ... ??"), ("cp1252", "yes \xb1 \x85 \xe9?"), ("utf-8", "✓ ± … é\u6570")],
)
def test_what_an_encoding_lacks_is_replaced(encoding: str, shown: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """By hand: evalkit's own signs become ASCII, anything else a question mark, and what can be shown stays."""
    written = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(written, encoding=encoding, newline="\n"))
    let_streams_replace()
    print("✓ ± … é\u6570", flush=True)
    assert written.getvalue() == (shown + "\n").encode("latin-1" if encoding == "cp1252" else "utf-8")


@pytest.mark.parametrize("encoding", ["ascii", "cp1252", "utf-8"])
def test_json_in_any_encoding(encoding: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """It loads to what was printed, and control characters and bidirectional marks are escapes in every encoding."""
    value = {"name\u202e": "a\x1b[31m\x9b\u2066\ufeff\ud800 é 数 🙂", "lines": "a\nb\tc", "n": [1, None]}
    written = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(written, encoding=encoding, newline="\n"))
    print_json(value)
    sys.stdout.flush()
    text = written.getvalue().decode(encoding)
    assert json.loads(text) == value
    assert not {"\x1b", "\x9b", "\u202e", "\u2066", "\ufeff"} & set(text)
    assert ("数" in text) is (encoding == "utf-8")


@pytest.mark.parametrize(
    "env",
    [
        {"PYTHONIOENCODING": "ascii", "PYTHONUTF8": "0"},
        {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"},
        {"PYTHONIOENCODING": "cp1252", "PYTHONUTF8": "0"},
    ],
    ids=["ascii", "the C locale", "cp1252"],
)
def test_a_run_where_little_can_be_shown(env: dict[str, str], start: Start, tmp_path: object) -> None:
    """The table's signs are replaced, the report is written, and the exit code is 0. ``é`` stands in a document's text."""
    checkpoint = make_checkpoint(tmp_path / "tiny")  # type: ignore[operator]
    folder = tmp_path / "letters"  # type: ignore[operator]
    folder.mkdir()
    (folder / "one.jsonl").write_bytes(json.dumps({"id": "1", "text": "café 数 ✓ \u202e"}, ensure_ascii=False).encode())
    words = ("run", "--model", checkpoint, "--suite", folder, "--engine", "fake")
    process = start(*words, env=env)
    out, err = process.communicate(timeout=120)
    assert process.returncode == 0, err
    assert "bits_per_byte" in out or "bits per byte" in out
    assert "\u202e" not in out + err


def test_names_with_bidirectional_marks(evalkit: Command, tmp_path: object, my_tasks: object) -> None:
    """Neither the lists nor the JSON of a run print them as they are, and the JSON still holds the name."""
    checkpoint = make_checkpoint(tmp_path / "tiny\u202egnp", max_position_embeddings=512)  # type: ignore[operator]
    ran = evalkit(*fake_run(checkpoint, my_tasks, "--no-report", "--json"))  # type: ignore[arg-type]
    assert ran.code == 0, ran.err
    for done in (
        ran,
        evalkit("list", "runs"),
        evalkit("list", "runs", "--json"),
        evalkit("leaderboard", "--format", "json"),
    ):
        assert done.code == 0, done.err
        assert "\u202e" not in done.out + done.err
    assert json.loads(ran.out)[0]["model"] == "tiny\u202egnp"
