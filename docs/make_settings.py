"""Write the tables of a question set's settings into docs/tasks.md, from the docstrings of `evalkit.tasks.definition`.

``python docs/make_settings.py``. A test keeps them equal.
"""

from __future__ import annotations

import ast
import inspect
import json
import re
from pathlib import Path

from evalkit.tasks import definition

PAGE = Path(__file__).with_name("tasks.md")
TABLES = {"_File": "Of the whole file", "Settings": "Of a file, a regime or a form", "Data": "In `data`", "Examples": "In `examples`", "Sample": "In `sample`", "Generating": "In `generation`", "Program": "In `program`"}  # fmt: skip
BLOCK = re.compile(r"(<!-- settings -->\n).*?(<!-- end of settings -->\n)", re.DOTALL)


def tables() -> str:
    """All tables."""
    classes = {
        node.name: node for node in ast.parse(inspect.getsource(definition)).body if isinstance(node, ast.ClassDef)
    }
    return "\n".join(f"{title}:\n\n{_table(classes[name])}" for name, title in TABLES.items())


def _table(node: ast.ClassDef) -> str:
    lines = ["| key | default | |", "|---|---|---|"]
    for field, told in zip(node.body, [*node.body[1:], None], strict=True):
        if isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name):
            text = told.value.value if isinstance(told, ast.Expr) and isinstance(told.value, ast.Constant) else None
            if not isinstance(text, str):
                raise SystemExit(f"{node.name}.{field.target.id} has no docstring.")
            lines.append(f"| `{field.target.id}` | {_default(field.value)} | {_markdown(text)} |")
    return "\n".join(lines) + "\n"


def _default(value: ast.expr | None) -> str:
    if value is None or isinstance(value, ast.Call | ast.List | ast.Dict):
        return ""
    plain = ast.literal_eval(value)
    return "" if plain is None or plain == "" else f"`{json.dumps(plain)}`"


def _markdown(text: str) -> str:
    return " ".join(text.split()).replace("``", "`").replace("|", "\\|")


def filled(text: str) -> str:
    """The page with the tables as they are now."""
    return BLOCK.sub(lambda block: f"{block[1]}\n{tables()}\n{block[2]}", text)


if __name__ == "__main__":
    PAGE.write_text(filled(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
