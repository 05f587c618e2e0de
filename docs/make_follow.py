"""Run the Python of docs/follow.md and write what it prints below it: ``python docs/make_follow.py [OUT]``.

The blocks share one namespace and run in an empty folder that holds examples/. A test keeps the page as it is made.
"""

from __future__ import annotations

import contextlib
import io
import re
import sys
import tempfile
from pathlib import Path
from typing import Any

PAGE = Path(__file__).with_name("follow.md")
BLOCK = re.compile(r"(```python\n(.*?)```\n)(?:\n```text\n.*?```\n)?", re.DOTALL)


def filled(text: str) -> str:
    """The page with fresh outputs. What a block raises is raised."""
    names: dict[str, Any] = {}

    def run(block: re.Match[str]) -> str:
        printed = io.StringIO()
        with contextlib.redirect_stdout(printed):
            exec(compile(block[2], PAGE.name, "exec"), names)  # noqa: S102 - our own page
        return block[1] + (f"\n```text\n{printed.getvalue()}```\n" if printed.getvalue() else "")

    with tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder):
        Path("examples").symlink_to(PAGE.parents[1] / "examples")
        return BLOCK.sub(run, text)


if __name__ == "__main__":
    out = Path(sys.argv[1]).resolve() if len(sys.argv) > 1 else PAGE
    out.write_text(filled(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
    print(f"{out.name}: {len(out.read_text(encoding='utf-8').splitlines())} lines")
