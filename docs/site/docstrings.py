"""What mkdocstrings shows of a docstring: `name` is a reference to that name, and an example is a block of code.

A griffe extension. evalkit's docstrings write names as reST's default role does, in single backticks.
"""

from __future__ import annotations

import re
from typing import Any

import griffe

REFERENCE = re.compile(r"(?<!`)`([A-Za-z_][\w.]*)(\(\))?`(?!`)")
EXAMPLE = re.compile(r"^(?:>>> .*\n?)(?:(?:>>>|\.\.\.) ?.*\n?)*", re.MULTILINE)


class CrossReferences(griffe.Extension):
    """Rewrites every docstring of a package when all of it is loaded."""

    def on_package(self, *, pkg: griffe.Module, loader: griffe.GriffeLoader, **kwargs: Any) -> None:
        self._walk(pkg)

    def _walk(self, thing: griffe.Object) -> None:
        if thing.docstring is not None:
            thing.docstring.value = shown(thing.docstring.value, thing)
        for member in thing.members.values():
            if not member.is_alias:
                self._walk(member)  # type: ignore[arg-type]


def shown(text: str, thing: griffe.Object) -> str:
    """A docstring as Markdown, with the names that it mentions as references from where `thing` stands."""
    text = EXAMPLE.sub(lambda block: f"```python\n{block[0].rstrip()}\n```\n", text)
    return REFERENCE.sub(lambda name: _reference(name[1], name[2] or "", thing), text)


def _reference(name: str, call: str, thing: griffe.Object) -> str:
    path = _path(name, thing)
    if path is None:
        return f"`{name}{call}`"
    return f'<autoref optional identifier="{path}"><code>{name}{call}</code></autoref>'


def _path(name: str, thing: griffe.Object) -> str | None:
    """The full path of what a name means where `thing` is defined; None for a parameter, and where it means nothing there."""
    first, _, rest = name.partition(".")
    if first == thing.package.name:
        return name
    if isinstance(thing, griffe.Function) and first in {one.name.lstrip("*") for one in thing.parameters}:
        return None
    try:
        path = thing.resolve(first)
    except griffe.NameResolutionError:
        return None
    if not rest and _is_module(path, thing.package):
        return None  # a sentence that says `task` means a field or an option, and names the module as `evalkit.task`
    path = f"{path}.{rest}" if rest else path
    return path if path != thing.path else None


def _is_module(path: str, package: griffe.Module) -> bool:
    try:
        return package[path.removeprefix(f"{package.name}.")].is_module
    except (KeyError, griffe.AliasResolutionError):
        return False
