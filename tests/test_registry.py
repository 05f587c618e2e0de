"""Names that are registered twice, and plugins that are broken: named, and everything else stands."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from evalkit import cli, registry
from evalkit.doctor import plugin_problems
from evalkit.engines.base import EngineSettings
from evalkit.errors import UsageError
from evalkit.registry import ModelEntry, Registry, SuiteEntry
from evalkit.scoring.collect import completed
from evalkit.scoring.engine_choice import make_engine
from evalkit.task import TaskBase, TaskOptions

GROUP = "evalkit.models_made_for_a_test"
Install = Callable[..., Registry[ModelEntry]]


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Install]:
    """Packages with one module and one entry point each, and a registry of models that loads them."""
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(registry, "plugin_problems", [])
    made: Registry[ModelEntry] = Registry("model", GROUP, "")
    monkeypatch.setattr(registry, "made_here", made, raising=False)
    modules = set(sys.modules)

    def run(**packages: str) -> Registry[ModelEntry]:
        for name, code in packages.items():
            folder = tmp_path / f"{name}-1.0.dist-info"
            folder.mkdir()
            (folder / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
            (folder / "entry_points.txt").write_text(f"[{GROUP}]\nof_{name} = {name}_module:register\n")
            (tmp_path / f"{name}_module.py").write_text(
                f"from evalkit.registry import *\nimport evalkit.registry as r\n{code}\n"
            )
        importlib.invalidate_caches()
        return made

    yield run
    for name in set(sys.modules) - modules:
        del sys.modules[name]


def add(name: str, source: str = "org/name") -> str:
    """The code of a plugin that registers a model."""
    return f"def register(): r.made_here.add(ModelEntry({name!r}, {source!r}, where=__name__))"


def test_broken_plugins_are_named_and_the_rest_stands(install: Install) -> None:
    """An import that fails, a call that fails, one that ends the program: a sentence each, the same on every call."""
    made = install(
        good=add("mine"),
        missing="import no_such_module_at_all",
        failing="def register(): 1 / 0",
        leaving="raise SystemExit(3)",
        without_function="x = 1",
    )
    with pytest.warns(UserWarning, match="cannot be loaded"):
        first = [entry.name for entry in made]
    assert first == [entry.name for entry in made] == ["mine"]
    assert len(registry.plugin_problems) == 4
    told = "\n".join(registry.plugin_problems)
    assert "'of_missing' of the package 'missing' (missing_module:register)" in told
    for reason in ("No module named 'no_such_module_at_all'", "ZeroDivisionError", "SystemExit: 3", "AttributeError"):
        assert reason in told


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_two_plugins_of_one_name(install: Install) -> None:
    """Using the name is an error that names both; the other names of both stand."""
    made = install(
        one=add("shared") + "\nr.made_here.add(ModelEntry('a', 'x'))\nr.made_here.add(ModelEntry('c', 'x'))",
        two=add("shared", "org/other")
        + "\nr.made_here.add(ModelEntry('b', 'y'))\nr.made_here.add(ModelEntry('c', 'y'))",
    )
    assert made.get("a").source == "x"
    assert "shared" in made
    with pytest.raises(UsageError, match="'shared' is registered twice: in one_module and in two_module"):
        made.get("shared")
    assert made.get("b").source == "y"
    with pytest.raises(UsageError, match=r"'c' is registered twice: in .*one_module\.py and in .*two_module\.py"):
        made.get("c")
    assert [problem.partition(" is")[0] for problem in registry.plugin_problems] == [
        "The model 'c'",
        "The model 'shared'",
    ]


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_an_interrupted_import_is_made_up_for(install: Install) -> None:
    """Ctrl-C while plugins are loaded leaves nothing out for the rest of the program."""
    once = "if not r.plugin_problems: r.plugin_problems.append('interrupted'); raise KeyboardInterrupt\n"
    made = install(slow=once + add("mine"))
    with pytest.raises(KeyboardInterrupt):
        list(made)
    assert [entry.name for entry in made] == ["mine"]


def test_a_name_is_never_replaced_in_silence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither by another file of the same module name, nor by the same file; a reload may replace its own."""
    made: Registry[SuiteEntry] = Registry("suite", GROUP, "")
    monkeypatch.setattr(registry, "made_here", made, raising=False)
    monkeypatch.syspath_prepend(str(tmp_path))
    code = "from evalkit.registry import SuiteEntry, made_here\nmade_here.add(SuiteEntry('s', ({!r},), where='here'))\n"
    module_file = tmp_path / "reloaded_suites.py"
    module_file.write_text(code.format("one"))
    module = importlib.import_module("reloaded_suites")
    module_file.write_text("# changed\n" + code.format("another"))
    importlib.reload(module)
    assert made.get("s").tasks == ("another",)
    made.add(made.get("s"))  # equal: nothing to tell
    module_file.write_text(code.format("three") + code.format("four"))
    with pytest.raises(UsageError, match="'s' is registered twice: in here"):
        importlib.reload(module)
    cell = {"__name__": "__main__", "__spec__": None}  # a notebook's cells have one namespace, and no file
    for tasks in ("one", "two"):
        exec(code.format(tasks).replace("'s'", "'of a notebook'"), cell)  # noqa: S102
    assert made.get("of a notebook").tasks == ("two",)
    folder = tmp_path / "elsewhere"
    folder.mkdir()
    (folder / "mine.py").write_text(code.format("five"))
    with pytest.raises(UsageError) as told:
        registry.load_tasks_dir(folder)
    assert f"{module_file}) and in here ({folder / 'mine.py'})" in str(told.value)
    assert "evalkit_user_tasks.mine" not in sys.modules


