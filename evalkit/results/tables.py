"""Stores rows and prompts as Parquet files, losslessly, and reads them back."""

from __future__ import annotations

import contextlib
import hashlib
import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.parquet as pq

from evalkit.errors import EvalkitError
from evalkit.records import Document, Prompt
from evalkit.system.arrow import parquet_table
from evalkit.system.documents import Invalid
from evalkit.system.files import remove_stale_files, replacing, temporary_for, writing
from evalkit.task import Row

if TYPE_CHECKING:
    from evalkit.scoring.plan import PlannedTask

COMPRESSION = "zstd"
PROMPT_SCHEMA = pa.schema(
    [
        ("index", pa.int64()),
        ("native_id", pa.string()),
        ("prompt", pa.int32()),
        ("option", pa.int32()),
        ("unconditional", pa.bool_()),
        ("encoding", pa.string()),
        ("context", pa.string()),
        ("continuation", pa.string()),
    ]
)
"""One row per prompt: the document's row index and id, the prompt's position in the document, and its strings."""
GATED_PROMPT_SCHEMA = pa.schema(
    [
        *[column for column in PROMPT_SCHEMA if column.name not in ("context", "continuation")],
        ("context_sha256", pa.string()),
        ("context_characters", pa.int32()),
        ("continuation_sha256", pa.string()),
        ("continuation_characters", pa.int32()),
    ]
)
"""For a gated data set: what identifies the strings, in place of them."""


def write_rows(path: Path, rows: Sequence[Row]) -> None:
    """Write ``documents/<task>.parquet`` atomically. Floats are stored exactly: sums as float64, log-probabilities as
    float32."""
    names: dict[str, None] = {}
    for row in rows:
        names.update(dict.fromkeys(row))
    columns = {name: _column(name, [row.get(name) for row in rows]) for name in names}
    with replacing(path) as temporary:
        pq.write_table(pa.table(columns), temporary, compression=COMPRESSION)


def _column(name: str, values: list[Any]) -> pa.Array:
    if name in ("logprobs", "token_ids"):
        leaf = pa.float32() if name == "logprobs" else pa.int32()
        nested = any(value is not None and len(value) and hasattr(value[0], "__len__") for value in values)
        return pa.array(values, type=pa.list_(pa.list_(leaf)) if nested else pa.list_(leaf))
    if name == "native_id" and len({type(value) for value in values if value is not None}) > 1:
        values = [None if value is None else str(value) for value in values]
    try:
        return pa.array(values)
    except UnicodeEncodeError:  # half a sign that a model wrote
        return pa.array([_storable(value) for value in values])


def _storable(value: Any) -> Any:
    return (
        [_storable(item) for item in value]
        if isinstance(value, list)
        else _text(value)
        if isinstance(value, str)
        else value
    )


def read_table(path: Path, *, without: Sequence[str] = ()) -> pa.Table:
    """Read a Parquet file of a run, except the columns in `without`.

    Raises `EvalkitError` naming the file if it is missing or damaged.
    """
    if not path.is_file():
        raise EvalkitError(
            f"{path} is missing. Run the same 'evalkit run' command again to rebuild it from the journal."
        )
    advice = "Run the same 'evalkit run' command again to rebuild it from the journal."
    try:
        return parquet_table(path, without=without)
    except Invalid as error:
        raise EvalkitError(f"{path}{error}. {advice}") from error
    except OSError as error:
        raise EvalkitError(f"{path} cannot be read: {error.strerror or error}. {advice}") from error


def read_rows(path: Path) -> list[Row]:
    """The rows as the task returned them: fields that a row did not have are absent again, not None."""
    return [
        {name: value for name, value in row.items() if value is not None or name == "native_id"}
        for row in read_table(path).to_pylist()
    ]


