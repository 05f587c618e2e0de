"""The hub's cache on disk: what is in it, and removing a revision of it."""

from __future__ import annotations

from pathlib import Path

import pytest
from huggingface_hub import constants

from evalkit.checkpoints import hub


@pytest.fixture
def repository(alone: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A repository in the cache with two revisions, which share one file."""
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(alone / "cache"))
    folder = alone / "cache/models--org--name"
    for name in ("shared", "first", "second"):
        (folder / "blobs").mkdir(parents=True, exist_ok=True)
        (folder / "blobs" / name).write_text(name)
    for revision, commit in (("step1", "a" * 40), ("step2", "b" * 40)):
        (folder / "refs").mkdir(exist_ok=True)
        (folder / "refs" / revision).write_text(commit)
        snapshot = folder / "snapshots" / commit
        snapshot.mkdir(parents=True)
        (snapshot / "config.json").symlink_to("../../blobs/shared")
        (snapshot / "model.safetensors").symlink_to(f"../../blobs/{'first' if revision == 'step1' else 'second'}")
    return folder


def test_a_revision_is_removed_alone(repository: Path) -> None:
    """Its own files go; those of the other revision, shared ones too, stay."""
    assert hub.is_downloaded("org/name", "step1")
    assert not hub.is_downloaded("org/name", "step3")
    assert not hub.is_downloaded("org/other", "step1")
    hub.remove("org/name", "step1")
    assert not hub.is_downloaded("org/name", "step1")
    assert hub.is_downloaded("org/name", "step2")
    assert sorted(file.name for file in (repository / "blobs").iterdir()) == ["second", "shared"]
