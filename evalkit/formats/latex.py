"""Tables as papers print them: booktabs, at footnote size, within the width of a page's text, several where one is too wide."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby

from evalkit import words
from evalkit.formats.notes import Numbered, numbered
from evalkit.system.characters import visible
from evalkit.table import Cell, Column, Table

TEXT_WIDTH = 453.0
"""Points: the text of a two-column page in the narrowest of the common styles (article on A4 with 1 in margins has 453,
ACL 455, NeurIPS 397 in one column, IEEE 516); `latex` takes another."""
DIGIT, LETTER, GAP = 4.25, 4.2, 4.0
"""Points, in footnote size of Computer Modern: a digit, a letter on average, the space between two columns."""
SMALL = 3.1
"""Points: a digit below or above the line, where errors, ties and notes stand."""

_SIGNS = {
    "\\": r"\textbackslash{}", "{": r"\{", "}": r"\}", "$": r"\$", "&": r"\&", "#": r"\#", "%": r"\%", "_": r"\_",
    "^": r"\textasciicircum{}", "~": r"\textasciitilde{}", "<": r"\textless{}", ">": r"\textgreater{}", "|": r"\textbar{}",
    '"': r"\textquotedbl{}", "'": "'", "`": r"\textasciigrave{}", "±": r"$\pm$", "×": r"$\times$", "≈": r"$\approx$",
    "—": "---", "–": "--", "−": "$-$", "✓": "y", "✗": "n", "…": r"\dots{}", "·": r"$\cdot$", "∞": r"$\infty$", "√": r"$\surd$",
    "Σ": r"$\Sigma$", "→": r"$\rightarrow$", "≥": r"$\geq$", "≤": r"$\leq$",
    "[": "{[}", "*": "{*}",  # at the start of a row they would be an argument of the row before
}  # fmt: skip


def latex(
    table: Table,
    *,
    errors: bool = True,
    precision: int | None = None,
    caption: str | None = None,
    label: str | None = None,
    width: float = TEXT_WIDTH,
) -> str:
    """One ``table*`` or several, each within `width` points. Needs ``booktabs``, ``[T1]{fontenc}`` and ``textcomp``.

    `errors`: whether standard errors stand beside values. `precision`: decimals in place of each unit's own. `caption` and
    `label` replace the table's title and ``tab:evalkit``.
    """
    shown = table.visible()
    made = numbered(shown)
    texts = [
        [_cell(cell, signs, errors, precision) for cell, signs in zip(row.cells, numbers, strict=True)]
        for row, numbers in zip(shown.rows, made.numbers, strict=True)
    ]
    sizes = [
        _width(column, [row.cells[i] for row in shown.rows], errors, precision)
        for i, column in enumerate(shown.columns)
    ]
    chunks = _chunks(sizes, width)
    lines = ["% Made by evalkit. Needs \\usepackage{booktabs}, \\usepackage{textcomp} and \\usepackage[T1]{fontenc}."]
    for number, places in enumerate(chunks):
        part = f" ({number + 1} of {len(chunks)})" if len(chunks) > 1 else ""
        lines += _float(
            made,
            texts,
            places,
            tex((table.title if caption is None else caption) + part),
            (label or "tab:evalkit") + (f"-{number + 1}" if len(chunks) > 1 else ""),
            width,
            last=number == len(chunks) - 1,
        )
    return "\n".join([*lines, ""])


def _float(
    made: Numbered,
    texts: Sequence[Sequence[str]],
    places: Sequence[int],
    caption: str,
    label: str,
    width: float,
    *,
    last: bool,
) -> list[str]:
    table = made.table
    columns = [table.columns[i] for i in places]
    alignment = "".join("r" if column.kind == "number" else "l" for column in columns)
    lines = [
        r"\begin{table*}",
        r"\centering\footnotesize\setlength{\tabcolsep}{2pt}",
        rf"\caption{{{caption}}}",
        rf"\label{{{label}}}",
        rf"\begin{{tabular}}{{@{{}}{alignment}@{{}}}}",
        r"\toprule",
        *_headings(columns),
        r"\midrule",
    ]
    group = ""
    for number, row in enumerate(table.rows):
        if row.group != group:
            lines += [r"\midrule"] if number else []
            group = row.group
            lines.append(rf"\multicolumn{{{len(columns)}}}{{@{{}}l}}{{\textit{{{tex(group)}}}}} \\")
        lines.append(" & ".join(texts[number][i] for i in places) + r" \\")
    lines += [r"\bottomrule", r"\end{tabular}"]
    told = [rf"$^{{{number}}}$\,{tex(note)}" for number, note in enumerate(made.notes, 1)]
    told += [tex(sentence) for sentence in table.sentences]
    if last and told:
        lines += ["", rf"\smallskip\parbox{{{width:g}pt}}{{\scriptsize {' '.join(told)}}}"]
    return [*lines, r"\end{table*}"]


def _headings(columns: Sequence[Column]) -> list[str]:
    """Groups over a rule, titles, and what stands under them where it differs between columns."""
    lines = []
    if any(column.group for column in columns):
        heads, rules, place = [], [], 1
        for group, own in groupby(columns, key=lambda column: column.group):
            count = len(list(own))
            heads.append(rf"\multicolumn{{{count}}}{{c}}{{{tex(group)}}}" if group else " & ".join([""] * count))
            if group:
                rules.append(rf"\cmidrule(lr){{{place}-{place + count - 1}}}")
            place += count
        lines += [" & ".join(heads) + r" \\", "".join(rules)]
    lines.append(" & ".join(tex(column.short or column.title) for column in columns) + r" \\")
    unders = {column.under for column in columns if column.kind == "number"}
    if len(unders - {""}) > 1:
        lines.append(
            " & ".join(rf"{{\scriptsize {tex(column.under)}}}" if column.under else "" for column in columns) + r" \\"
        )
    return lines


def _chunks(sizes: Sequence[float], width: float) -> list[list[int]]:
    """The columns of each table: the first of all, then as many as fit."""
    chunks: list[list[int]] = [[0]]
    used = sizes[0] if sizes else 0.0
    for i, size in enumerate(sizes[1:], 1):
        if used + size > width and len(chunks[-1]) > 1:
            chunks.append([0])
            used = sizes[0]
        chunks[-1].append(i)
        used += size
    return chunks


def _width(column: Column, cells: Sequence[Cell], errors: bool, precision: int | None) -> float:
    """About how wide a column is, in points."""
    head = len(column.short or column.title) * LETTER
    return GAP + max([head, *(_cell_width(cell, errors, precision) for cell in cells)])


def _cell_width(cell: Cell, errors: bool, precision: int | None) -> float:
    if cell.text is not None:
        return len(cell.text) * LETTER
    value = len(cell.shown(errors=False, precision=precision)) * DIGIT * (1.1 if cell.mark == "best" else 1.0)
    below = 5.0 + len(_error(cell, precision)) * SMALL if errors and cell.error is not None else 0.0
    above = (5.0 if cell.mark == "tie" else 0.0) + 2 * SMALL * len(cell.notes)
    return value + max(below, above)


def _error(cell: Cell, precision: int | None) -> str:
    return words.number(cell.error, cell.unit, cell.value, precision=precision)


def _cell(cell: Cell, numbers: Sequence[str], errors: bool, precision: int | None) -> str:
    """A value, below the line its error, above it the sign of a tie and the numbers of notes."""
    text = tex(cell.shown(errors=False, precision=precision))
    text = rf"\textbf{{{text}}}" if cell.mark == "best" and text else text
    has_error = errors and cell.error is not None and cell.value is not None and cell.text is None
    below = rf"_{{\pm{tex(_error(cell, precision))}}}" if has_error else ""
    above = ",".join([*([r"\approx"] if cell.mark == "tie" else []), *numbers])
    scripts = below + (f"^{{{above}}}" if above else "")
    return text + (f"${scripts}$" if scripts else "")


def tex(text: str) -> str:
    """Text for LaTeX: its signs escaped; letters that the common fonts lack by their number, ``[U+4E2D]``."""
    flat = " ".join(visible(text).split())
    return "".join(_SIGNS.get(sign) or (sign if ord(sign) < 0x180 else f"[U+{ord(sign):04X}]") for sign in flat)
