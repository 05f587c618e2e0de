"""Who may run programs, what is said where nobody can, and that no cage outlives evalkit."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from evalkit.cage import permission
from evalkit.cage.permission import protection, require_cage
from evalkit.cage.programs import CageError, Limits, Program, Verdict
from evalkit.cage.run import run_programs
from evalkit.cage.system_calls import ARCHITECTURES, seccomp_filter
from evalkit.errors import UsageError
from tests.made.cages import all_gone, cages
from tests.made.command_line import Command
from tests.made.repository import ROOT

ENDLESS = "from evalkit.cage.run import run_programs\nfrom evalkit.cage.programs import Program\nrun_programs([Program('import time; time.sleep(99)', '')] * 3)"


@pytest.fixture(autouse=True)
def _forget() -> None:
    protection.cache_clear()


def test_protection_is_tried_here() -> None:
    """A machine that runs these tests has bubblewrap (``make bubblewrap``)."""
    assert protection().ready, protection().sentence
    assert "filter of system calls" in protection().sentence
    require_cage(True, "humaneval")


def test_the_person_has_to_say_so() -> None:
    with pytest.raises(
        UsageError, match=r"^humaneval runs programs that the model writes\. Add --allow-code-execution"
    ):
        require_cage(False, "humaneval")


def test_without_bubblewrap_nothing_runs(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, evalkit: Command) -> None:
    """One error that names the package; ``evalkit doctor`` says the same."""
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(CageError, match=r"'bwrap'\) is not installed\. On Linux 'apt install bubblewrap'"):
        require_cage(True, "humaneval")
    with pytest.raises(CageError):
        run_programs([Program("", "")])
    result = evalkit("doctor")
    assert result.code == 0
    assert "programs cannot be run safely: bubblewrap" in " ".join(result.out.split())


def test_a_cage_that_cannot_be_made_is_an_error(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Such as in containers without name spaces: what bubblewrap says is passed on, and no verdict is made of it."""
    (tmp_path / "bwrap").write_text(
        "#!/bin/sh\necho 'bwrap: No permissions to create new namespace' >&2\nexit 1\n", encoding="utf-8"
    )
    (tmp_path / "bwrap").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(CageError, match=r"run safely here: bwrap: No permissions to create new namespace\. On"):
        require_cage(True, "humaneval")


def test_a_cage_with_a_hole_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    """The probe looks at each wall; one that is missing is told."""
    monkeypatch.setattr(permission, "_PROBE", permission._PROBE + "no_network = False\n")
    assert not protection().ready
    assert protection().sentence.startswith("a program that should have been contained was not (AssertionError")


def test_doctor_tells(evalkit: Command) -> None:
    out = " ".join(evalkit("doctor").out.split())
    assert "code --allow-code-execution runs programs in bubblewrap with" in out


@pytest.mark.parametrize("ending", [signal.SIGKILL, signal.SIGINT])
def test_no_cage_outlives_evalkit(ending: signal.Signals) -> None:
    """Killed or interrupted while programs run."""
    with subprocess.Popen([sys.executable, "-c", ENDLESS], cwd=ROOT, stderr=subprocess.DEVNULL) as process:
        end = time.monotonic() + 20
        while not cages() and time.monotonic() < end:
            time.sleep(0.02)
        time.sleep(0.2)
        assert cages()
        process.send_signal(ending)
        assert process.wait(10) != 0
    assert all_gone()


