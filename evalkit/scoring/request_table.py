"""The distinct requests of a run, in order: a few bytes each in memory, and the tokens of large runs in a temporary file.

A text suite has hundreds of millions of tokens and more; only those of the segment at hand are in memory. A request that
is asked for is made anew, equal to the one that was put in.
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

HELD_TOKENS = 2_000_000
"""Tokens that are held before they go to the file: 8 MB, and no file at all for a small run."""
WIDTH = array("i").itemsize


class RequestTable(Sequence[Request]):
    """Requests by position. The file has no name and goes when the table does, or the process."""

    def __init__(self, held: int = HELD_TOKENS) -> None:
        self._most = held
        self._ends = array("q")
        self._starts = array("i")
        self._keep = bytearray()
        self._held = array("i")
        self._written = 0
        """Tokens in the file; those held follow them."""
        self._file: IO[bytes] | None = None

    @property
    def tokens(self) -> int:
        """Tokens of all requests."""
        return self._ends[-1] if self._ends else 0

    def tokens_between(self, first: int, last: int) -> int:
        """Tokens of the requests ``first … last - 1``."""
        return self._end(last - 1) - self._end(first - 1)

    def append(self, request: Request) -> None:
        """Put a request at the end. Raises `EvalkitError` where the temporary file cannot be written."""
        self._held.extend(request.tokens)
        self._ends.append(self.tokens + len(request.tokens))
        self._starts.append(request.start)
        self._keep.append(request.keep_tokens)
        if len(self._held) > self._most:
            self._flush()

    def keep(self, position: int) -> None:
        """From now on the per-token log-probabilities of a request are wanted."""
        self._keep[position] = True

    def _flush(self) -> None:
        try:
            if self._file is None:
                self._file = tempfile.TemporaryFile(prefix="evalkit-")  # noqa: SIM115 - lives as long as the table
            self._file.write(self._held.tobytes())
            self._file.flush()
        except OSError as error:
            full = error.errno in (errno.ENOSPC, errno.EDQUOT)
            raise EvalkitError(
                f"The tokens of a large run are kept in {tempfile.gettempdir()} while it lasts, and "
                f"{'its disk is full' if full else f'that cannot be written ({error.strerror or error})'}. "
                "Free some space, or set TMPDIR to a folder on another disk."
            ) from error
        self._written += len(self._held)
        self._held = array("i")

    def _end(self, position: int) -> int:
        return self._ends[position] if position >= 0 else 0

    def _read(self, first: int, last: int) -> array[int]:
        """The tokens ``first … last - 1`` of all."""
        if self._file is None or first >= self._written:
            return self._held[first - self._written : last - self._written]
        tokens = array("i")  # what was held went to the file as a whole, so no request lies in both
        tokens.frombytes(os.pread(self._file.fileno(), (last - first) * WIDTH, first * WIDTH))
        return tokens

    def __len__(self) -> int:
        return len(self._ends)

    @overload
    def __getitem__(self, position: int) -> Request: ...

    @overload
    def __getitem__(self, position: slice) -> list[Request]: ...

    def __getitem__(self, position: int | slice) -> Request | list[Request]:
        if isinstance(position, slice):
            return [self[one] for one in range(*position.indices(len(self)))]
        if not -len(self) <= position < len(self):
            raise IndexError(position)
        position %= len(self)
        tokens = self._read(self._end(position - 1), self._end(position))
        return Request(tokens, self._starts[position], bool(self._keep[position]))
