"""The report in a real browser: skipped by name where Chromium is not installed."""

from __future__ import annotations

import re
import shutil
import struct
import subprocess
import zlib
from pathlib import Path

import pytest

from evalkit.reports import write_report
from tests.made import report_runs as runs

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="chromium is not installed")

QUIET = [
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync", "--hide-scrollbars", "--virtual-time-budget=2000",
]  # fmt: skip


def chromium(page: Path, tmp_path: Path, *arguments: str) -> str:
    """Open a local page with a fresh profile; what ``--dump-dom`` prints."""
    done = subprocess.run(
        [str(CHROMIUM), *QUIET, f"--user-data-dir={tmp_path / 'profile'}", *arguments, page.as_uri()],
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    return done.stdout


def pages(tmp_path: Path) -> list[Path]:
    """A report of one limited run with a name far too long for a phone, and one of three runs."""
    long = "a-folder-of-somebody/with-a-very-long-name-that-has-no-place-to-break" * 2
    one = runs.quickstart(
        tmp_path / "one", limited=True, warnings=[f"Limited: {long}"], command=f"evalkit run --model {long}"
    )
    three = [
        runs.quickstart(
            tmp_path / f"three/{i}", shift=0.02 * i, checkpoint={"name": f"olmo-tiny@step{i}000-tokens{i}M"}
        )
        for i in range(3)
    ]
    return [write_report(one), write_report(three)]


MEASURE = """
const wide = [...document.querySelectorAll("body *")].filter(e => !e.closest(".scroll, svg, .skip") && e.getBoundingClientRect().right > innerWidth + 0.5);
document.documentElement.dataset.width = innerWidth;
document.documentElement.dataset.overflow = document.documentElement.scrollWidth - innerWidth;
document.documentElement.dataset.wide = wide.map(e => e.tagName + "." + e.className).join(" ");
"""


@pytest.mark.parametrize("script", ["with", "without"])
def test_a_phone_needs_no_sideways_scrolling(tmp_path: Path, script: str) -> None:
    """At 390 px the page is as wide as the window; what is wider lies in a box that scrolls by itself."""
    for i, page in enumerate(pages(tmp_path)):
        source = page.read_text(encoding="utf-8")
        if script == "without":
            source = re.sub(r"<script>.*?</script>", "", source, flags=re.DOTALL)
        # a copy that may measure itself, without the policy that would forbid it, in a frame of the phone's width
        source = re.sub(r'<meta http-equiv="Content-Security-Policy"[^>]*>', "", source)
        copy = tmp_path / f"copy{i}.html"
        copy.write_text(source.replace("</body>", f"<script>{{{MEASURE}}}</script></body>"), encoding="utf-8")
        frame = tmp_path / f"frame{i}.html"
        frame.write_text(
            f"""<!DOCTYPE html><body><iframe width="390" height="844" frameborder="0" src="{copy.name}"></iframe><script>
            onload = () => {{
              const seen = document.querySelector("iframe").contentDocument.documentElement.dataset;
              document.title = JSON.stringify([seen.width, seen.overflow, seen.wide]);
            }}</script></body>""",
            encoding="utf-8",
        )
        dom = chromium(frame, tmp_path, "--allow-file-access-from-files", "--dump-dom")
        (title,) = re.findall(r"<title>(.*?)</title>", dom)
        assert title.replace("&quot;", '"') == '["390","0",""]'


def test_the_policy_lets_the_pages_own_style_and_script_run(tmp_path: Path) -> None:
    """The untouched file: the script shows the copy button, which is hidden in the source."""
    page, _ = pages(tmp_path)
    dom = chromium(page, tmp_path, "--dump-dom")
    assert re.search(r"<button[^>]*hidden", page.read_text(encoding="utf-8"))
    assert not re.search(r"<button[^>]*hidden", dom)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_page_paints_in_both_schemes(tmp_path: Path, scheme: str) -> None:
    """A screenshot by the reader's setting: its background is light or dark."""
    page, _ = pages(tmp_path)
    picture = tmp_path / "page.png"
    setting = f"--blink-settings=preferredColorScheme={0 if scheme == 'dark' else 1}"
    chromium(page, tmp_path, f"--screenshot={picture}", "--window-size=1200,900", setting)
    corner, different = pixels(picture)
    assert different > 100  # rows of the picture: something is drawn
    assert (max(corner) < 60) if scheme == "dark" else (min(corner) > 200)


def pixels(picture: Path) -> tuple[bytes, int]:
    """The first pixel of a PNG (red, green, blue: no filter changes it), and the number of different rows."""
    data, offset, packed, width, channels = picture.read_bytes(), 8, b"", 0, 0
    while offset < len(data):
        length, kind = struct.unpack(">I4s", data[offset : offset + 8])
        body = data[offset + 8 : offset + 8 + length]
        if kind == b"IHDR":
            width, _, depth, colour = struct.unpack(">IIBB", body[:10])
            assert depth == 8
            channels = {2: 3, 6: 4}[colour]
        packed += body if kind == b"IDAT" else b""
        offset += length + 12
    raw, row = zlib.decompress(packed), 1 + width * channels
    return raw[1:4], len({raw[start : start + row] for start in range(0, len(raw), row)})
