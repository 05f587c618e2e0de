"""Build the documentation's site into build/site: ``python docs/make_site.py``, or ``make site``.

The pages in docs/ are written for readers of the repository: they link to its files. Here they are put into build/pages as
the generator (zensical, with mkdocstrings for the reference) wants them, and built in its strict mode, which fails on
links and references that lead nowhere. Nothing is fetched, neither now nor by a reader's browser.
"""

from __future__ import annotations

import importlib
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path, PurePosixPath
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
DOCS = ROOT / "docs"
PLACES = {
    "README.md": "start.md",
    "CHANGELOG.md": "changelog.md",
    "CONTRIBUTING.md": "contributing.md",
    "examples/README.md": "examples/index.md",
    "examples/gallery.ipynb": "examples/gallery.md",
}
"""Files outside docs/ that are pages of the site, and where. Other files are shown as they are where a page links to them."""
LANGUAGES = {".py": "python", ".yaml": "yaml", ".toml": "toml", ".json": "json"}
LINK = re.compile(r"```.*?```|`[^`\n]+`|(?<=\]\()[^)\s]+(?=\))|\]\[", re.DOTALL)
OPTIONS = re.compile(r"<!-- options (\S+):(\S+)(?: without ([\w ]+?))? -->")


def build(out: Path) -> Path:
    """Stage the pages in `out` and build the site there; gives its folder. Raises `CalledProcessError` where it fails."""
    for old in ("pages", "site", ".cache"):
        shutil.rmtree(out / old, ignore_errors=True)
    stage(out / "pages")
    config = (DOCS / "site" / "zensical.toml").read_text(encoding="utf-8")
    (out / "zensical.toml").write_text(config.replace("ROOT", ROOT.as_posix()), encoding="utf-8")
    command = [sys.executable, "-m", "zensical", "build", "--strict", "--config-file", str(out / "zensical.toml")]
    subprocess.run(command, check=True, cwd=out)  # noqa: S603
    return out / "site"


def stage(pages: Path) -> None:
    """Write every page, and every file that a page links to, below `pages`."""
    wanted = [*sorted(DOCS.glob("*.md")), *sorted((DOCS / "site" / "api").glob("*.md"))]
    wanted += [ROOT / name for name in PLACES]
    done: set[Path] = set()
    while wanted:
        file = wanted.pop()
        if file in done:
            continue
        done.add(file)
        target = pages / place(file)
        target.parent.mkdir(parents=True, exist_ok=True)
        if file.suffix == ".png":
            shutil.copy(file, target)
            continue
        text, linked = page(file)
        target.write_text(text, encoding="utf-8")
        wanted += linked
    (pages / "assets").mkdir()
    for name in ("site.css", "iframe-worker.js"):
        shutil.copy(DOCS / "site" / name, pages / "assets")


def place(file: Path) -> str:
    """Where a file of the repository stands among the pages."""
    name = file.relative_to(ROOT).as_posix()
    if name in PLACES:
        return PLACES[name]
    for folder in ("docs/site/", "docs/"):
        if name.startswith(folder) and file.suffix in (".md", ".png"):
            return name.removeprefix(folder)
    return f"files/{name}.md"


def page(file: Path) -> tuple[str, list[Path]]:
    """A file as a page, and the files that it links to."""
    text = file.read_text(encoding="utf-8")
    if file.suffix == ".ipynb":
        text = notebook(json.loads(text))
    elif file.suffix != ".md":
        name = file.relative_to(ROOT).as_posix()
        head = "---\nsearch:\n  exclude: true\n---\n"
        return f"{head}# {name}\n\n```{LANGUAGES.get(file.suffix, 'text')}\n{text}```\n", []
    reference = file.parent == DOCS / "site" / "api"
    text = OPTIONS.sub(lambda mark: option_table(mark[1], mark[2], (mark[3] or "").split()), text)
    linked: list[Path] = []

    def moved(match: re.Match[str]) -> str:
        link = match[0]
        if link == "][":
            return (
                link if reference else r"]\["
            )  # two pairs of brackets in a row are a reference in the API's pages alone
        target, _, part = link.partition("#")
        found = file.parent.joinpath(target).resolve() if target and "://" not in target and link[0] != "`" else None
        if found is None or not found.is_file():
            return link
        linked.append(found)
        relative = os.path.relpath(place(found), PurePosixPath(place(file)).parent)
        return PurePosixPath(relative).as_posix() + (f"#{part}" if part else "")

    return LINK.sub(moved, text), linked


def notebook(content: dict[str, Any]) -> str:
    """A notebook with its outputs as Markdown: tables as HTML, everything else as text."""
    parts = []
    for cell in content["cells"]:
        source = "".join(cell["source"])
        parts.append(source if cell["cell_type"] == "markdown" else f"```python\n{source}\n```")
        for output in cell.get("outputs", []):
            data = output.get("data", {"text/plain": output.get("text", "")})
            html = "".join(data.get("text/html", ""))
            if html:
                html = re.sub(r"<style.*?</style>|\n\s*| border=\"1\" class=\"dataframe\"", "", html, flags=re.DOTALL)
                parts.append(html)  # in the site's own style
            else:
                parts.append(f"```text\n{''.join(data['text/plain']).rstrip()}\n```")
    return "\n\n".join(parts) + "\n"


def option_table(module: str, name: str, without: list[str]) -> str:
    """The fields of a model of options (pydantic) as a table: name, default, help text."""
    lines = ["| name | default | what it does |", "|---|---|---|"]
    for field, facts in getattr(importlib.import_module(module), name).model_fields.items():
        if field in without:
            continue
        default = facts.get_default(call_default_factory=True)
        default = str(default) if isinstance(default, Path) else default
        shown = "required" if facts.is_required() else f"`{default!r}`"
        text = re.sub(r"([|*\[])", r"\\\1", " ".join((facts.description or "").split()))
        lines.append(f"| `{field}` | {shown} | {text} |")
    return "\n".join(lines)


if __name__ == "__main__":
    try:
        print(f"The site is in {build(ROOT / 'build') / 'index.html'}")
    except subprocess.CalledProcessError as error:
        sys.exit(error.returncode)
