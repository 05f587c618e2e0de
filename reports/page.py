"""The HTML file: one template, one style sheet and one small script, all inside the page."""

from __future__ import annotations

import base64
import hashlib
import json
import os
from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from evalkit.files import write_bytes
from evalkit.reports import words
from evalkit.reports.view import Line, Report, RunView, load_report
from evalkit.reports.whisker import scale_of, whisker

if TYPE_CHECKING:
    from jinja2 import Environment

HERE = Path(__file__).parent

WARNING_SIGNS = {"failed": "✕", "partial": "◐", "limited": "◔", "truncated": "✂", "compare": "≠", "note": "i"}
"""A sign beside the word, so that a kind is never told by colour alone."""


def write_report(
    run_paths: Path | str | Sequence[Path | str], out: Path | str | None = None, *, samples: str | int | None = None
) -> Path:
    """Write one self-contained HTML file from one or more run folders, and return its path.

    `out` is a file, or a folder to put ``report.html`` in. Without it one run's report lies in its folder, and that of
    several runs in the folder that holds them all. `samples` is how many documents to show (``N``, ``all``, ``none``):
    this version shows none, so no text of a data set is ever in it.

    Written atomically. Raises `EvalkitError` (or `UsageError`) for a folder without a readable run, or an `out` that
    cannot be written.
    """
    paths = [Path(run_paths)] if isinstance(run_paths, (str, Path)) else [Path(path) for path in run_paths]
    report = load_report(paths)
    target = Path(out) if out is not None else _common(run.path for run in report.runs)
    if out is None or target.is_dir():
        target = target / "report.html"
    write_bytes(target, render(report).encode("utf-8"))
    return target


def render(report: Report) -> str:
    """The page as text. The same runs give the same text."""
    style, script = _file("static/report.css"), _file("static/report.js")
    return (
        _environment()
        .get_template("report.html")
        .render(
            report=report,
            title=title(report),
            style=_raw(style),
            script=_raw(script),
            policy=policy(style, script),
            facts=_table(report.runs, _facts),
            identity=_table(report.runs, _identity),
            environment=_table(report.runs, _versions),
            definitions=_definitions(report),
            signs=WARNING_SIGNS,
        )
    )


def policy(style: str, script: str) -> str:
    """The Content-Security-Policy: nothing from anywhere, but this style and this script, known by their hashes."""
    return "; ".join(
        [
            "default-src 'none'",
            f"style-src '{_sha256(style)}'",
            f"script-src '{_sha256(script)}'",
            "base-uri 'none'",
            "form-action 'none'",
        ]
    )


def title(report: Report) -> str:
    """``olmo-tiny@step500 on quickstart``."""
    suites = ", ".join(dict.fromkeys(run.suite or "tasks" for run in report.runs))
    if len(report.runs) == 1:
        return f"{report.runs[0].label} on {suites}"
    models = dict.fromkeys(str(run.part("checkpoint").get("model") or run.label) for run in report.runs)
    return f"{len(report.runs)} checkpoints of {', '.join(models)} on {suites}"


# ----------------------------------------------------------------------------------------------------- facts of the runs


def _facts(run: RunView) -> dict[str, str]:
    checkpoint, identity, counts = run.part("checkpoint"), run.part("identity"), run.part("counts")
    timings, hardware, versions = run.part("timings"), run.part("hardware"), run.part("versions")
    trained = words.amount(checkpoint.get("tokens"))
    if trained and checkpoint.get("tokens_derived"):
        trained += " (derived from the step)"
    scored, asked = counts.get("tree_tokens"), counts.get("request_tokens")
    tokens = f"{scored:,} through the model" if isinstance(scored, int) else ""
    if isinstance(asked, int) and tokens:
        tokens += f", for {asked:,} asked"
    found, planned = counts.get("batches_found"), counts.get("batches_planned")
    if isinstance(found, int) and found:
        tokens += f"; {found} of {planned} batches were scored before"
    spent = words.duration(timings.get("seconds"))
    scoring = words.duration(timings.get("scoring_seconds"))
    accelerators = hardware.get("accelerators")
    machine = [
        ", ".join(map(str, accelerators))
        if isinstance(accelerators, list) and accelerators
        else hardware.get("processor"),
        f"{hardware['cores']} cores" if hardware.get("cores") else "",
        f"{hardware['memory_gib']} GiB" if hardware.get("memory_gib") else "",
    ]
    evalkit = versions.get("olmo-evalkit")
    return {
        "Suite": run.suite,
        "Parameters": words.amount(checkpoint.get("parameters")),
        "Seen in training": ", ".join(
            part
            for part in (
                f"step {checkpoint['step']:,}" if isinstance(checkpoint.get("step"), int) else "",
                trained and f"{trained} tokens",
            )
            if part
        ),
        "Date": str(timings.get("started") or "").replace("T", " ").replace("+00:00", " UTC").replace("Z", " UTC"),
        "Engine": " ".join(str(identity.get(key) or "") for key in ("engine", "version")).strip(),
        "Precision": ", ".join(
            str(identity[key]) for key in ("dtype", "quantisation") if identity.get(key) not in (None, "", "none")
        ),
        "Hardware": ", ".join(str(part) for part in machine if part),
        "Tokens": tokens,
        "Time": spent + (f", {scoring} of it scoring" if spent and scoring else ""),
        "Data": words.plainly(run.info.get("data_source")),
        "evalkit": str(evalkit or ""),
    }


