"""The distinct requests of a run, in order: a few bytes each in memory, with the tokens of large runs in a temporary file.

Text suites have hundreds of millions of tokens or more; only those of the current segment are in memory. Indexing returns
a new `Request` equal to the one appended.
"""

from __future__ import annotations

import errno
import os
import tempfile
from array import array
from collections.abc import Sequence
from typing import IO, overload

from evalkit.errors import EvalkitError
from evalkit.records import Request

BUFFERED_TOKENS = 2_000_000
"""Tokens buffered in memory before they are written to the file: 8 MB, so small runs need no file."""
TOKEN_BYTES = array("i").itemsize


class RequestTable(Sequence[Request]):
    """Requests by position. The file is anonymous and disappears with the table or the process."""

    def __init__(self, buffered_tokens: int = BUFFERED_TOKENS) -> None:
        self._max_buffered_tokens = buffered_tokens
        self._ends = array("q")
        self._starts = array("i")
        self._keep_tokens = bytearray()
        self._buffer = array("i")
        self._tokens_in_file = 0
        """Tokens in the file; the buffered ones follow them."""
        self._file: IO[bytes] | None = None

    @property
    def tokens(self) -> int:
        """Number of tokens of all requests."""
        return self._ends[-1] if self._ends else 0

    def tokens_between(self, first: int, last: int) -> int:
        """Number of tokens of the requests ``first … last - 1``."""
        return self._end_of(last - 1) - self._end_of(first - 1)

    def append(self, request: Request) -> None:
        """Append a request. Raises `EvalkitError` if the temporary file cannot be written."""
        self._buffer.extend(request.tokens)
        self._ends.append(self.tokens + len(request.tokens))
        self._starts.append(request.start)
        self._keep_tokens.append(request.keep_tokens)
        if len(self._buffer) > self._max_buffered_tokens:
            self._flush()

    def keep_tokens_of(self, position: int) -> None:
        """Mark a request's per-token log-probabilities to be kept."""
        self._keep_tokens[position] = True

    def _flush(self) -> None:
        try:
            if self._file is None:
                self._file = tempfile.TemporaryFile(prefix="evalkit-")  # noqa: SIM115 - lives as long as the table
            self._file.write(self._buffer.tobytes())
            self._file.flush()
        except OSError as error:
            full = error.errno in (errno.ENOSPC, errno.EDQUOT)
            raise EvalkitError(
                f"The tokens of a large run are kept in {tempfile.gettempdir()} while it lasts, and "
                f"{'its disk is full' if full else f'that cannot be written ({error.strerror or error})'}. "
                "Free some space, or set TMPDIR to a folder on another disk."
            ) from error
        self._tokens_in_file += len(self._buffer)
        self._buffer = array("i")

    def _end_of(self, position: int) -> int:
        return self._ends[position] if position >= 0 else 0

    def _read_tokens(self, first: int, last: int) -> array[int]:
        """Read tokens ``first … last - 1``, counted over all requests."""
        if self._file is None or first >= self._tokens_in_file:
            return self._buffer[first - self._tokens_in_file : last - self._tokens_in_file]
        tokens = array("i")  # the buffer is always flushed as a whole, so no request is split
        tokens.frombytes(os.pread(self._file.fileno(), (last - first) * TOKEN_BYTES, first * TOKEN_BYTES))
        return tokens

    def __len__(self) -> int:
        return len(self._ends)

    @overload
    def __getitem__(self, position: int) -> Request: ...

    @overload
    def __getitem__(self, position: slice) -> list[Request]: ...

    def __getitem__(self, position: int | slice) -> Request | list[Request]:
        if isinstance(position, slice):
            return [self[index] for index in range(*position.indices(len(self)))]
        if not -len(self) <= position < len(self):
            raise IndexError(position)
        position %= len(self)
        tokens = self._read_tokens(self._end_of(position - 1), self._end_of(position))
        return Request(tokens, self._starts[position], bool(self._keep_tokens[position]))
