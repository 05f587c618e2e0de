"""Reads small JSON and YAML files, whoever wrote them: every failure is one sentence that names the file.

Parsers raise far more than their own errors (``!!int x`` is a `ValueError`, deep nesting a `RecursionError`), and accept
what breaks later: lone surrogates, which nothing can write; integers that no float holds; nesting that the next recursive
function cannot follow; YAML aliases that stand for billions of nodes. All of it is refused here.

YAML is read by the scalar rules of version 1.2: there are no dates, ``010`` and ``1:30`` are no numbers in bases 8 and 60,
and ``1e-5`` is a number. A key that stands twice is an error.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from functools import cache, partial
from pathlib import Path
from typing import Any, Literal, TypeVar, get_args

from pydantic import BaseModel, ConfigDict, ValidationError, ValidationInfo, field_validator

from evalkit.errors import EvalkitError, UsageError

Surrogates = Literal["refuse", "keep", "escape"]
ModelT = TypeVar("ModelT", bound=BaseModel)

MAX_YAML_BYTES = 1 << 20
"""The YAML parser is written in Python: a megabyte takes it seconds."""
MAX_YAML_NODES = 200_000
"""Nodes of a YAML file with every alias written out."""
MAX_DEPTH = 100
MAX_DIGITS = 100
"""Of an integer. ``tokenizer_config.json`` commonly has one of 31 (1e30, for no limit)."""

_LONG_NUMBER = re.compile(rf"\d{{{MAX_DIGITS + 1},}}")
_YAML_INTEGER = re.compile(r"[-+]?(?:0|[1-9][0-9_]*|0x[0-9a-fA-F]+)$")
_YAML_FLOAT = re.compile(
    r"[-+]?(?:[0-9][0-9_]*\.[0-9_]*(?:[eE][-+]?[0-9]+)?|\.[0-9]+(?:[eE][-+]?[0-9]+)?|[0-9][0-9_]*[eE][-+]?[0-9]+"
    r"|\.(?:inf|Inf|INF))$|\.(?:nan|NaN|NAN)$"
)
_CONTAINERS = (dict, list, tuple, set)
_RESOLVED_OTHERWISE = {f"tag:yaml.org,2002:{kind}" for kind in ("int", "float", "timestamp")}


class Invalid(ValueError):
    """A text that is not valid; the message ends the sentence "FILE …"."""


class Written(BaseModel):
    """Fields that a person wrote: numbers are finite, and true and false are none (pydantic takes them for 1 and 0)."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False, protected_namespaces=())

    @field_validator("*", mode="before")
    @classmethod
    def _is_no_boolean(cls, value: Any, info: ValidationInfo) -> Any:
        kind = cls.model_fields[str(info.field_name)].annotation
        if isinstance(value, bool) and bool not in (kind, *get_args(kind)):
            raise ValueError("it takes neither true nor false")
        return value


def read_json(
    path: Path,
    *,
    what: str = "",
    raises: type[EvalkitError] = UsageError,
    advice: str = "",
    surrogates: Surrogates = "refuse",
) -> Any:
    """The value in a JSON file.

    `surrogates`: what becomes of unpaired ones, which names of files have where they are no UTF-8. ``keep`` leaves them (the
    name opens the file), ``escape`` writes them out (the name is shown).

    Raises `raises` with a sentence that begins with `what` (such as ``The recipe``) and the path, followed by `advice`.
    """
    return _read(path, partial(parse_json, surrogates=surrogates), what, raises, advice)


def read_yaml(path: Path, *, what: str = "", raises: type[EvalkitError] = UsageError, advice: str = "") -> Any:
    """The value in a YAML file, or in a JSON file if it is called ``.json``; None if it is empty. Raises like `read_json`."""
    return _read(path, parse_json if path.suffix == ".json" else parse_yaml, what, raises, advice)


def checked(
    model: type[ModelT],
    value: Any,
    path: Path,
    *,
    what: str = "",
    part: str = "",
    raises: type[EvalkitError] = UsageError,
    advice: str = "",
) -> ModelT:
    """`value`, which was read from `path` (or is a `part` of that), as a pydantic model.

    Raises `raises` with a sentence that names the file and the first wrong field; see `read_json`.
    """
    try:
        return model.model_validate(value)
    except ValidationError as error:
        raise raises(
            _sentence(f"{what} {path}{f', {part}' if part else ''}", f": {first_fault(error)}", advice)
        ) from None


