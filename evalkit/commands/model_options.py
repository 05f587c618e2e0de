"""Options of a command generated from the fields of a model (`evalkit.options.RunOptions`, `evalkit.train.recipe.Recipe`).

A field's description is the option's help text, and its ``json_schema_extra`` may say ``panel``, ``metavar``, ``shown`` (the
default in words) and ``option`` (its name).
"""

from __future__ import annotations

import inspect
import types
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Union, get_args, get_origin

import typer
from pydantic import BaseModel
from pydantic.fields import FieldInfo

from evalkit.commands.completion import BY_FIELD
from evalkit.options import option_name


def option(model: type[BaseModel], name: str, *, paired: bool = False, metavar: str = "") -> Any:
    """The ``typer.Option`` of a field. `paired`: a flag that is off by default has its ``--no-…`` too."""
    field = model.model_fields[name]
    extra = field.json_schema_extra if isinstance(field.json_schema_extra, dict) else {}
    names = option_name(model, name)
    more: dict[str, Any] = {}
    if bool in _kinds(field):
        if paired or field.default is True:
            names = f"{names}/--no-{names[2:]}"
    else:
        more["metavar"] = metavar or extra.get("metavar")
    more["min"] = next((one.ge for one in field.metadata if hasattr(one, "ge")), None) if int in _kinds(field) else None
    more["autocompletion"] = BY_FIELD.get(name)
    panel = extra.get("panel")
    shown = extra.get("shown", None if field.default in (None, "", (), [], {}, False) else field.default)
    return typer.Option(
        names,
        help=field.description,
        show_default=False if shown is None else str(shown).lower() if isinstance(shown, bool) else str(shown),
        rich_help_panel=str(panel) if panel else None,
        **more,
    )


def _kinds(field: FieldInfo) -> set[Any]:
    """The types that a field may have, except None."""
    kind = field.annotation
    kinds = set(get_args(kind)) if get_origin(kind) in (Union, types.UnionType) else {kind}
    return kinds - {type(None)}


def _typed(field: FieldInfo) -> Any:
    """The type that typer parses: a list for fields with several values, else the field's own type; None if not given."""
    kinds = _kinds(field)
    if any(get_origin(kind) in (tuple, list, dict) for kind in kinds) and Path not in kinds:
        return list[str] | None
    return next((kind | None for kind in (bool, int, Path) if kind in kinds), str | None)


def add_options(
    command: Callable[..., Any],
    model: type[BaseModel],
    *,
    first: Sequence[str] = (),
    skip: Collection[str] = (),
    describe: Callable[[str], Mapping[str, Any]] = lambda name: {},
    kind: Callable[[FieldInfo], Any] = _typed,
) -> None:
    """Give a command that takes ``**fields`` an option for each field of `model`, None if not given.

    `first`: fields whose options come before the others. `describe`: further arguments of `option` for a field.
    `kind`: the type that typer parses for a field.
    """
    signature = inspect.signature(command, eval_str=True)
    fixed = [one for one in signature.parameters.values() if one.kind is not one.VAR_KEYWORD]
    excluded = {*skip, *signature.parameters}
    names = dict.fromkeys([*first, *model.model_fields])
    generated = [
        inspect.Parameter(
            name,
            inspect.Parameter.KEYWORD_ONLY,
            default=None,
            annotation=Annotated[kind(model.model_fields[name]), option(model, name, **describe(name))],
        )
        for name in names
        if name not in excluded
    ]
    if first:
        fixed = [one.replace(kind=inspect.Parameter.KEYWORD_ONLY) for one in fixed]
    signature = signature.replace(parameters=[*generated, *fixed] if first else [*fixed, *generated])
    command.__signature__ = signature  # type: ignore[attr-defined]  # typer reads both
    command.__annotations__ = {name: parameter.annotation for name, parameter in signature.parameters.items()}


def given(fields: Mapping[str, Any]) -> dict[str, Any]:
    """The options given on the command line."""
    return {name: value for name, value in fields.items() if value is not None and value != []}
