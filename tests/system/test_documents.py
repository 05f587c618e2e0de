"""Small JSON and YAML files: what is read, and that everything else is one sentence that names the file."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from pydantic import BaseModel, StrictInt

from evalkit.errors import CheckpointError, UsageError
from evalkit.system.documents import MAX_DEPTH, MAX_YAML_BYTES, Written, checked, read_json, read_yaml
from evalkit.system.files import write_json


def _file(folder: Path, data: bytes | str, name: str = "file.yaml") -> Path:
    file = folder / name
    file.write_bytes(data if isinstance(data, bytes) else data.encode())
    return file


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("", None),
        ("\ufeffa: 1", {"a": 1}),
        ("a: 010", {"a": "010"}),  # YAML 1.2 has no numbers with leading zeros, in 1.1 this is 8
        ("a: 1:30", {"a": "1:30"}),  # 90 in YAML 1.1
        ("a: 2024-01-31", {"a": "2024-01-31"}),
        ("[1e-5, 1e3, 2.5E+2, .5, -0, +7, 1_000, 0x1f]", [1e-5, 1000.0, 250.0, 0.5, 0, 7, 1000, 31]),
        ("[yes, no, true, ~]", [True, False, True, None]),
        ("base: &b {x: 1, y: 2}\nown: {<<: *b, x: 3}", {"base": {"x": 1, "y": 2}, "own": {"x": 3, "y": 2}}),
    ],
)
def test_yaml_values(tmp_path: Path, text: str, value: object) -> None:
    """Scalars by the rules of YAML 1.2; anchors and merges as people write them."""
    assert read_yaml(_file(tmp_path, text)) == value


LAUGHS = "a0: &a0 [x]\n" + "".join(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]\n" for n in range(1, 9))
MERGED = "a0: &a0 {k: v}\n" + "".join(f"a{n}: &a{n} {{<<: [{', '.join([f'*a{n - 1}'] * 9)}]}}\n" for n in range(1, 9))


@pytest.mark.parametrize(
    ("data", "words"),
    [
        ("a: 1\nb: !!int x", "line 2, is not YAML: 'x' is no int"),
        ("a: !!timestamp x", "line 1, is not YAML: 'x' is no timestamp"),
        ("a: !!int ''", "line 1, is not YAML: '' is no int"),
        ("a: !!float x", "'x' is no float"),
        ("a: !!bool x", "'x' is no bool"),
        ("a: !!binary x", "is not YAML"),
        ("a: !!python/object:os.system x", "could not determine a constructor"),
        ("a: !!timestamp 2024-13-45", "is no timestamp"),
        ("? [1]\n: 2", "unhashable key"),
        ("a: [", "line 1, is not YAML"),
        ("a: 1\n--- \nb: 2", "line 2, is not YAML: but found another document"),
        ("a: 1\nb: 2\na: 3", "line 3, has the key 'a' twice"),
        ("a: &x [*x]", "line 1, has an alias that contains itself"),
        ("&x a: {*x : 1, b: *x}", ""),  # an alias of a text is harmless
        (LAUGHS, "values, with its aliases written out"),
        (MERGED, "values, with its aliases written out"),
        ("[" * 2000, "is nested too deeply"),
        ("[" * (MAX_DEPTH + 1) + "]" * (MAX_DEPTH + 1), "is nested too deeply"),
        (b"\xfe\xff\x00", "is not UTF-8"),
        ("a: 1\nb: \0", "line 2, is not YAML: it has the character U+0000"),
        ('a: "\\ud800"', "an unpaired surrogate"),
        ('"\\ud800": 1', "an unpaired surrogate"),
        ("a: " + "9" * 5000, "a number of 5,000 digits"),
        (" " * (MAX_YAML_BYTES + 1), "bytes; at most 1,048,576 are read"),
    ],
)
def test_what_is_no_yaml(tmp_path: Path, data: bytes | str, words: str) -> None:
    """Every failure of the parser, and everything that would fail later, is a plain sentence with the file and the line."""
    file = _file(tmp_path, data)
    if not words:
        read_yaml(file)
        return
    with pytest.raises(UsageError) as caught:
        read_yaml(file, what="The recipe", advice="Mend it.")
    said = str(caught.value)
    assert said.startswith(f"The recipe {file}")
    assert words in said
    assert said.endswith(". Mend it.")
    assert len(said) < 400


@pytest.mark.parametrize(
    ("data", "words"),
    [
        ("", "is not JSON: expecting value"),
        ('{"a": 1,\n}', "line 2, is not JSON"),
        ("[1] 2", "is not JSON: extra data"),
        (b"\xff", "is not UTF-8"),
        ("[" * 100_000, "is nested too deeply"),
        ("[" * (MAX_DEPTH + 1) + "]" * (MAX_DEPTH + 1), "is nested too deeply"),
        ('{"a": "\\ud800"}', "an unpaired surrogate"),
        ('{"\\uDC00": 1}', "an unpaired surrogate"),
        ("1" * 101, "a number of 101 digits"),
        ("1" * 10_000, "a number of 10,000 digits"),
    ],
)
def test_what_is_no_json(tmp_path: Path, data: bytes | str, words: str) -> None:
    """The same of JSON, and of a file called ``.json`` that may be YAML."""
    file = _file(tmp_path, data, "file.json")
    for read in (read_json, read_yaml):
        with pytest.raises(CheckpointError) as caught:
            read(file, raises=CheckpointError)
        assert str(caught.value).startswith(f"{file}")
        assert words in str(caught.value)


def test_json_values(tmp_path: Path) -> None:
    """What others write is read: a byte order mark, pairs of surrogates, 1e30 as an integer, an infinity."""
    text = '\ufeff{"a": "\\ud83d\\ude00", "model_max_length": 1000000000000000019884624838656, "b": [0.0, Infinity]}'
    assert read_json(_file(tmp_path, text)) == {"a": "😀", "model_max_length": int(1e30), "b": [0.0, float("inf")]}


def test_files_that_are_not_there(tmp_path: Path) -> None:
    """A missing file, a folder, and names that no file system takes."""
    with pytest.raises(UsageError, match="nowhere does not exist"):
        read_json(tmp_path / "nowhere")
    for name in (".", "a" * 300, "\0"):
        with pytest.raises(UsageError, match="cannot be read"):
            read_yaml(tmp_path / name)


class _Shape(BaseModel):
    count: StrictInt
    names: list[str] = []


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ({}, "count is missing"),
        ({"count": True}, "count should be a valid integer"),
        ({"count": 1, "names": ["a", 2]}, "names.1 should be a valid string"),
        (3, "it should be a mapping of names to values"),
    ],
)
def test_wrong_shapes(tmp_path: Path, value: object, words: str) -> None:
    """A value of another shape than its model: the file, the field, what it should be."""
    file = _file(tmp_path, json.dumps(value))
    with pytest.raises(UsageError) as caught:
        checked(_Shape, value, file)
    assert str(caught.value) == f"{file}: {words}."


class _Numbers(Written):
    count: int | None = None
    share: float = 0.5
    on: bool = False
    either: bool | int = 0


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ({"count": True}, "count: it takes neither true nor false"),
        ({"share": False}, "share: it takes neither true nor false"),
        ({"share": float("inf")}, "share should be a finite number"),
        ({"other": 1}, "there is no field other"),
    ],
)
def test_numbers_that_people_write(tmp_path: Path, value: object, words: str) -> None:
    """``limit: true`` is not 1, and no number is infinite."""
    with pytest.raises(UsageError) as caught:
        checked(_Numbers, value, tmp_path / "f", what="The file", part="part 2")
    assert str(caught.value) == f"The file {tmp_path / 'f'}, part 2: {words}."
    kept = checked(_Numbers, {"count": "7", "share": 1, "on": True, "either": True}, tmp_path)
    assert (kept.count, kept.share, kept.on, kept.either) == (7, 1.0, True, True)


def test_names_of_files_that_are_no_utf8(tmp_path: Path) -> None:
    """What the system gives as an unpaired surrogate is written and read again where it is asked for."""
    write_json(tmp_path / "f.json", {"folder": "caf\udce9"})
    assert (tmp_path / "f.json").read_bytes() == b'{\n "folder": "caf\\udce9"\n}\n'
    assert read_json(tmp_path / "f.json", surrogates="keep") == {"folder": "caf\udce9"}
    assert read_json(tmp_path / "f.json", surrogates="escape") == {"folder": "caf\\udce9"}
