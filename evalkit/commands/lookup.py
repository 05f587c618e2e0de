"""Find runs by name: a run folder, or a checkpoint's run in the results folder."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from evalkit.checkpoints.revisions import parse_revision
from evalkit.errors import EvalkitError, UnknownName, UsageError
from evalkit.results.layout import safe_name
from evalkit.results.reading import Run, load_run


def find_run(name: str, output: Path, suite: str | None) -> Run:
    """The run that a name refers to: a folder with a ``run.json``, else ``model[@revision]`` scored on `suite` below `output`.

    Without a revision the model's default one, as `evalkit run` takes it, or the only one. Raises `UsageError` that lists the candidates.
    """
    path = Path(name).expanduser()
    if (path / "run.json").is_file() or path.name == "run.json":
        return load_run(path)
    model, _, revision = name.rpartition("@") if "@" in name else (name, "", "")
    folders = {folder.name: folder for folder in _revisions(model, name, output, suite)}
    selected = safe_name(revision) if revision else "main" if "main" in folders else ""
    if not selected and len(folders) == 1:
        (selected,) = folders
    if not selected:
        selected = _default_of(model, folders)
    if selected not in folders:
        shown = ", ".join(folders)
        if selected:
            raise UnknownName("run of the revision", revision, folders, f"{model} has runs of {shown}.")
        raise UsageError(f"{model} has runs of several revisions: write {model}@REVISION, with one of {shown}.")
    return load_run(folders[selected])


def _default_of(model: str, folders: Mapping[str, Path]) -> str:
    """The folder of a model's default revision, if the model is still known and that revision has a run; else an empty string."""
    from evalkit.checkpoints.resolve import default_revision

    try:
        name = safe_name(default_revision(model))
    except EvalkitError:  # moved or forgotten since
        return ""
    return name if name in folders else ""


def find_sweep(names: Sequence[str], output: Path, suite: str | None) -> list[Run]:
    """The runs of a sweep: the given runs, or all revisions of a single given model."""
    if len(names) == 1 and not (Path(names[0]) / "run.json").is_file():
        path = Path(names[0]).expanduser()
        below = sorted(path.glob("*/run.json")) if path.is_dir() else []
        if below:
            return [load_run(file) for file in below]
        return [load_run(folder) for folder in _revisions(names[0], names[0], output, suite)]
    return [find_run(name, output, suite) for name in names]


def _revisions(model: str, name: str, output: Path, suite: str | None) -> list[Path]:
    """The run folders of a model's revisions on one suite, in training order."""
    folder = output / safe_name(model)
    if not folder.is_dir():
        if Path(name).expanduser().is_dir():
            return [load_run(name).path]  # says that there is no run, and which are below
        known = [child.name for child in output.iterdir() if child.is_dir()] if output.is_dir() else []
        raise UnknownName(
            "run", name, known, f"Give a run's folder, or a model that has runs in {output} (--output names another)."
        )
    suites = sorted(child.name for child in folder.iterdir() if any(child.glob("*/run.json")))
    if suite is None and len(suites) == 1:
        suite = suites[0]
    if suite is None:
        raise UsageError(
            f"{model} has runs of several suites: choose with --suite, one of {', '.join(suites) or 'none'}."
        )
    selected = suite if suite in suites else safe_name(suite)
    variants = [name for name in suites if name.partition("~")[0] == selected]
    if selected not in suites and len(variants) == 1:
        selected = variants[0]
    if selected not in suites:
        if variants:
            raise UsageError(f"{model} has several runs of {suite}: choose with --suite, one of {', '.join(variants)}.")
        raise UnknownName(f"run of {model} on the suite", suite, suites, f"It has runs of {', '.join(suites)}.")
    found = [file.parent for file in (folder / selected).glob("*/run.json")]
    return sorted(found, key=lambda run: parse_revision(run.name).order)