def _identity(run: RunView) -> dict[str, str]:
    checkpoint, tokenizer = run.part("checkpoint"), run.part("tokenizer")
    return {
        "checkpoint": str(checkpoint.get("name") or ""),
        "revision": str(checkpoint.get("revision") or ""),
        "weights (fingerprint)": str(checkpoint.get("fingerprint") or ""),
        "adapter": str(checkpoint.get("adapter") or ""),
        "tokenizer": " ".join(str(tokenizer.get(key) or "") for key in ("name", "hash")).strip(),
        **{str(key): str(value) for key, value in run.part("identity").items() if key != "fingerprint"},
        "identity hash": str(run.info.get("identity_hash") or ""),
    }


def _versions(run: RunView) -> dict[str, str]:
    found = {str(key): _short(value) for key, value in run.part("versions").items()}
    return found | {str(key): _short(value) for key, value in run.part("hardware").items()}


def _table(runs: Sequence[RunView], facts: Any) -> list[tuple[str, list[str]]]:
    """Facts as rows, a column a run; rows that are empty everywhere are left out."""
    columns: list[dict[str, str]] = [facts(run) for run in runs]
    names = dict.fromkeys(name for column in columns for name in column)
    rows = [(name, [column.get(name, "") for column in columns]) for name in names]
    return [(name, cells) for name, cells in rows if any(cells)]


def _short(value: Any) -> str:
    if value is None:
        return ""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)


# ---------------------------------------------------------------------------------------------------------- definitions


def _definitions(report: Report) -> dict[str, Any]:
    """Of ``definitions.yaml`` what this report shows."""
    import yaml

    every: Mapping[str, Any] = yaml.safe_load(_file("definitions.yaml"))
    shown: dict[str, str] = {}
    visible = [line for line in report.lines if not line.domain or line.metric in ("bits_per_byte", "token_perplexity")]
    for line in visible:
        for prefix in ("macro_", "median_", "ordinary_", "total_"):
            if line.metric.startswith(prefix):
                shown[prefix] = prefix.rstrip("_")
        name = line.metric
        if name == "bits_per_byte" and not line.domain:
            name = "gold_bits_per_byte"
        if name in every["metrics"]:
            shown[name] = "bits_per_byte (questions)" if name == "gold_bits_per_byte" else name
    return {
        "metrics": [(word, every["metrics"][name]) for name, word in shown.items()],
        "intervals": every["intervals"],
        "regimes": _used(every["regimes"], (line.known.regime for line in report.lines)),
        "windows": _used(every["windows"], _encoders(report, "window")),
        "prefixes": _used(every["prefixes"], _encoders(report, "prefix_token")),
        "guidelines": every["guidelines"],
    }


def _encoders(report: Report, key: str) -> Iterable[str]:
    """What the encoders of the text tasks were set to."""
    for run in report.runs:
        for about in run.tasks.values():
            protocol = about.get("protocol")
            encoder = protocol.get("encoder") if isinstance(protocol, Mapping) else None
            if about.get("kind") == "text" and isinstance(encoder, Mapping):
                yield str(encoder.get(key))


def _used(texts: Mapping[str, str], names: Iterable[str]) -> list[tuple[str, str]]:
    return [(name, texts.get(name, "")) for name in dict.fromkeys(names) if name and name != "None"]


# ------------------------------------------------------------------------------------------------------------- template


@cache
def _environment() -> Environment:
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(
        loader=FileSystemLoader(HERE / "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=_shown,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters["json"] = lambda value: json.dumps(value, indent=1, ensure_ascii=False, default=str)
    environment.globals.update(
        score=words.score,
        interval=words.interval,
        number=words.number,
        metric_title=words.metric_title,
        unit_of=words.unit_of,
        units=words.UNIT_WORDS,
        missing=words.MISSING,
        whisker=whisker,
        scale_of=scale_of,
        scale_of_lines=lambda lines, unit: scale_of((cell for line in lines for cell in line.cells), unit),
        sample_sizes=_sample_sizes,
        above_chance=_above_chance,
        plainly=words.plainly,
        anchor=_anchor,
    )
    return environment


def _shown(value: Any) -> Any:
    """Every value that a template prints goes through here: nothing of a stranger's text can reorder the page."""
    from markupsafe import Markup

    if value is None:
        return ""
    return words.visible(value) if isinstance(value, str) and not isinstance(value, Markup) else value


def _sample_sizes(line: Line) -> str:
    """n, or the different n of the columns."""
    return " / ".join(dict.fromkeys(f"{cell.n:,}" for cell in line.cells if cell is not None))


def _above_chance(line: Line, column: int) -> str:
    """Accuracy centred on chance, ``(acc − chance) / (1 − chance)``, in percent."""
    metric = line.cells[column]
    if metric is None or metric.chance is None or metric.chance >= 1:
        return ""
    return words.number((metric.value - metric.chance) / (1 - metric.chance), "percent")


def _anchor(*parts: str) -> str:
    """An element's id from names: safe signs, and a hash where that lost something."""
    name = "-".join(part for part in parts if part)
    safe = "".join(sign if sign.isascii() and (sign.isalnum() or sign in "._-") else "-" for sign in name)
    digest = hashlib.sha256(name.encode("utf-8", "surrogatepass")).hexdigest()[:6]
    return safe if safe == name else f"{safe}-{digest}"


def _common(paths: Iterable[Path]) -> Path:
    """The one run's folder, or the folder that holds all of them."""
    folders = [path.absolute() for path in paths]
    return folders[0] if len(folders) == 1 else Path(os.path.commonpath([folder.parent for folder in folders]))


def _file(name: str) -> str:
    return (HERE / name).read_text(encoding="utf-8")


def _raw(text: str) -> Any:
    """Our own style and script, printed as they are. They must not end their own element."""
    from markupsafe import Markup

    if "</" in text:
        raise ValueError("a style sheet or script of the report must not hold '</'")
    return Markup(text)  # noqa: S704 - files of this package


def _sha256(text: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode("utf-8")).digest()).decode()
