"""Arrow and Parquet files that are damaged: refused before a value is read, since a wrong offset would end the process."""

from __future__ import annotations

import io
import struct
from pathlib import Path

import pyarrow as pa
import pyarrow.feather
import pyarrow.parquet as pq
import pytest

from evalkit.system.arrow import arrow_rows, parquet_rows, parquet_table
from evalkit.system.documents import Invalid

TABLE = pa.table({"id": ["first", "second"], "n": [1, None], "texts": [["a", "b"], []]})


def _stream(table: pa.Table) -> bytes:
    sink = io.BytesIO()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    return sink.getvalue()


def _file(table: pa.Table) -> bytes:
    sink = io.BytesIO()
    with pa.ipc.new_file(sink, table.schema) as writer:
        writer.write_table(table)
    return sink.getvalue()


def _feather(table: pa.Table) -> bytes:
    sink = io.BytesIO()
    pyarrow.feather.write_feather(table, sink)
    return sink.getvalue()


@pytest.mark.parametrize("write", [_stream, _file, _feather])
def test_rows_of_arrow_files(tmp_path: Path, write: object) -> None:
    """The stream format, the file format, and Feather, which is the file format."""
    path = tmp_path / "a.arrow"
    path.write_bytes(write(TABLE))  # type: ignore[operator]
    assert arrow_rows(path) == TABLE.to_pylist()
    for size in (0, 5, 50, len(path.read_bytes()) // 2):
        path.write_bytes(write(TABLE)[:size])  # type: ignore[operator]
        with pytest.raises(Invalid, match="is not a complete Arrow file"):
            arrow_rows(path)


def test_offsets_outside_of_the_values(tmp_path: Path) -> None:
    """The texts "first" and "second" begin at 0, 5 and end at 11; the last offset is made enormous."""
    data = _stream(TABLE.select(["id"]))
    offsets = struct.pack("<3i", 0, 5, 11)
    assert data.count(offsets) == 1
    path = tmp_path / "a.arrow"
    path.write_bytes(data.replace(offsets, struct.pack("<3i", 0, 5, 1_864_442_113)))
    with pytest.raises(Invalid, match=r"binary offsets \(1864442113\) larger than values array"):
        arrow_rows(path)


@pytest.mark.parametrize("write", [_stream, _file])
def test_dictionary_indices_outside_of_the_dictionary(tmp_path: Path, write: object) -> None:
    """Four rows of a dictionary of two texts; an index of 99 is none of it."""
    data = write(pa.table({"id": pa.array(["a", "b", "b", "a"]).dictionary_encode()}))  # type: ignore[operator]
    indices = struct.pack("<4i", 0, 1, 1, 0)
    assert data.count(indices) == 1
    path = tmp_path / "a.arrow"
    path.write_bytes(data.replace(indices, struct.pack("<4i", 0, 1, 99, 0)))
    with pytest.raises(Invalid, match="out of bounds"):
        arrow_rows(path)


def test_values_that_python_does_not_have(tmp_path: Path) -> None:
    """A time stamp beyond the year 9999, and two columns of one name."""
    path = tmp_path / "a.arrow"
    path.write_bytes(_file(pa.table({"when": pa.array([2**62], pa.timestamp("s"))})))
    with pytest.raises(Invalid, match="is not a complete Arrow file"):
        arrow_rows(path)
    twice = pa.Table.from_arrays([pa.array([1]), pa.array([2])], names=["a", "a"])
    path.write_bytes(_file(twice))
    pq.write_table(twice, tmp_path / "a.parquet")
    for read, file in ((arrow_rows, path), (parquet_table, tmp_path / "a.parquet")):
        with pytest.raises(Invalid, match="has two columns named 'a'"):
            read(file)


def test_rows_of_parquet_files(tmp_path: Path) -> None:
    """Whole, by column, and damaged in every way that a copy may be."""
    path = tmp_path / "a.parquet"
    pq.write_table(TABLE, path)
    whole = path.read_bytes()
    assert list(parquet_rows(path)) == TABLE.to_pylist()
    assert list(parquet_rows(path, ("id", "elsewhere"))) == [{"id": "first"}, {"id": "second"}]
    assert parquet_table(path, without=("n",)).to_pylist() == TABLE.drop_columns(["n"]).to_pylist()
    with pytest.raises(Invalid, match="has no column 'text'"):
        list(parquet_rows(path, ("text", "id")))
    for data in (
        b"",
        b"PAR1",
        whole[:-20],
        whole[: len(whole) // 2],
        bytes(len(whole)),
        b"PAR1" + bytes(60) + whole[64:],
    ):
        path.write_bytes(data)
        for read in (parquet_table, lambda path: list(parquet_rows(path))):
            with pytest.raises(Invalid, match="is not a complete Parquet file"):
                read(path)
    for read in (parquet_table, lambda path: list(parquet_rows(path)), arrow_rows):
        with pytest.raises(OSError, match="No such file"):
            read(tmp_path / "nowhere")