def first_fault(error: ValidationError) -> str:
    """The first of a pydantic error's faults: ``tasks.0.name should be a valid string``."""
    first = error.errors(include_url=False, include_context=False)[0]
    where = ".".join(str(part) for part in first["loc"])[:120]
    message = str(first["msg"]).removeprefix("Value error, ")
    if first["type"] == "extra_forbidden":
        return f"there is no field {where}"
    if first["type"] == "missing":
        return f"{where} is missing"
    if first["type"] in ("model_type", "dict_type"):
        return f"{where or 'it'} should be a mapping of names to values"
    if message.startswith("Input "):
        return f"{where or 'it'} {message.removeprefix('Input ')}"
    return f"{where}: {message}" if where else message


def parse_json(data: bytes | str, *, surrogates: Surrogates = "refuse") -> Any:
    """The value of a JSON text. Raises `Invalid`; see `read_json`."""
    text = _decoded(data)
    long_numbers = _LONG_NUMBER.search(text) is not None
    try:
        value = json.loads(text, parse_int=_short_integer if long_numbers else None)
    except json.JSONDecodeError as error:
        line = f", line {error.lineno}," if error.lineno > 1 else ""
        raise Invalid(f"{line} is not JSON: {error.msg[:1].lower()}{error.msg[1:]}") from None
    except RecursionError:
        raise Invalid(" is nested too deeply") from None
    _check_depth(value)
    if surrogates == "keep" or not ("\\ud" in text or "\\uD" in text):
        return value
    if surrogates == "escape":
        return _escaped(value)
    _check_surrogates(value)
    return value


def parse_yaml(data: bytes | str) -> Any:
    """The value of a YAML text; None if there is none. Raises `Invalid`."""
    import yaml

    if len(data) > MAX_YAML_BYTES:
        raise Invalid(f" has {len(data):,} bytes; at most {MAX_YAML_BYTES:,} are read")
    text = _decoded(data)
    loader = None
    try:
        loader = _loader()(text)
        node = loader.get_single_node()
        if node is None:
            return None
        _check_nodes(node)
        value = loader.construct_document(node)
    except yaml.reader.ReaderError as error:
        line = text[: error.position].count("\n") + 1
        raise Invalid(f", line {line}, is not YAML: it has the character U+{error.character:04X}") from None
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None) or getattr(error, "context_mark", None)
        problem = " ".join(str(getattr(error, "problem", None) or error).split())[:200]
        raise Invalid(f"{f', line {mark.line + 1},' if mark else ''} is not YAML: {problem}") from None
    except RecursionError:
        raise Invalid(" is nested too deeply") from None
    except Invalid:
        raise
    except Exception as error:  # the scanner and the composer raise others for a few texts
        raise Invalid(f" is not YAML ({type(error).__name__})") from None
    finally:
        if loader is not None:
            loader.dispose()
    _check_depth(value)
    _check_surrogates(value)
    return value


def _read(path: Path, parse: Callable[[bytes], Any], what: str, raises: type[EvalkitError], advice: str) -> Any:
    label = f"{what} {path}"
    try:
        data = path.read_bytes()
    except FileNotFoundError as error:
        raise raises(_sentence(label, " does not exist", advice)) from error
    except (OSError, ValueError) as error:  # ValueError: a name with a NUL byte
        reason = getattr(error, "strerror", None) or error
        raise raises(_sentence(label, f" cannot be read: {reason}", advice)) from error
    try:
        return parse(data)
    except Invalid as error:
        raise raises(_sentence(label, str(error), advice)) from None


def _sentence(label: str, fault: str, advice: str) -> str:
    return f"{label.strip()}{fault.rstrip('.')}.{' ' + advice if advice else ''}"


def _decoded(data: bytes | str) -> str:
    if isinstance(data, str):
        return data
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise Invalid(" is not UTF-8") from None


def _short_integer(text: str) -> int:
    if len(text) > MAX_DIGITS:
        raise Invalid(f" has a number of {len(text):,} digits")
    return int(text)


