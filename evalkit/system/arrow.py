"""Reads Arrow and Parquet files that anybody may have written.

Arrow trusts what a file says: offsets and dictionary indices that point outside of their buffers end the process when the
values are read. So everything is validated in full before a value is taken. Imports pyarrow when it is used.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from evalkit.system.documents import Invalid

if TYPE_CHECKING:
    import pyarrow as pa

BATCH_ROWS = 256
Row = dict[str, Any]


def arrow_rows(path: Path) -> list[Row]:
    """All rows of an Arrow file: the file format (which Feather is) or the stream format, as ``datasets`` writes it.

    Raises `Invalid` if it is damaged, and `OSError` if it cannot be read.
    """
    import pyarrow as pa

    data = path.read_bytes()
    try:
        reader = pa.ipc.open_file(data) if data[:6] == b"ARROW1" else pa.ipc.open_stream(data)
        table = reader.read_all()
        _check_names(table.column_names)
        table.validate(full=True)
        return list(table.to_pylist())
    except Invalid:
        raise
    except Exception as error:  # pyarrow's errors are of many kinds, and values may have no Python equivalent
        raise _damaged("Arrow", error) from error


def parquet_table(path: Path, *, without: Sequence[str] = ()) -> pa.Table:
    """A Parquet file as a validated table, without some of its columns. Raises like `arrow_rows`."""
    import pyarrow.parquet as pq

    path.open("rb").close()  # an error of the system, with its own words
    try:
        with pq.ParquetFile(path) as file:
            names = file.schema_arrow.names
            _check_names(names)
            table = file.read(columns=[name for name in names if name not in without] if without else None)
        table.validate(full=True)
    except Invalid:
        raise
    except Exception as error:
        raise _damaged("Parquet", error) from error
    return table


def parquet_rows(path: Path, columns: Sequence[str] | None = None) -> Iterator[Row]:
    """The rows of a Parquet file in order, `BATCH_ROWS` in memory at once; `columns` that it lacks are left out.

    Raises like `arrow_rows`, and `Invalid` if it lacks the first of the columns.
    """
    import pyarrow.parquet as pq

    path.open("rb").close()
    try:
        with pq.ParquetFile(path) as file:
            names = file.schema_arrow.names
            _check_names(names)
            if columns and columns[0] not in names:
                raise Invalid(f" has no column '{columns[0]}'")
            chosen = None if columns is None else [name for name in dict.fromkeys(columns) if name in names]
            for batch in file.iter_batches(batch_size=BATCH_ROWS, columns=chosen):
                batch.validate(full=True)
                yield from batch.to_pylist()
    except Invalid:
        raise
    except Exception as error:
        raise _damaged("Parquet", error) from error


def _check_names(names: Sequence[str]) -> None:
    """Raise `Invalid` for two columns of one name, of which a row would keep one."""
    counts = Counter(names)
    twice = next((name for name, count in counts.items() if count > 1), None)
    if twice is not None:
        raise Invalid(f" has two columns named '{twice[:40]}'")


def _damaged(kind: str, error: Exception) -> Invalid:
    reason = " ".join(str(error).split())[:120].rstrip(".") or type(error).__name__
    return Invalid(f" is not a complete {kind} file ({reason})")