def test_the_same_file_again(tmp_path: Path) -> None:
    """A folder of tasks is loaded as often as one likes; a file of the same name in another folder is another task."""
    code = "from evalkit.registry import task\n@task('made_twice')\ndef made_twice(name, options): ...\n"
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "same.py").write_text(code)
    try:
        registry.load_tasks_dir(tmp_path / "a")
        registry.load_tasks_dir(tmp_path / "a")
        with pytest.raises(UsageError, match=r"made_twice' is registered twice: .*a/same.py.* and .*b/same.py"):
            registry.load_tasks_dir(tmp_path / "b")
    finally:
        registry.tasks.remove("made_twice")


def test_what_a_plugins_class_lacks_is_named() -> None:
    """Tasks without a method, also behind a function; factories that fail; engines without a method."""

    class Half(TaskBase):
        def protocol(self) -> dict[str, Any]:
            return {}

    for number, factory in enumerate([Half, lambda name, options: Half(), lambda name, options: 1 / 0]):
        registry.task(f"half{number}")(factory)
    registry.engine("half")(lambda settings: object())  # type: ignore[arg-type, return-value]
    try:
        for number, told in enumerate([r"lacks documents, metrics, prompts", "TypeError.*documents", "ZeroDivision"]):
            with pytest.raises(UsageError, match=f"'half{number}' .*{told}"):
                registry.make_task(f"half{number}")
        with pytest.raises(UsageError, match=r"engine 'half' .* lacks close, identity, layout, load"):
            make_engine("half", EngineSettings())
    finally:
        for number in range(3):
            registry.tasks.remove(f"half{number}")
        registry.engines.remove("half")


def test_a_suites_unknown_options_are_named() -> None:
    """An option that no task takes."""
    with pytest.raises(UsageError, match=r"The suite 's' .* sets 'limt', which no task takes"):
        completed(TaskOptions(), {"limt": 3}, SuiteEntry("s", ("t",), where="here"))


def test_commands_tell_of_problems(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """On stderr after every command, and in what the doctor finds."""
    monkeypatch.setattr(registry, "plugin_problems", ["The plugin 'x' cannot be loaded."])
    for _ in range(2):
        assert cli.main(["list", "engines", "--json"]) == 0
        assert capsys.readouterr().err == "Warning: The plugin 'x' cannot be loaded.\n"
    assert plugin_problems() == ["The plugin 'x' cannot be loaded."]


def test_lists_take_a_folder_of_tasks(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Suites, engines and models that its files register are listed too."""
    (tmp_path / "all.py").write_text(
        "from evalkit.registry import *\nfrom evalkit.registry import engine, engines, models, suites\n"
        "engine('listed_engine')(lambda settings: None)\n"
        "suites.add(SuiteEntry('listed_suite', ('arc_easy',)))\nmodels.add(ModelEntry('listed_model', 'org/name'))\n"
    )
    try:
        for kind in ("suite", "engine", "model"):
            assert cli.main(["list", f"{kind}s", "--tasks-dir", str(tmp_path)]) == 0
            assert f"listed_{kind}" in capsys.readouterr().out
    finally:
        registry.engines.remove("listed_engine")
        registry.suites.remove("listed_suite")
        registry.models.remove("listed_model")
