"""Run examples/gallery.ipynb and keep what it shows: ``python docs/make_gallery.py``. A test runs it too.

It runs in a copy of the folder, so that nothing of this machine stands in it and nothing of it stays behind.
"""

from __future__ import annotations

import shutil
import sys
import tempfile
from pathlib import Path
from typing import Any

NOTEBOOK = Path(__file__).resolve().parents[1] / "examples" / "gallery.ipynb"


def executed(path: Path = NOTEBOOK, seconds: int = 300) -> Any:
    """The notebook with fresh outputs. Raises nbclient's `CellExecutionError` where a cell fails."""
    import nbformat
    from nbclient import NotebookClient

    notebook = nbformat.read(path, as_version=4)
    with tempfile.TemporaryDirectory() as temporary:
        folder = shutil.copytree(path.parent, Path(temporary) / "examples", ignore=shutil.ignore_patterns("gallery"))
        client = NotebookClient(
            notebook, timeout=seconds, kernel_name="python3", resources={"metadata": {"path": str(folder)}}
        )
        client.execute()
    for cell in notebook.cells:  # when and in which order this machine ran it is nobody's affair
        cell.metadata.pop("execution", None)
        if cell.cell_type == "code":
            cell.outputs = [output for output in cell.outputs if output.get("name") != "stderr"]
    notebook.metadata = nbformat.from_dict(
        {
            "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
            "language_info": {"name": "python"},
        }
    )
    return notebook


def main() -> int:
    """Run it and write it back."""
    import nbformat

    nbformat.write(executed(), NOTEBOOK)
    print(f"{NOTEBOOK.name}: {NOTEBOOK.stat().st_size / 1e3:.0f} kB")
    return 0


if __name__ == "__main__":
    sys.exit(main())
