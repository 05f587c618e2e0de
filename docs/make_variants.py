"""Write the table of tests/made/published_variants.py into docs/published-prompts.md: ``python docs/make_variants.py``."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from evalkit.registry import make_task  # noqa: E402
from tests.made.published_variants import NOT_REBUILT, VARIANTS, Variant  # noqa: E402

PAGE = Path(__file__).with_name("published-prompts.md")
BLOCK = re.compile(r"(<!-- variants -->\n).*?(<!-- end -->)", re.DOTALL)
HEAD = "| file of requests | task | options | documents | their rows | equal |\n|---|---|---|---:|---|---|\n"


def filled(text: str) -> str:
    """The page with the table and its sums as they are now."""
    lines = sorted([*map(_line, VARIANTS), *(_missing(*item) for item in NOT_REBUILT.items())])
    equal = sum(not variant.differs for variant in VARIANTS)
    count = f"Of {len(lines)} files, {equal} are rebuilt byte for byte.\n\n"
    return BLOCK.sub(lambda block: block[1] + count + HEAD + "".join(lines) + block[2], text)


def _line(variant: Variant) -> str:
    task: Any = make_task(variant.name)
    return _row(
        f"`{variant.file}`",
        f"`{variant.name}`",
        _options(variant, task) or "–",
        f"{variant.documents:,}",
        _rows(variant, task),
        variant.differs or "yes",
    )


def _missing(file: str, reason: str) -> str:
    return _row(f"`{file}`", "–", "–", "–", "–", reason)


def _row(*cells: str) -> str:
    return f"| {' | '.join(cells)} |\n"


def _options(variant: Variant, task: Any) -> str:
    """What a person says beside the name."""
    said = []
    if variant.split not in (None, task.split):
        said.append(f"--split {variant.split}")
    if variant.shots not in (None, task.shots):
        said.append(f"--shots {variant.shots}")
    above = task.regime.sample_above
    if variant.limit is not None and above is not None and variant.documents > above:
        said.append(f"--limit {variant.documents}")
    return f"`{' '.join(said)}`" if said else ""


def _rows(variant: Variant, task: Any) -> str:
    """Where the rows of the documents come from."""
    data, part = task.settings.data, task.parts[0]
    file = data.requests.get(variant.split or task.split, "").replace("{part}", part)
    if not file:
        return "table"
    return "documents of this file" if file == variant.file else f"documents of `{file}`"


if __name__ == "__main__":
    PAGE.write_text(filled(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
    print(f"{PAGE.name}: {len(VARIANTS)} variants")