def _check_depth(value: Any) -> None:
    """Raise `Invalid` for lists and objects nested more than `MAX_DEPTH` deep."""
    level, depth = [value] if isinstance(value, _CONTAINERS) else [], 0
    while level:
        depth += 1
        if depth > MAX_DEPTH:
            raise Invalid(" is nested too deeply")
        level = [
            child
            for parent in level
            for child in (parent.values() if isinstance(parent, dict) else parent)
            if isinstance(child, _CONTAINERS)
        ]


def _check_surrogates(value: Any) -> None:
    """Raise `Invalid` for a text with an unpaired surrogate, which has no encoding."""
    pending = [value]
    while pending:
        item = pending.pop()
        if isinstance(item, str):
            try:
                item.encode()
            except UnicodeEncodeError:
                raise Invalid(" has a text with an unpaired surrogate, which is not valid Unicode") from None
        elif isinstance(item, dict):
            pending += [*item.keys(), *item.values()]
        elif isinstance(item, _CONTAINERS):
            pending += item


def _escaped(value: Any) -> Any:
    """A JSON value with unpaired surrogates written out in its texts."""
    if isinstance(value, str):
        return value.encode("utf-8", "backslashreplace").decode("utf-8")
    if isinstance(value, dict):
        return {_escaped(key): _escaped(item) for key, item in value.items()}
    return [_escaped(item) for item in value] if isinstance(value, list) else value


def _check_nodes(root: Any) -> None:
    """Raise `Invalid` for keys that stand twice, aliases that contain themselves, and more than `MAX_YAML_NODES` nodes."""
    sizes: dict[int, int] = {}
    pending: list[tuple[Any, bool]] = [(root, False)]
    while pending:
        node, seen = pending.pop()
        if isinstance(node.value, str):
            sizes[id(node)] = 1
            continue
        children = [part for child in node.value for part in (child if isinstance(child, tuple) else (child,))]
        if seen:
            size = 1 + sum(sizes[id(child)] for child in children)
            if size > MAX_YAML_NODES:
                raise Invalid(f" has more than {MAX_YAML_NODES:,} values, with its aliases written out")
            sizes[id(node)] = size
        elif id(node) not in sizes:
            _check_keys(node)
            sizes[id(node)] = 0  # being counted
            pending.append((node, True))
            pending += [(child, False) for child in children]
        elif sizes[id(node)] == 0:
            raise Invalid(f", line {node.start_mark.line + 1}, has an alias that contains itself")


def _check_keys(node: Any) -> None:
    seen: set[tuple[str, str]] = set()
    for child in node.value:
        if isinstance(child, tuple) and isinstance(child[0].value, str) and not child[0].tag.endswith(":merge"):
            key = (child[0].tag, child[0].value)
            if key in seen:
                raise Invalid(f", line {child[0].start_mark.line + 1}, has the key '{key[1][:40]}' twice")
            seen.add(key)


@cache
def _loader() -> Any:
    """PyYAML's safe loader with the rules in this module's docstring; errors of conversions become errors with a line."""
    import yaml

    class Loader(yaml.SafeLoader):
        yaml_implicit_resolvers = {  # noqa: RUF012
            first: [(tag, pattern) for tag, pattern in resolvers if tag not in _RESOLVED_OTHERWISE]
            for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
        }

        def construct_object(self, node: Any, deep: bool = False) -> Any:
            try:
                return super().construct_object(node, deep=deep)
            except (yaml.YAMLError, RecursionError, Invalid):
                raise
            except Exception as error:  # ValueError, AttributeError, KeyError … of the conversions
                kind = str(node.tag).rpartition(":")[2]
                text = f"{node.value[:40]!r} " if isinstance(node.value, str) else "this "
                raise yaml.constructor.ConstructorError(None, None, f"{text}is no {kind}", node.start_mark) from error

        def construct_yaml_int(self, node: Any) -> int:
            text = self.construct_scalar(node)
            if len(text) > MAX_DIGITS:
                raise yaml.constructor.ConstructorError(
                    None, None, f"a number of {len(text):,} digits", node.start_mark
                )
            return int(super().construct_yaml_int(node))

    Loader.add_constructor("tag:yaml.org,2002:int", Loader.construct_yaml_int)
    Loader.add_implicit_resolver("tag:yaml.org,2002:int", _YAML_INTEGER, list("-+0123456789"))
    Loader.add_implicit_resolver("tag:yaml.org,2002:float", _YAML_FLOAT, list("-+0123456789."))
    return Loader
