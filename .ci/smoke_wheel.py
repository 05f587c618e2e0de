"""Build the wheel, install it under every supported Python that is here, and use it outside of the repository::

    python .ci/smoke_wheel.py --without-torch
    python .ci/smoke_wheel.py --python 3.12 --pip-flags="--extra-index-url https://download.pytorch.org/whl/cpu"

Under each Python a bare virtual environment gets the wheel and its dependencies, pinned by ``constraints.txt``, and scores
two revisions of olmo-tiny on the questions and texts of ``tests/stored``, with a report and a leaderboard. With torch the
scores must be those that are stored there. ``--without-torch`` leaves torch out, whose build for CUDA is several gigabytes,
and scores with the fake engine. A Python that is not here is skipped by name.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import shlex
import shutil
import subprocess
import sys
import tempfile
import time
import tomllib
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
STORED = ROOT / "tests" / "stored" / "schema1"
PYTHONS = ("3.11", "3.12", "3.13")
TOLERANCE = 1e-4
"""Relative; builds of torch differ in the order of their sums."""


class Failed(Exception):
    """What was tried and did not work, with the end of what it printed."""


def run(*words: object, cwd: Path, home: Path | None = None) -> str:
    """Run a command that sees neither this repository nor a hub, and return its output. Raises `Failed`."""
    environment = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "VIRTUAL_ENV")}
    if home is not None:
        environment |= {"EVALKIT_HOME": str(home), "HF_HUB_OFFLINE": "1"}
    command = [str(word) for word in words]
    done = subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        last = "\n".join((done.stdout + done.stderr).splitlines()[-40:])
        raise Failed(f"{shlex.join(command)}\nexit code {done.returncode}\n{last}")
    return done.stdout


def find_python(version: str) -> Path | None:
    """A working Python of this version, from the search path or from pyenv."""
    pyenv = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv")) / "versions"
    on_path = shutil.which(f"python{version}")
    for candidate in [*([Path(on_path)] if on_path else []), *sorted(pyenv.glob(f"{version}.*/bin/python"))]:
        code = "import sys; print('%d.%d' % sys.version_info[:2])"
        asked = subprocess.run([str(candidate), "-c", code], capture_output=True, text=True, check=False)
        if asked.stdout.strip() == version:  # a shim of pyenv is there also for versions that are switched off
            return candidate
    return None


def build(folder: Path) -> Path:
    """The wheel, built from a copy of the repository's files, so that leftovers of other builds play no part."""
    listed = run("git", "ls-files", "-z", "--cached", "--others", "--exclude-standard", cwd=ROOT)
    source = folder / "source"
    for name in filter(None, listed.split("\0")):
        if (ROOT / name).exists():
            (source / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, source / name, follow_symlinks=False)
    run(sys.executable, "-m", "pip", "wheel", "--no-deps", "--wheel-dir", folder, source, cwd=folder)
    (wheel,) = folder.glob("*.whl")
    return wheel


def install(python: Path, wheel: Path, venv: Path, torch: bool, pip_flags: Sequence[str]) -> None:
    """The wheel and what it asks for, in a new virtual environment."""
    run(python, "-m", "venv", venv, cwd=wheel.parent)
    constraints = ROOT / "constraints.txt"
    pip = [venv / "bin" / "python", "-m", "pip", "install", "--constraint", constraints, *pip_flags]
    if torch:
        run(*pip, wheel, cwd=wheel.parent)
        return
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    run(*pip, *(line for line in project["dependencies"] if not line.startswith("torch")), cwd=wheel.parent)
    run(*pip, "--no-deps", wheel, cwd=wheel.parent)


def use(venv: Path, folder: Path, torch: bool) -> None:
    """Help, lists, a run of two revisions, its report and a leaderboard. Raises `Failed`."""
    home = folder / "home"
    evalkit = venv / "bin" / "evalkit"
    for name in ("my_tasks", "texts"):
        shutil.copytree(STORED / name, folder / name)
    where = run(venv / "bin" / "python", "-c", "import evalkit; print(evalkit.__file__)", cwd=folder, home=home)
    if not where.startswith(str(venv)):
        raise Failed(f"evalkit was imported from {where}")
    run(evalkit, "--help", cwd=folder, home=home)
    if "arc_easy" not in run(evalkit, "list", "tasks", cwd=folder, home=home):
        raise Failed("'evalkit list tasks' does not list arc_easy")
    words = "run --model olmo-tiny --revisions * --max-points 2 --task capitals --suite texts --tasks-dir my_tasks"
    engine = ("--engine", "transformers", "--device", "cpu") if torch else ("--engine", "fake")
    run(evalkit, *words.split(), *engine, cwd=folder, home=home)
    run(evalkit, "leaderboard", "results", "--out", "board.html", cwd=folder, home=home)
    for pattern, count in (("metrics.json", 4), ("report.html", 2), ("board.html", 1)):
        if len(list(folder.rglob(pattern))) < count:
            raise Failed(f"fewer than {count} files {pattern} were written")
    if torch:
        compare_with_stored(folder)


def compare_with_stored(folder: Path) -> None:
    """Every metric is the stored one, within `TOLERANCE`. Raises `Failed`."""
    for file in sorted((STORED / "results").rglob("metrics.json")):
        place = file.relative_to(STORED)
        stored, found = (json.loads((root / place).read_text(encoding="utf-8")) for root in (STORED, folder))
        for a, b in zip(stored, found, strict=True):
            same = (a["task"], a["metric"], a["domain"]) == (b["task"], b["metric"], b["domain"])
            if not same or not math.isclose(a["value"], b["value"], rel_tol=TOLERANCE):
                raise Failed(f"{place}: {a} is stored, and this Python finds {b}")


def main() -> int:
    """Try every Python; 1 where one failed or none is here."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--python", nargs="+", default=PYTHONS, metavar="VERSION", help="the Pythons to try")
    parser.add_argument("--without-torch", action="store_true", help="leave torch out, and score with the fake engine")
    parser.add_argument("--pip-flags", default="", help="further options of pip, in one string")
    options = parser.parse_args()
    tried, failed = 0, 0
    with tempfile.TemporaryDirectory() as scratch:
        wheel = build(Path(scratch))
        for version in options.python:
            python = find_python(version)
            if python is None:
                print(f"Python {version}: skipped, it is not installed here", flush=True)
                continue
            began = time.monotonic()
            tried += 1
            with tempfile.TemporaryDirectory() as name:
                venv, folder = Path(name) / "venv", Path(name) / "work"
                folder.mkdir()
                try:
                    install(python, wheel, venv, not options.without_torch, shlex.split(options.pip_flags))
                    use(venv, folder, not options.without_torch)
                except Failed as error:
                    failed += 1
                    print(f"Python {version}: FAILED\n{error}", flush=True)
                    continue
            print(f"Python {version}: {wheel.name} works ({time.monotonic() - began:.0f} s)", flush=True)
    if not tried:
        print("None of these Pythons is installed here.", file=sys.stderr)
    return 1 if failed or not tried else 0


if __name__ == "__main__":
    sys.exit(main())
