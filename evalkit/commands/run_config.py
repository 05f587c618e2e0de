"""``--config RUN.yaml``: the options of ``evalkit run`` from a file, checked; the command line wins."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from evalkit.errors import UsageError
from evalkit.options import RunOptions


def read(file: Path | None, given: Mapping[str, Any]) -> RunOptions:
    """The options of `file`, overridden by those `given` on the command line.

    Raises `UsageError` that names the file, the option and what is wrong with it.
    """
    written = _load(file) if file is not None else {}
    names = RunOptions.field_by_option_name()
    kept = {key: value for key, value in written.items() if names.get(str(key).replace("_", "-")) not in given}
    return RunOptions.make({**kept, **given}, command="evalkit run", where=str(file or ""), given=given)


def _load(file: Path) -> dict[Any, Any]:
    try:
        written = yaml.safe_load(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UsageError(f"The file {file} of --config does not exist.") from None
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"The file {file} of --config cannot be read: {error}.") from None
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = f", line {mark.line + 1}" if mark else ""
        raise UsageError(f"{file}{line} is not YAML: {getattr(error, 'problem', None) or error}.") from None
    if written is None:
        return {}
    if not isinstance(written, dict):
        raise UsageError(f"{file} must hold options of 'evalkit run', one a line, as in 'model: olmo-tiny'.")
    return written
