"""What mkdocstrings shows of a docstring: `name` is a reference to that name, and an example is a block of code.

A griffe extension. evalkit's docstrings write names as reST's default role does, in single backticks.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import griffe

REFERENCE = re.compile(r"(?<!`)`([A-Za-z_][\w.]*)(\(\))?`(?!`)")
EXAMPLE = re.compile(r"^(?:>>> .*\n?)(?:(?:>>>|\.\.\.) ?.*\n?)*", re.MULTILINE)


class CrossReferences(griffe.Extension):
    """Rewrites every docstring of a package when all of it is loaded."""

    def on_package(self, *, pkg: griffe.Module, **kwargs: Any) -> None:
        things = list(_things(pkg))
        classes: dict[str, list[str]] = {}
        for thing in things:
            if thing.is_class:
                classes.setdefault(thing.name, []).append(thing.path)
        unique = {name: paths[0] for name, paths in classes.items() if len(paths) == 1}
        for thing in things:
            if thing.docstring is not None:
                thing.docstring.value = shown(thing.docstring.value, thing, unique)


def _things(thing: griffe.Object) -> Iterator[griffe.Object]:
    """Everything that is defined in a package, itself first."""
    yield thing
    for member in thing.members.values():
        if isinstance(member, griffe.Object):
            yield from _things(member)


def shown(text: str, thing: griffe.Object, classes: dict[str, str]) -> str:
    """A docstring as Markdown: the names that it mentions are references, from where `thing` stands.

    `classes`: full paths of the package's classes, for those that a docstring mentions and its module does not import.
    """

    def reference(match: re.Match[str]) -> str:
        name, call = match[1], match[2] or ""
        path = _path(name, thing) or classes.get(name)
        if path is None or path == thing.path:
            return f"`{name}{call}`"
        return f'<autoref optional identifier="{path}"><code>{name}{call}</code></autoref>'

    text = EXAMPLE.sub(lambda block: f"```python\n{block[0].rstrip()}\n```\n", text)
    return REFERENCE.sub(reference, text)


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
    return f"{path}.{rest}" if rest else path


def _is_module(path: str, package: griffe.Module) -> bool:
    try:
        return package[path.removeprefix(f"{package.name}.")].is_module
    except (KeyError, griffe.AliasResolutionError):
        return False
