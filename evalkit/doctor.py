"""Facts about what this machine can run and what is missing, gathered without failing and without loading a model."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import platform
import shutil
import sys
import threading
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

from evalkit.system.masking import mask_text

PROBE_SECONDS = 3.0
LIBRARIES = ("transformers", "tokenizers", "datasets", "huggingface_hub", "safetensors", "pyarrow", "pandas")
EXTRAS = {
    "train": ("trl", "peft"),
    "ray": ("ray",),
    "lm-eval": ("lm_eval",),
    "math": ("math-verify", "antlr4-python3-runtime"),
}


def collect_facts() -> dict[str, Any]:
    """All facts as JSON values. What cannot be determined is None, with the reason next to it."""
    from evalkit import __version__
    from evalkit.system.home import cache, home

    torch = torch_facts()
    return {
        "evalkit": __version__,
        "python": platform.python_version(),
        "executable": sys.executable,
        "platform": platform.platform(),
        "machine": platform.machine(),
        "cores": _cores(),
        "memory_bytes": memory(),
        "disk_free_bytes": _disk_free(Path()),
        "torch": torch,
        "libraries": {name: version(name) for name in LIBRARIES},
        "vllm": vllm(torch),
        "extras": {extra: all(version(name) for name in names) for extra, names in EXTRAS.items()},
        "engines": engines(torch),
        "plugin_problems": plugin_problems(),
        "code_execution": code_execution(),
        "hub": hub(),
        "bundle": bundle(),
        "home": str(home()),
        "cache": str(cache()),
        "caches": caches(),
    }


def version(name: str) -> str | None:
    """The installed version of a distribution, without importing it."""
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def _cores() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def memory() -> int | None:
    """Bytes of main memory; None if the system does not report it."""
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (ValueError, OSError, AttributeError):
        return None


def _disk_free(folder: Path) -> int | None:
    folder = folder.absolute()
    while not folder.exists() and folder != folder.parent:
        folder = folder.parent
    try:
        return shutil.disk_usage(folder).free
    except OSError:
        return None


def torch_facts() -> dict[str, Any]:
    """Version, build and CUDA devices of torch; ``error`` if it cannot be imported."""
    try:
        import torch
    except Exception as error:  # a broken build can raise anything
        return {"version": version("torch"), "error": f"{type(error).__name__}: {error}", "cuda": None, "devices": []}
    devices = []
    problem = None
    try:
        for index in range(torch.cuda.device_count()):
            facts = torch.cuda.get_device_properties(index)
            devices.append(
                {"name": facts.name, "memory_bytes": facts.total_memory, "capability": f"{facts.major}.{facts.minor}"}
            )
    except Exception as error:  # a driver that does not fit
        problem = f"{type(error).__name__}: {error}"
    return {
        "version": torch.__version__,
        "error": problem,
        "cuda": torch.version.cuda,
        "devices": devices,
        "threads": torch.get_num_threads(),
    }


def vllm(torch: dict[str, Any]) -> dict[str, Any]:
    """The installed vLLM, how it would score and what it lacks, determined without importing it."""
    from evalkit.engines.vllm.check import check

    return check(torch)


def engines(torch: dict[str, Any]) -> dict[str, str]:
    """Whether each registered engine can run here: ``ready``, or what it lacks."""
    from evalkit import registry

    requirements = {"transformers": ("torch", "transformers")}
    status_by_engine = {}
    for entry in registry.engines:
        if entry.name == "vllm":
            facts = vllm(torch)
            status_by_engine["vllm"] = (
                "ready" if facts["ready"] else ("has problems" if facts["installed"] else "needs vllm")
            )
            continue
        missing = [name for name in requirements.get(entry.name, ()) if importlib.util.find_spec(name) is None]
        status_by_engine[entry.name] = f"needs {', '.join(missing)}" if missing else "ready"
    return status_by_engine


def plugin_problems() -> list[str]:
    """What is wrong with installed plugins, in sentences."""
    from evalkit import registry

    registry.load_all()
    return list(registry.plugin_problems)


def code_execution() -> dict[str, Any]:
    """Whether programs that models write can be run here, found by running one that tries to get out."""
    from evalkit.cage.permission import protection

    found = protection()
    return {"ready": found.ready, "protection": found.sentence}


def hub() -> dict[str, Any]:
    """Whether the Hugging Face hub answers within `PROBE_SECONDS`."""
    address = os.environ.get("HF_ENDPOINT", "https://huggingface.co").rstrip("/")
    if os.environ.get("HF_HUB_OFFLINE", "").upper() in ("1", "TRUE", "YES", "ON"):
        return {"address": mask_text(address), "reachable": False, "reason": "HF_HUB_OFFLINE is set"}
    answer: dict[str, Any] = {
        "address": mask_text(address),
        "reachable": False,
        "reason": f"no answer in {PROBE_SECONDS:.0f} s",
    }

    def probe() -> None:
        try:
            request = urllib.request.Request(address, method="HEAD")  # noqa: S310
            with urllib.request.urlopen(request, timeout=PROBE_SECONDS):  # noqa: S310
                answer.update(reachable=True, reason=None)
        except urllib.error.HTTPError as error:
            refused = error.code >= 500 or error.code == 429
            answer.update(reachable=not refused, reason=f"it answers HTTP {error.code} ({error.reason})")
        except Exception as error:  # a name that does not resolve, a proxy's refusal, a wrong address
            answer.update(reason=str(getattr(error, "reason", error)))

    thread = threading.Thread(target=probe, daemon=True)  # a DNS lookup has no timeout of its own
    thread.start()
    thread.join(PROBE_SECONDS)
    return dict(answer)


def bundle() -> dict[str, Any]:
    """The offline bundle's path, and whether the file is there with the right size."""
    from evalkit.data.fetch import SIZE, bundle_path

    path = bundle_path()
    present = path.is_file()
    return {"path": str(path), "present": present, "whole": present and path.stat().st_size == SIZE}


def caches() -> list[dict[str, Any]]:
    """The parts of evalkit's cache and the hub's cache, with their sizes in bytes."""
    from evalkit.data.fetch import caches as parts

    found = [{"name": name, "path": str(path), "bytes": count} for name, path, count in parts()]
    hub_cache = Path(
        os.environ.get("HF_HUB_CACHE")
        or Path(os.environ.get("HF_HOME", Path.home() / ".cache" / "huggingface")) / "hub"
    )
    if hub_cache.is_dir():
        files = (path for path in hub_cache.rglob("*") if path.is_file() and not path.is_symlink())
        found.append(
            {"name": "hugging face hub", "path": str(hub_cache), "bytes": sum(f.stat().st_size for f in files)}
        )
    return found
