"""Write files of examples/ into the pages that show them: ``python docs/make_examples.py``. A test keeps them equal.

A page says which file a block shows by a comment before it: ``<!-- examples/capitals.py -->``.
"""

from __future__ import annotations

import re
from pathlib import Path

DOCS = Path(__file__).resolve().parent
BLOCK = re.compile(r"(<!-- (examples/\S+) -->\n+```\w*\n).*?(```\n)", re.DOTALL)


def filled(text: str) -> str:
    """The page with each shown file as it is now."""
    return BLOCK.sub(lambda block: block[1] + (DOCS.parent / block[2]).read_text(encoding="utf-8") + block[3], text)


if __name__ == "__main__":
    for page in sorted(DOCS.glob("*.md")):
        text = page.read_text(encoding="utf-8")
        if filled(text) != text:
            page.write_text(filled(text), encoding="utf-8")
            print(f"{page.name}: written")
