"""``--config RUN.yaml``: the options of ``evalkit run`` from a file, checked; the command line wins."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from evalkit.errors import UsageError
from evalkit.options import RunOptions
from evalkit.system.documents import read_yaml


def read(file: Path | None, given: Mapping[str, Any]) -> RunOptions:
    """The options of `file`, overridden by those `given` on the command line.

    Raises `UsageError` that names the file, the option and what is wrong with it.
    """
    written = _load(file) if file is not None else {}
    names = RunOptions.field_by_option_name()
    kept = {key: value for key, value in written.items() if names.get(str(key).replace("_", "-")) not in given}
    return RunOptions.make({**kept, **given}, command="evalkit run", where=str(file or ""), given=given)


def _load(file: Path) -> dict[Any, Any]:
    written = read_yaml(file, what="The --config file")
    if written is None:
        return {}
    if not isinstance(written, dict):
        raise UsageError(f"{file} must contain options of 'evalkit run', one per line, as in 'model: olmo-tiny'.")
    return written
