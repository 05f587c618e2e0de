"""Find runs by name: a run folder, or MODEL[@REVISION] with a suite, looked up in the results folder."""

from __future__ import annotations

from collections.abc import Sequence
from fnmatch import fnmatchcase
from pathlib import Path

from evalkit.checkpoints.revisions import parse_revision
from evalkit.errors import EvalkitError, UnknownName, UsageError
from evalkit.results.layout import safe_name
from evalkit.results.reading import Run, load_run


def find_run(name: str, output: Path, suite: str | None) -> Run:
    """The run that a name refers to: a folder with a ``run.json``, else ``model[@revision]`` scored on `suite` below `output`.

    Without a revision: the model's default one, as in `evalkit run`, or the only one that has been scored. Raises `UsageError`
    that lists the candidates.
    """
    path = Path(name).expanduser()
    if (path / "run.json").is_file() or path.name == "run.json":
        return load_run(path)
    model, revision = _split(name)
    folders = {folder.name: folder for folder in _revisions(model, name, output, suite)}
    selected = safe_name(revision) if revision else "main" if "main" in folders else ""
    if not selected and len(folders) == 1:
        (selected,) = folders
    if not selected:
        default = default_folder(model)
        selected = default if default in folders else ""
    if selected not in folders:
        shown = ", ".join(folders)
        if selected:
            raise UnknownName(f"run of {model} at revision", revision, folders, f"It has runs of {shown}.")
        raise UsageError(f"{model} has runs of several revisions. Write {model}@REVISION with one of {shown}.")
    return load_run(folders[selected])


def find_paths(names: Sequence[str], output: Path, suite: str | None) -> list[Path]:
    """The run folders of several names. What exists as a path is taken as it is; ``model@GLOB`` may match several revisions."""
    paths: list[Path] = []
    for name in names:
        path = Path(name).expanduser()
        model, revision = _split(name)
        if path.exists():
            paths.append(path)
        elif set(revision) & set("*?["):
            folders = _revisions(model, name, output, suite)
            matching = [folder for folder in folders if fnmatchcase(folder.name, revision)]
            if not matching:
                known = [folder.name for folder in folders]
                raise UnknownName(f"run of {model} at revision", revision, known, f"It has runs of {', '.join(known)}.")
            paths += matching
        else:
            paths.append(find_run(name, output, suite).path)
    return paths


def _split(name: str) -> tuple[str, str]:
    """Model and revision of a name; the revision is empty if it has none."""
    model, at, revision = name.rpartition("@")
    return (model, revision) if at else (name, "")


def default_folder(model: str) -> str:
    """The folder name of a model's default revision; empty if the model is no longer known."""
    from evalkit.checkpoints.resolve import default_revision

    try:
        return safe_name(default_revision(model))
    except EvalkitError:  # moved or unregistered since
        return ""


def reject_repeated(names: Sequence[str], runs: Sequence[Run]) -> None:
    """Raise `UsageError` if two names refer to one run, and say which checkpoint is missing where that is the reason."""
    first: dict[Path, str] = {}
    for name, run in zip(names, runs, strict=True):
        path = run.path.resolve()
        if path not in first:
            first[path] = name
            continue
        pair = (first[path], name)
        bare = next((one for one in pair if "@" not in one and one != run.model and not Path(one).exists()), None)
        default = default_folder(bare) if bare is not None else ""
        if bare is not None and default and default != path.name:
            raise UsageError(
                f"{bare}@{default} has no run on {run.suite}; the only run of {bare} is {run.model}. Score it first: "
                f"evalkit run --model {bare} --suite {run.suite}."
            )
        raise UsageError(f"'{pair[0]}' and '{pair[1]}' are the same run ({run.path}), so there is nothing to compare.")


def find_sweep(names: Sequence[str], output: Path, suite: str | None) -> list[Run]:
    """The runs of a sweep: the given runs, or all revisions of a single given model."""
    if len(names) == 1 and not (Path(names[0]) / "run.json").is_file():
        path = Path(names[0]).expanduser()
        below = sorted(path.glob("*/run.json")) if path.is_dir() else []
        if below:
            return [load_run(file) for file in below]
        if "@" not in names[0]:
            return [load_run(folder) for folder in _revisions(names[0], names[0], output, suite)]
    return [load_run(path) for path in find_paths(names, output, suite)]


def _revisions(model: str, name: str, output: Path, suite: str | None) -> list[Path]:
    """The run folders of a model's revisions on one suite, in training order."""
    folder = output / safe_name(model)
    if not folder.is_dir():
        if Path(name).expanduser().is_dir():
            return [load_run(name).path]  # the error says that there is no run, and which are below
        known = [child.name for child in output.iterdir() if child.is_dir()] if output.is_dir() else []
        raise UnknownName(
            "run",
            name,
            known,
            f"Give a run folder, or a model that has runs in {output} (--output names another folder).",
        )
    suites = sorted(child.name for child in folder.iterdir() if any(child.glob("*/run.json")))
    if suite is None and len(suites) == 1:
        suite = suites[0]
    if suite is None:
        raise UsageError(f"{model} has runs on several suites. Choose one with --suite: {', '.join(suites) or 'none'}.")
    selected = suite if suite in suites else safe_name(suite)
    variants = [name for name in suites if name.partition("~")[0] == selected]
    if selected not in suites and len(variants) == 1:
        selected = variants[0]
    if selected not in suites:
        if variants:
            raise UsageError(f"{model} has several runs on {suite}. Choose one with --suite: {', '.join(variants)}.")
        raise UnknownName(f"run of {model} on the suite", suite, suites, f"It has runs on {', '.join(suites)}.")
    found = [file.parent for file in (folder / selected).glob("*/run.json")]
    return sorted(found, key=lambda run: parse_revision(run.name).order)