def test_an_ordinary_user_has_a_cage_too(tmp_path: Path) -> None:
    """In a user name space, with the same verdicts. The modules are copied to where anybody may read them."""
    python = "/usr/bin/python3" if os.geteuid() == 0 else sys.executable
    if os.geteuid() == 0:
        version = subprocess.run(
            [python, "-c", "import sys; print(sys.version_info >= (3, 11))"], capture_output=True, check=False
        )
        if version.stdout != b"True\n" or shutil.which("setpriv") is None:
            pytest.skip("needs setpriv, and a /usr/bin/python3 from 3.11 that ordinary users can run")
    place = Path("/tmp") / f"evalkit-cage-{os.getpid()}"  # noqa: S108  pytest's own folders are closed to others
    script = (
        "from evalkit.cage.permission import protection\nfrom evalkit.cage.run import run_programs\n"
        "from evalkit.cage.programs import Program\nassert protection().ready, protection()\nprint(protection().sentence)\n"
        "bomb = 'import os\\nwhile True:\\n    try: os.fork()\\n    except OSError: os._exit(0)'\n"
        "print(*[one.verdict for one in run_programs([Program('x = 1', 'assert x == 1'), Program('', 'assert 0'), Program(bomb, '')])])"
    )
    try:
        for name in ("cage", "system"):
            shutil.copytree(
                ROOT / "evalkit" / name, place / "evalkit" / name, ignore=shutil.ignore_patterns("__pycache__")
            )
        for name in ("__init__.py", "errors.py"):
            shutil.copy(ROOT / "evalkit" / name, place / "evalkit" / name)
        user = ["setpriv", "--reuid=54321", "--regid=54321", "--clear-groups"] if os.geteuid() == 0 else []
        environment = {"PATH": "/usr/bin:/bin", "PYTHONPATH": str(place), "PYTHONDONTWRITEBYTECODE": "1"}
        result = subprocess.run(
            [*user, python, "-c", script],
            env=environment,
            cwd=place,
            capture_output=True,
            text=True,
            encoding="utf-8",
            check=False,
        )
    finally:
        shutil.rmtree(place)
    assert result.returncode == 0, result.stderr
    assert "a user name space" in result.stdout
    assert result.stdout.splitlines()[-1] == "passed failed failed"


def test_limits_are_more_than_nothing() -> None:
    with pytest.raises(ValueError, match="cpu_seconds must be more than 0"):
        Limits(cpu_seconds=0)


def test_programs_may_be_larger_than_a_pipe() -> None:
    """Code and tests of a megabyte each reach the program whole."""
    code, tests = f"x = {'1' * 1000!r}\n" + "# code\n" * 150_000, "# tests\n" * 150_000 + "assert len(x) == 1000"
    (outcome,) = run_programs([Program(code, tests)])
    assert outcome.verdict is Verdict.PASSED, outcome


@pytest.mark.parametrize("machine", ARCHITECTURES)
def test_the_filter_is_whole(machine: str) -> None:
    """Instructions of eight bytes, at most what the kernel takes; every jump stays inside."""
    filter_ = seccomp_filter(machine)
    count = len(filter_) // 8
    assert len(filter_) % 8 == 0
    assert count < 4096
    for at in range(count):
        code, if_true, if_false = (
            int.from_bytes(filter_[at * 8 : at * 8 + 2], "little"),
            filter_[at * 8 + 2],
            filter_[at * 8 + 3],
        )
        if code & 7 == 5:
            assert at + 1 + max(if_true, if_false) < count


def test_other_systems_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """macOS and Windows have no cage, and finding out imports nothing that only Unix has."""
    monkeypatch.setattr(sys, "platform", "win32")
    assert not protection().ready
    assert protection().sentence == "the sandbox supports Linux on x86_64 or aarch64"


def test_the_page_shows_the_limits_in_force() -> None:
    """docs/code-execution.md names the defaults of `Limits`, and its example runs."""
    page = (ROOT / "docs" / "code-execution.md").read_text(encoding="utf-8")
    limits = Limits()
    for shown in (
        f"| {limits.cpu_seconds} s |",
        f"| {limits.wall_seconds:g} s |",
        f"| {limits.memory_bytes >> 30} GiB |",
        f"| {limits.disk_bytes >> 20} MiB, {limits.files:,} files |",
        f"| {limits.output_bytes >> 20} MiB |",
        f"| {limits.processes} |",
        f"| {limits.open_files} |",
    ):
        assert shown in page, shown
    example = page.split("```python\n")[1].split("```")[0]
    result = subprocess.run([sys.executable, "-c", example], cwd=ROOT, capture_output=True, check=True)
    assert result.stdout == b"passed \n"
