"""User-registered models: names for folders and hub repositories, stored in a small JSON file under ``EVALKIT_HOME``."""

from __future__ import annotations

import contextlib
import fcntl
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, StrictInt, StrictStr

from evalkit import registry
from evalkit.errors import UnknownName, UsageError
from evalkit.registry import ModelEntry
from evalkit.system.documents import checked, read_json
from evalkit.system.files import write_json, writing
from evalkit.system.home import home

SCHEMA_VERSION = 1
NAME_PATTERN = re.compile(r"^[A-Za-z0-9][\w.+-]*$")


ADVICE = "Fix it, or move it away and register your models again."


class _Extra(BaseModel):
    model_config = ConfigDict(extra="allow")

    tokens_per_step: StrictInt | None = Field(None, gt=0)
    training: dict[str, Any] | None = None


class _Model(BaseModel):
    source: StrictStr
    tokenizer: StrictStr | None = None
    default_revision: StrictStr | None = None
    description: StrictStr = ""
    extra: _Extra | None = None


class _ModelsFile(BaseModel):
    models: dict[str, _Model]


def models_file() -> Path:
    """The file that stores the registered models."""
    return home() / "models.json"


def user_models() -> dict[str, ModelEntry]:
    """The user's models by name. Raises `UsageError` naming the file if it is damaged."""
    file = models_file()
    if not file.exists():
        return {}
    stored = checked(_ModelsFile, read_json(file, advice=ADVICE, surrogates="keep"), file, advice=ADVICE)
    return {
        name: ModelEntry(
            name,
            model.source,
            tokenizer=model.tokenizer,
            default_revision=model.default_revision,
            description=model.description,
            where=str(file),
            extra=model.extra.model_dump(exclude_none=True) if model.extra else {},
        )
        for name, model in stored.models.items()
    }


def add_model(
    name: str,
    source: str | Path,
    *,
    tokenizer: str | None = None,
    default_revision: str | None = None,
    description: str = "",
    extra: Mapping[str, Any] | None = None,
    replace: bool = False,
) -> ModelEntry:
    """Register a folder or a hub repository under a name, persistently.

    Raises `UsageError` if the name is invalid, or taken by a built-in model or (unless `replace`) by another of the user's.
    """
    if not NAME_PATTERN.match(name):
        raise UsageError(f"'{name}' cannot be a model's name: use letters, digits and . _ + - (no slash, no @).")
    folder = Path(source).expanduser()
    location = str(folder.resolve()) if folder.is_dir() else str(source)
    if not folder.is_dir() and (location.count("/") != 1 or location.startswith((".", "/", "~"))):
        raise UsageError(f"{source} is neither a folder nor a hub repository (ORG/NAME).")
    with _locked():
        models = user_models()
        if name in models and not replace:
            raise UsageError(
                f"The model '{name}' is already registered, for {models[name].source}. 'evalkit models rm {name}' "
                "removes it."
            )
        if name not in models and name in registry.models:
            raise UsageError(f"The model '{name}' comes with evalkit or a plugin. Choose another name.")
        entry = ModelEntry(
            name, location, tokenizer, default_revision, description, str(models_file()), dict(extra or {})
        )
        models[name] = entry
        _write(models)
    registry.models.remove(name)
    return registry.models.add(entry)


def remove_model(name: str) -> ModelEntry:
    """Unregister a model without deleting its files. Raises `UnknownName` for a name that the user did not register."""
    with _locked():
        models = user_models()
        if name not in models:
            raise UnknownName("registered model", name, models, "'evalkit list models' lists the models.")
        entry = models.pop(name)
        _write(models)
    registry.models.remove(name)
    return entry


def _write(models: Mapping[str, ModelEntry]) -> None:
    fields_by_name = {
        name: {
            key: value
            for key, value in (
                ("source", entry.source),
                ("tokenizer", entry.tokenizer),
                ("default_revision", entry.default_revision),
                ("description", entry.description),
                ("extra", dict(entry.extra)),
            )
            if value
        }
        for name, entry in sorted(models.items())
    }
    write_json(models_file(), {"schema_version": SCHEMA_VERSION, "models": fields_by_name})


@contextlib.contextmanager
def _locked() -> Iterator[None]:
    """Keep concurrent ``evalkit models add`` from losing updates, if the file system supports locks."""
    file = home() / ".models.lock"
    with writing(file):
        file.parent.mkdir(parents=True, exist_ok=True)
        stream = file.open("w", encoding="utf-8")
    with stream:
        with contextlib.suppress(OSError):
            fcntl.flock(stream, fcntl.LOCK_EX)
        yield
