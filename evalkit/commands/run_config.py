"""``--config RUN.yaml``: the options of ``evalkit run`` from a file, checked; the command line wins."""

from __future__ import annotations

from collections.abc import Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from evalkit.errors import UsageError


def _listed(value: Any) -> Any:
    return [value] if isinstance(value, (str, int, float)) and not isinstance(value, bool) else value


def _word(value: Any) -> Any:
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else value


def _pairs(value: Any) -> Any:
    return [f"{key}={item}" for key, item in value.items()] if isinstance(value, dict) else _listed(value)


Names = Annotated[list[str], BeforeValidator(_listed)]


class RunOptions(BaseModel):
    """Every option of ``evalkit run``, under its name on the command line (with dashes or underscores)."""

    model_config = ConfigDict(
        extra="forbid", alias_generator=lambda name: name.replace("_", "-"), populate_by_name=True
    )

    model: Names = Field(default_factory=list)
    revisions: Names = Field(default_factory=list)
    every: str | None = None
    max_points: int | None = Field(default=None, ge=2)
    stage: int | None = None
    adapter: Path | None = None
    tokenizer: str | None = None
    suite: Names = Field(default_factory=list)
    task: Names = Field(default_factory=list)
    split: str | None = None
    shots: int | None = Field(default=None, ge=0)
    limit: int | None = Field(default=None, ge=1)
    window: Literal["strict", "catwalk"] = "strict"
    prefix_token: Literal["eos", "bos"] = "eos"
    max_length: int | None = Field(default=None, ge=1)
    apply_chat_template: bool = False
    engine: str = "auto"
    engine_arg: Annotated[list[str], BeforeValidator(_pairs)] = Field(default_factory=list)
    device: str = "auto"
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    batch_tokens: int | None = Field(default=None, ge=1)
    cross_check: int | None = Field(default=None, ge=1)
    output: Path = Path("results")
    data: Path | None = None
    data_source: str | None = None
    bundle: Path | None = None
    tasks_dir: Path | None = None
    domain_weights: Path | None = None
    save_tokens: bool = False
    samples: Annotated[str | None, BeforeValidator(_word)] = None
    no_report: bool = False
    dry_run: bool = False
    force: bool = False
    verify: bool = False
    trust_remote_code: bool = False


def read(file: Path | None, given: Mapping[str, Any]) -> RunOptions:
    """The options of `file`, overridden by those `given` on the command line.

    Raises `UsageError` that names the file, the option and what is wrong with it.
    """
    written = _load(file) if file is not None else {}
    _refuse_unknown(written, file)
    merged = {str(key).replace("-", "_"): value for key, value in written.items()} | dict(given)
    try:
        return RunOptions.model_validate(merged)
    except ValidationError as error:
        first = error.errors()[0]
        place = first["loc"][0] if first["loc"] else ""
        name = f"--{str(place).replace('_', '-')}"
        where = f"{file}: " if file is not None and place not in given else ""
        value = merged.get(str(place), "")
        raise UsageError(f"{where}{name} cannot be {value!r}: {_plain(first['msg'])}.") from None


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


def _refuse_unknown(written: Mapping[Any, Any], file: Path | None) -> None:
    known = [name.replace("_", "-") for name in RunOptions.model_fields]
    for key in written:
        name = str(key).replace("_", "-")
        if name not in known:
            near = get_close_matches(name, known, n=1, cutoff=0.5)
            hint = f" Did you mean '{near[0]}'?" if near else ""
            raise UsageError(f"{file}: 'evalkit run' has no option '{key}'.{hint}")


def _plain(message: str) -> str:
    return message[:1].lower() + message[1:]