class PromptFile:
    """Writes ``<output>/prompts/<protocol>.parquet`` incrementally; the complete file appears at `close`."""

    ROW_GROUP_SIZE = 4096

    def __init__(self, path: Path, schema: pa.Schema = PROMPT_SCHEMA) -> None:
        self.schema = schema
        self.path = path
        """Where the file is to appear. May be changed before `close`, within the folder."""
        self._temporary = temporary_for(path)
        with writing(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            self._writer = pq.ParquetWriter(self._temporary, schema, compression=COMPRESSION)
        self._pending_rows: list[dict[str, Any]] = []

    def add(self, document: Document, prompts: Iterable[Prompt]) -> None:
        """Add one document's prompts."""
        native_id = None if document.native_id is None else str(document.native_id)
        for position, prompt in enumerate(prompts):
            row = {
                "index": document.index,
                "native_id": native_id,
                "prompt": position,
                "option": prompt.option,
                "unconditional": prompt.unconditional,
                "encoding": prompt.encoding,
            }
            for name, text in (("context", _text(prompt.context)), ("continuation", _text(prompt.continuation))):
                if self.schema is PROMPT_SCHEMA:
                    row[name] = text
                else:
                    row[f"{name}_sha256"] = hashlib.sha256(text.encode()).hexdigest()
                    row[f"{name}_characters"] = len(text)
            self._pending_rows.append(row)
        if len(self._pending_rows) >= self.ROW_GROUP_SIZE:
            self._flush()

    def _flush(self) -> None:
        if self._pending_rows:
            self._writer.write_table(pa.Table.from_pylist(self._pending_rows, schema=self.schema))
            self._pending_rows = []

    def close(self) -> None:
        """Write the remaining rows and move the file into place. Raises `EvalkitError` if it cannot be written."""
        try:
            with writing(self.path):
                self._flush()
                self._writer.close()
                self._temporary.replace(self.path)
        except BaseException:
            self.abandon()
            raise

    def abandon(self) -> None:
        """Delete the unfinished file."""
        with contextlib.suppress(OSError, pa.ArrowException):
            self._writer.close()
        with contextlib.suppress(OSError):
            self._temporary.unlink(missing_ok=True)


def holds_texts(path: Path) -> bool:
    """Whether a prompt file is there and has the prompts' strings."""
    try:
        return "continuation" in pq.read_schema(path).names
    except (pa.ArrowException, OSError):
        return False


def _text(text: str) -> str:
    return text.encode("utf-8", "replace").decode() if not text.isascii() else text


def jsonable(value: Any) -> Any:
    """A value as strict JSON: NaN and infinities become None, numpy scalars become Python numbers."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {str(key): jsonable(inner) for key, inner in value.items()}
    if isinstance(value, (list, tuple, set, frozenset)):
        return [jsonable(inner) for inner in value]
    if value is None or isinstance(value, (bool, int, str)):
        return value
    if hasattr(value, "item"):
        return jsonable(value.item())
    return str(value)


class PromptStore:
    """Writes the prompt files of a plan: one per protocol unless it exists already; none if `folder` is None.

    Those of gated tasks have strings only with `gated_texts`, and are then written again if they exist without. A context
    manager: the files appear if it ends without an exception.
    """

    def __init__(self, folder: Path | None, *, gated_texts: bool) -> None:
        self.folder, self.gated_texts = folder, gated_texts
        self._files: dict[int, tuple[PlannedTask, PromptFile]] = {}

    def __enter__(self) -> PromptStore:
        if self.folder is not None:
            remove_stale_files(self.folder)
        return self

    def add(self, planned: PlannedTask, document: Document, prompts: Sequence[Prompt]) -> None:
        """A `evalkit.scoring.plan.PromptSink`."""
        if self.folder is None:
            return
        if id(planned) not in self._files:  # the protocol, and with it the name, is known when all prompts are
            path = self.folder / f"{planned.task.name.file_name}.parquet"
            without_texts = planned.task.gated and not self.gated_texts
            file = PromptFile(path, GATED_PROMPT_SCHEMA if without_texts else PROMPT_SCHEMA)
            self._files[id(planned)] = (planned, file)
        self._files[id(planned)][1].add(document, prompts)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            for planned, file in self._files.values() if error is None else ():
                file.path = file.path.with_name(f"{planned.protocol_hash}.parquet")
                with_texts = file.schema is PROMPT_SCHEMA
                exists = holds_texts(file.path) if planned.task.gated and with_texts else file.path.is_file()
                if not exists:
                    file.close()
        finally:
            for _, file in self._files.values():
                file.abandon()  # whatever has not been moved into place
