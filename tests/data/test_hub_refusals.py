"""A hub that has too much to do, or is broken: told as its own answer, with how long it asks to wait."""

from __future__ import annotations

import http.server
import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

import httpx
import pytest

from evalkit.checkpoints.hub import _refusal


class Hub(http.server.BaseHTTPRequestHandler):
    """Answers its first page with `root`, and everything else with `api`: a status and headers."""

    protocol_version = "HTTP/1.1"
    root: ClassVar[tuple[int, dict[str, str]]] = (200, {})
    api: ClassVar[tuple[int, dict[str, str]]] = (200, {})

    def do_HEAD(self) -> None:
        self.answer()

    def do_GET(self) -> None:
        self.answer()

    def answer(self) -> None:
        status, headers = self.root if self.path in ("", "/") else self.api
        body = json.dumps({"error": "no"}).encode()
        self.send_response(status)
        for name, value in {**headers, "Content-Length": str(len(body))}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture
def endpoint() -> Iterator[str]:
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    Hub.root = Hub.api = (200, {})


ASK = """
import huggingface_hub.utils._http as client
client.time.sleep = lambda seconds: None  # the client asks again a few times
from evalkit.checkpoints import hub as models
from evalkit.data import hub as data
from evalkit.errors import EvalkitError
print(models.reachable())
asks = (
    lambda: models.download("org/name", "main"), lambda: models.revisions("org/name"),
    lambda: data.load("org/name", None, "test", None), lambda: data.files("org/name", ["*"], "Ask somebody."),
    lambda: data.revision("org/name"),
)
for ask in asks:
    try:
        print("no error", ask())
    except EvalkitError as error:
        print(error)
"""


def asked(endpoint: str, folder: Path) -> list[str]:
    """What each way to the hub says, in a fresh interpreter: its address is read once, when its library is imported."""
    environment = {
        name: value
        for name, value in os.environ.items()
        if not name.lower().endswith("_proxy") and not name.endswith("_OFFLINE")
    }
    environment |= {"HF_ENDPOINT": endpoint, "HF_HOME": str(folder), "EVALKIT_HOME": str(folder)}
    done = subprocess.run([sys.executable, "-c", ASK], capture_output=True, text=True, env=environment, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def test_too_many_requests(endpoint: str, tmp_path: Path) -> None:
    """The hub is there and refuses what is asked for: each sentence has its answer and the time."""
    Hub.api = (429, {"Retry-After": "30"})
    reachable, *said = asked(endpoint, tmp_path)
    assert reachable == "True"
    assert len(said) == 5
    for sentence in said:
        assert "the Hugging Face hub answers HTTP 429 (Too Many Requests) and asks to wait for 30 seconds" in sentence
        assert "cannot be reached" not in sentence


def test_a_broken_hub(endpoint: str, tmp_path: Path) -> None:
    """It says so at once, so nothing is asked of it; the sentences have its answer."""
    Hub.root = Hub.api = (503, {})
    reachable, *said = asked(endpoint, tmp_path)
    assert reachable == "False"
    for sentence in said:
        assert "ugging Face hub answers HTTP 503 (Service Unavailable)" in sentence
        assert "cannot be reached" not in sentence


@pytest.mark.parametrize(
    ("status", "headers", "words"),
    [
        (200, {"Retry-After": "30"}, ""),
        (404, {}, ""),
        (429, {}, "the Hugging Face hub answers HTTP 429 (Too Many Requests)"),
        (429, {"RateLimit": '"api";r=0;t=281'}, "HTTP 429 (Too Many Requests) and asks to wait for 281 seconds"),
        (503, {"Retry-After": "Wed, 21 Oct 2026 07:28:00 GMT"}, "and asks to wait until Wed, 21 Oct 2026 07:28:00 GMT"),
        (500, {"Retry-After": "soon"}, "HTTP 500 (Internal Server Error) and asks to wait until soon"),
        (599, {}, "the Hugging Face hub answers HTTP 599"),
    ],
)
def test_answers_in_words(status: int, headers: dict[str, str], words: str) -> None:
    """Seconds, a date, or the hub's own header of limits."""
    said = _refusal(httpx.Response(status, headers=headers))
    assert said.endswith(words) if words else not said
