"""The shape of a data set's rows, as its description declares it under ``columns``, checked before templates see a row.

A column is ``str``, ``int``, ``float``, ``bool`` or ``null``, several of them (``str | int``), a list of one (``[str]``) or a
mapping of names to such (``{text: [str], label: [str]}``). Columns that are not declared are not looked at.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError, create_model

from evalkit.errors import UsageError
from evalkit.system.documents import first_fault

_KINDS: dict[str, Any] = {"str": str, "int": int, "float": float, "bool": bool, "null": type(None), "any": Any}


class Columns:
    """Checks rows."""

    def __init__(self, declared: Mapping[str, Any]) -> None:
        """Raises `UsageError` for a declaration that is none."""
        self._model = _model(declared)

    def fault(self, row: Mapping[str, Any]) -> str | None:
        """What is wrong with a row, as the end of a sentence; None if nothing is."""
        try:
            self._model.model_validate(row)
        except ValidationError as error:
            return first_fault(error)
        return None


def _model(declared: Mapping[str, Any]) -> type[BaseModel]:
    # aliases, since a column may be called like a method of pydantic's models
    fields: dict[str, Any] = {}
    for position, (name, kind) in enumerate(declared.items()):
        fields[f"column_{position}"] = (_kind(kind), Field(alias=name))
    return create_model("Row", __config__=ConfigDict(strict=True), **fields)


def _kind(declared: Any) -> Any:
    if isinstance(declared, Mapping):
        return _model(declared)
    if isinstance(declared, list) and len(declared) == 1:
        return list[_kind(declared[0])]  # type: ignore[misc]
    names = [part.strip() for part in declared.split("|")] if isinstance(declared, str) else [declared]
    kinds: Any = None
    for name in names:
        if name is not None and (not isinstance(name, str) or name not in _KINDS):
            raise UsageError(
                f"'{name}' is not a column type: there are {', '.join(_KINDS)}, a list of one, or a mapping."
            )
        kind = type(None) if name is None else _KINDS[name]
        kinds = kind if kinds is None else kinds | kind
    return kinds
