"""Find recipes by name or path: those that ship with evalkit, a user's own file, and the recipe of an earlier run."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from evalkit import registry
from evalkit.errors import UnknownName, UsageError
from evalkit.system.documents import read_yaml
from evalkit.train.recipe import current_names

RECIPES = Path(__file__).parent / "recipes"
RECIPE_FILE = "recipe.yaml"
"""The resolved recipe, in the folder of a run."""


@dataclass(frozen=True, slots=True)
class ShippedRecipe:
    """A recipe that comes with evalkit."""

    name: str
    path: Path
    description: str
    fields: Mapping[str, Any]


def shipped_recipes() -> Iterator[ShippedRecipe]:
    """Every recipe that ships, sorted by name."""
    for path in sorted(RECIPES.glob("*.yaml")):
        fields = read_fields(path)
        yield ShippedRecipe(path.stem, path, " ".join(str(fields.get("description", "")).split()), fields)


def find_recipe(name: str) -> tuple[dict[str, Any], str]:
    """The fields of a shipped recipe or a recipe file, and a description of where they come from. Raises `UsageError`."""
    path = Path(name).expanduser()
    if path.suffix in (".yaml", ".yml") or path.is_file():
        if not path.is_file():
            raise UsageError(f"There is no recipe file {name}.")
        return _with_default_name(read_fields(path), path.stem), str(path)
    known = {recipe.stem: recipe for recipe in RECIPES.glob("*.yaml")}
    if name not in known:
        raise UnknownName(
            "recipe", name, known, "'evalkit list recipes' lists the built-in ones; a file ends in .yaml."
        )
    return _with_default_name(read_fields(known[name]), name), f"recipe {name}"


def recipes_for(name: str) -> list[str]:
    """The built-in recipes that make a model called like this: BASE-METHOD, where the recipe trains BASE by METHOD.

    ``olmo-1b-sft`` gives those that fine-tune the registered model ``olmo-1b``; the recipe of that very name comes first.
    """
    base, _, method = name.rpartition("-")
    registered = {entry.name: entry.source for entry in registry.models}
    sources = {base, registered.get(base, base)}
    found = [
        recipe.name
        for recipe in shipped_recipes()
        if recipe.name == name or (recipe.fields.get("model") in sources and recipe.fields.get("method") == method)
    ]
    return sorted(found, key=lambda recipe: recipe != name)


def recipe_of_run(path: str | Path) -> tuple[dict[str, Any], str]:
    """The resolved recipe of a run, given its training folder or a results folder, and its file. Raises `UsageError`."""
    folder = Path(path).expanduser()
    if folder.is_file():
        folder = folder.parent
    if (folder / RECIPE_FILE).is_file():
        return read_fields(folder / RECIPE_FILE), str(folder / RECIPE_FILE)
    from evalkit.results.reading import read_training

    training = read_training(folder)
    if training is None:
        raise UsageError(
            f"{path} is not a training run: it has neither {RECIPE_FILE} nor training.json. "
            "Give the folder of a trained model or one of its run folders."
        )
    return current_names(training["recipe"], str(folder / "training.json")), str(folder / "training.json")


def read_fields(path: Path) -> dict[str, Any]:
    """The fields of a recipe file. Raises `UsageError` with file and line if it is not valid YAML."""
    fields = read_yaml(path, what="The recipe")
    if not isinstance(fields, dict):
        raise UsageError(f"{path} is not a recipe: it must contain fields, one per line, as in 'model: olmo-tiny'.")
    return current_names(fields, str(path))


def _with_default_name(fields: dict[str, Any], name: str) -> dict[str, Any]:
    """Name a recipe after its file unless it has a name."""
    return fields if fields.get("name") else {**fields, "name": name}
