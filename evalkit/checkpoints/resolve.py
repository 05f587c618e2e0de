"""Resolves model names to checkpoints: hub repositories, local folders, registered names, ``@revision``."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from evalkit import registry
from evalkit.checkpoints import hub
from evalkit.checkpoints.fingerprints import count_parameters, fingerprint, read_header
from evalkit.checkpoints.metadata import read_adapter_config, read_model_config, read_shard_names
from evalkit.checkpoints.registered import user_models
from evalkit.checkpoints.revisions import TOKENS_PER_STEP, Revision, Selection, parse_revision, select_revisions
from evalkit.errors import CheckpointError, UnknownName, UsageError
from evalkit.records import Checkpoint
from evalkit.registry import ModelEntry
from evalkit.system.file_hashes import hash_files

Note = Callable[[str], None]
HUB_NAME = re.compile(r"^[A-Za-z0-9][\w.-]*/[\w.-]+$")
TOKENIZER_FILES = ("tokenizer.json", "tokenizer.model", "vocab.json", "tokenizer_config.json")
NATIVE_OLMO_REPOSITORIES = ("OLMo-1B", "OLMo-7B", "OLMo-7B-Twin-2T", "OLMo-7B-SFT", "OLMo-7B-Instruct", "OLMo-1.7-7B")
"""Ai2's first repositories contain OLMo's native format; the versions for transformers have names ending in ``-hf``."""


@dataclass(frozen=True, slots=True)
class ModelSource:
    """The location of a model's checkpoints: a folder or a hub repository."""

    model: str
    folder: Path | None = None
    repository: str | None = None
    tokenizer: str | None = None
    default_revision: str | None = None
    tokens_per_step: int | None = None
    training: Mapping[str, Any] = field(default_factory=dict)
    is_registered: bool = False
    """Whether the model's name was chosen by the user, evalkit or a plugin."""

    @property
    def location(self) -> str:
        """The folder of all revisions, or ``hub:org/name``."""
        return str(self.folder) if self.folder is not None else f"hub:{self.repository}"


@dataclass(frozen=True, slots=True)
class Reference:
    """A checkpoint by name. Nothing of it has been downloaded or read yet."""

    source: ModelSource
    revision: str
    adapter: Path | None = None
    tokenizer: str | None = None
    trust_remote_code: bool = False
    verify: bool = False

    @property
    def name(self) -> str:
        """``model@revision``, or only the model for the default revision."""
        return self.source.model if self.revision == "main" else f"{self.source.model}@{self.revision}"

    @property
    def is_remote(self) -> bool:
        """Whether the checkpoint is on the hub, so that opening it may take long."""
        return self.source.repository is not None

    def fetch(self, note: Note | None = None) -> Checkpoint:
        """Download the checkpoint if need be, and read what it is.

        `note` is told what takes long. Raises `CheckpointError` if it cannot be loaded, `UnknownName` for a revision that
        does not exist, and `DataUnavailable` if the hub is needed and cannot be reached.
        """
        return _make_checkpoint(self, note)


def find_checkpoints(
    name: str,
    revisions: Sequence[str] | str | None = None,
    *,
    adapter: Path | str | None = None,
    tokenizer: str | Path | None = None,
    trust_remote_code: bool = False,
    verify: bool = False,
    selection: Selection | None = None,
) -> list[Reference]:
    """Every checkpoint that a name (with globs of revisions) refers to, in training order.

    `name`: ``org/name[@rev]``, a folder, or a registered name. The default revision is ``main``, or the last one in a
    folder of revisions. `tokenizer`: a folder, a ``tokenizer.json`` or a hub repository. `verify`: read all weights even
    if their hash is remembered. `selection` selects among the revisions that match the globs (among all without globs).

    Raises `UnknownName` with suggestions, and `DataUnavailable` if the hub is needed and cannot be reached.
    """
    source, revision = find_source(name)
    globs = [revisions] if isinstance(revisions, str) else list(revisions or ())
    if selection is not None and selection.is_active:
        globs = globs or ["*"]
    if globs and revision == source.default_revision and "@" not in name:
        revision = None  # explicit globs override the default of a registered name
    if revision is not None and globs:
        raise UsageError(f"'{name}' already has a revision, so it cannot be combined with --revisions.")
    if revision is not None:
        names = [revision]
    elif globs:
        names = _matching_revisions(source, globs)
        if selection is not None:
            candidates = [parse_revision(candidate_name, source.tokens_per_step) for candidate_name in names]
            names = [candidate.name for candidate in select_revisions(candidates, selection)]
    else:
        names = [_default_revision(source)]
    return [
        Reference(
            source,
            revision_name,
            adapter=Path(adapter) if adapter is not None else None,
            tokenizer=str(tokenizer) if tokenizer is not None else source.tokenizer,
            trust_remote_code=trust_remote_code,
            verify=verify,
        )
        for revision_name in names
    ]


def resolve(name: str, revisions: Sequence[str] | str | None = None, **options: Any) -> list[Checkpoint]:
    """Every checkpoint that `find_checkpoints` finds, opened. Raises like it, and like `Reference.fetch`."""
    return [reference.fetch() for reference in find_checkpoints(name, revisions, **options)]


def find_source(name: str) -> tuple[ModelSource, str | None]:
    """The source and the revision that a model name refers to. Registered names take precedence, then folders."""
    base, at, revision = name.rpartition("@")
    if not at or Path(name).expanduser().is_dir():
        base, revision = name, ""
    if not base or (at and base != name and not revision):
        raise UsageError(
            f"'{name}' is not a model name. Write NAME, ORG/NAME or a folder, optionally followed by @REVISION."
        )
    entry = _registered_model(base)
    if entry is not None:
        return _source_from_entry(entry), revision or entry.default_revision
    folder = Path(base).expanduser()
    if folder.is_dir():
        return _source_from_folder(folder.resolve(), revision)
    if HUB_NAME.match(base) and not base.startswith("."):
        _reject_native_olmo(base)
        return ModelSource(base, repository=base, tokens_per_step=TOKENS_PER_STEP.get(base)), revision or None
    known = {entry.name for entry in registry.models} | set(user_models())
    raise UnknownName(
        "model",
        base,
        known,
        "Use a registered name ('evalkit list models'; add one with 'evalkit models add NAME PATH'), a folder, or ORG/NAME on the hub.",
    )


def default_revision(name: str) -> str:
    """The revision that a model name without ``@`` refers to. Raises like `find_source`."""
    source, revision = find_source(name)
    return revision or _default_revision(source)


def list_revisions(name: str) -> list[Revision]:
    """Every revision of a model in training order (``main`` last). Raises like `resolve`."""
    source, _ = find_source(name)
    return [parse_revision(text, source.tokens_per_step) for text in _all_revisions(source)]


def _registered_model(name: str) -> ModelEntry | None:
    users = user_models()
    if name in users:
        return users[name]
    return registry.models.get(name) if name in registry.models else None


def _source_from_entry(entry: ModelEntry) -> ModelSource:
    rate, training = entry.extra.get("tokens_per_step"), entry.extra.get("training") or {}
    folder = Path(entry.source).expanduser()
    if folder.is_absolute() or folder.is_dir():
        if not folder.is_dir():
            raise CheckpointError(
                f"The folder {folder} of the model '{entry.name}' does not exist. 'evalkit models rm {entry.name}' removes it."
            )
        return ModelSource(entry.name, folder, None, entry.tokenizer, entry.default_revision, rate, training, True)
    _reject_native_olmo(entry.source)
    rate = rate or TOKENS_PER_STEP.get(entry.source)
    return ModelSource(entry.name, None, entry.source, entry.tokenizer, entry.default_revision, rate, training, True)


def _source_from_folder(folder: Path, revision: str) -> tuple[ModelSource, str | None]:
    """The source for a folder's path. A checkpoint named like a revision is a revision of its parent folder."""
    if not revision and parse_revision(folder.name).is_checkpoint and _is_checkpoint(folder):
        return ModelSource(folder.parent.name or "model", folder.parent), folder.name
    return ModelSource(folder.name or "model", folder), revision or None


def _reject_native_olmo(repository: str) -> None:
    owner, _, model = repository.partition("/")
    if owner == "allenai" and model in NATIVE_OLMO_REPOSITORIES:
        replacement = {"OLMo-7B-SFT": "OLMo-7B-SFT-hf", "OLMo-1.7-7B": "OLMo-1.7-7B-hf"}.get(model, f"{model}-hf")
        raise CheckpointError(
            f"{repository} holds OLMo's own format, which transformers does not load. Use allenai/{replacement}."
        )


def _is_checkpoint(folder: Path) -> bool:
    return (folder / "config.json").is_file() or is_adapter(folder)


def is_adapter(folder: Path) -> bool:
    """Whether a folder holds a PEFT adapter without a model of its own."""
    return (folder / "adapter_config.json").is_file() and not (folder / "config.json").is_file()


def _revision_names_in(folder: Path) -> list[str]:
    """Names of the checkpoint folders directly inside a folder, in training order."""
    names = [
        child.name
        for child in folder.iterdir()
        if child.is_dir() and (_is_checkpoint(child) or parse_revision(child.name).is_checkpoint)
    ]
    return sorted(names, key=lambda name: parse_revision(name).order)


def _all_revisions(source: ModelSource) -> list[str]:
    if source.repository is not None:
        return sorted(hub.revisions(source.repository), key=lambda name: parse_revision(name).order)
    assert source.folder is not None  # noqa: S101
    return _revision_names_in(source.folder) + (["main"] if _is_checkpoint(source.folder) else [])


def _default_revision(source: ModelSource) -> str:
    if source.default_revision:
        return source.default_revision
    if source.folder is None or _is_checkpoint(source.folder):
        return "main"
    children = _revision_names_in(source.folder)
    return children[-1] if children else "main"


def _matching_revisions(source: ModelSource, globs: Sequence[str]) -> list[str]:
    known = _all_revisions(source)
    for glob in globs:
        if not any(fnmatchcase(name, glob) for name in known):
            raise UnknownName("revision", glob, known, f"'evalkit list checkpoints {source.model}' shows all.")
    return [name for name in known if any(fnmatchcase(name, glob) for glob in globs)]


def _make_checkpoint(reference: Reference, note: Note | None) -> Checkpoint:
    source, revision, trust = reference.source, reference.revision, reference.trust_remote_code
    tokenizer, adapter = reference.tokenizer, reference.adapter
    if source.repository is not None:
        folder = hub.download(source.repository, revision, trust=trust)
    else:
        assert source.folder is not None  # noqa: S101
        folder = _revision_folder(source, source.folder, revision)
    parsed_revision = parse_revision(revision, source.tokens_per_step)
    base = None
    if is_adapter(folder):
        if adapter is not None:
            raise UsageError(f"{folder} is an adapter itself, so it cannot be combined with --adapter.")
        base, adapter = _base_checkpoint(folder, trust), folder
        tokenizer_path = _find_adapter_tokenizer(folder, source, tokenizer, trust) or base.tokenizer_path
        folder = base.path
    config = read_config(folder)
    weights = weight_files(folder, trust=trust)
    if base is None:
        tokenizer_path = _find_tokenizer(folder, source, tokenizer, trust)
    headers = [read_header(file) for file in weights if file.suffix == ".safetensors"]
    others = [*(_adapter_files(adapter) if adapter is not None else ()), *(code_files(folder, config) if trust else ())]
    # the parsed config is hashed and not its file, which may say where it came from; that is only watched
    files = hash_files([folder / "config.json", *weights, *others], verify=reference.verify, note=note)
    hashed_weights, hashed_others = files[1 : 1 + len(weights)], files[1 + len(weights) :]
    return Checkpoint(
        model=source.model,
        revision=revision,
        path=folder,
        tokenizer_path=tokenizer_path,
        fingerprint=fingerprint(config, hashed_weights, hashed_others),
        config=config,
        parameters=count_parameters(headers, config) if headers else None,
        step=parsed_revision.step,
        tokens=parsed_revision.tokens,
        tokens_derived=parsed_revision.tokens_derived,
        stage=parsed_revision.stage,
        ingredient=parsed_revision.ingredient,
        adapter=adapter.resolve() if adapter is not None else None,
        trust_remote_code=trust,
        files=files,
        location=source.location,
        is_registered=source.is_registered,
        training=base.training if base is not None else source.training,
    )


def code_files(folder: Path, config: Mapping[str, Any]) -> list[Path]:
    """The Python files that transformers may run for a checkpoint: its own, and those of repositories in ``auto_map``."""
    folders = [folder]
    auto_map = config.get("auto_map")
    for reference in auto_map.values() if isinstance(auto_map, dict) else ():
        for text in reference if isinstance(reference, list) else [reference]:
            repository, separator, _ = str(text).partition("--")
            if separator and Path(repository).is_dir():
                folders.append(Path(repository))
            elif separator:
                revision = config.get("code_revision")
                folders.append(hub.download(repository, str(revision or "main"), trust=True, weights=False))
    return [file for code in dict.fromkeys(folders) for file in sorted(code.glob("*.py"))]


def _find_adapter_tokenizer(folder: Path, source: ModelSource, tokenizer: str | None, trust: bool) -> Path | None:
    """The requested tokenizer, or else the adapter's own; None means the base model's."""
    has_tokenizer = any((folder / file).is_file() for file in TOKENIZER_FILES)
    return _find_tokenizer(folder, source, tokenizer, trust) if has_tokenizer or tokenizer is not None else None


def _base_checkpoint(adapter: Path, trust: bool) -> Checkpoint:
    """The checkpoint on which an adapter was trained, according to its config."""
    file = adapter / "adapter_config.json"
    adapter_config = read_adapter_config(file)
    name, revision = adapter_config.base_model_name_or_path, adapter_config.revision
    if not name:
        raise CheckpointError(
            f"{file} does not say what the adapter was trained on (base_model_name_or_path). Give the base with --model and the "
            f"adapter with --adapter {adapter}."
        )
    if name.startswith(("/", ".", "~")) and not Path(name).expanduser().is_dir():
        raise CheckpointError(
            f"The adapter in {adapter} was trained on {name}, which does not exist. Restore it, or give the base with "
            f"--model and the adapter with --adapter {adapter}."
        )
    (base,) = resolve(f"{name}@{revision}" if revision else name, trust_remote_code=trust)
    if base.adapter is not None:
        raise CheckpointError(
            f"The adapter in {adapter} was trained on another adapter ({name}). Merge that one first."
        )
    return base


def _revision_folder(source: ModelSource, folder: Path, revision: str) -> Path:
    if revision == "main" and (_is_checkpoint(folder) or not (folder / "main").is_dir()):
        return folder
    if revision in (".", "..") or "/" in revision or not (folder / revision).is_dir():
        raise UnknownName(
            "revision",
            revision,
            _all_revisions(source),
            f"'evalkit list checkpoints {source.model}' shows those of {source.model}.",
        )
    return folder / revision


def read_config(folder: Path) -> dict[str, Any]:
    """The parsed ``config.json`` of a checkpoint. For unsupported formats, the `CheckpointError` names the converter."""
    _reject_foreign_format(folder)
    file = folder / "config.json"
    if not file.is_file():
        if (folder / "adapter_config.json").is_file():
            raise CheckpointError(
                f"{folder} contains an adapter but no model. Give the base model with --model and this folder with --adapter."
            )
        raise CheckpointError(
            f"{folder} is not a checkpoint: it has no config.json. Give a folder written by transformers' save_pretrained."
        )
    config = read_model_config(file)
    native = config.get("model_type") == "hf_olmo" or "OLMoForCausalLM" in (config.get("architectures") or [])
    if native:
        raise CheckpointError(
            f"{folder} holds OLMo's first format (hf_olmo), which transformers does not load. Use the '-hf' repository, or "
            "convert it with transformers' models/olmo/convert_olmo_weights_to_hf.py."
        )
    return config


def _reject_foreign_format(folder: Path) -> None:
    if (folder / "config.json").is_file():
        return
    folders = [folder, folder / "model_and_optim"]
    if any(
        (candidate / ".metadata").exists() or any(candidate.glob("*.distcp"))
        for candidate in folders
        if candidate.is_dir()
    ):
        raise CheckpointError(
            f"{folder} is a distributed checkpoint of OLMo-core, which transformers does not load. Convert it with OLMo-core's "
            "src/examples/huggingface/convert_checkpoint_to_hf.py, or use the '-hf' repository."
        )
    if (folder / "config.yaml").exists() and any(folder.glob("*.pt")):
        raise CheckpointError(
            f"{folder} holds OLMo's own format (config.yaml and model.pt), which transformers does not load. Convert it with "
            "transformers' models/olmo/convert_olmo_weights_to_hf.py, or use the '-hf' repository."
        )


def weight_files(folder: Path, *, trust: bool = False) -> list[Path]:
    """The weight files that transformers would load; all of them exist.

    Raises `CheckpointError` if there are none, if a shard is missing, and for pickled weights unless `trust`.
    """
    index = folder / "model.safetensors.index.json"
    single = folder / "model.safetensors"
    if single.is_file():
        return [single]
    if index.is_file():
        names = read_shard_names(index)
        missing = [name for name in names if not (folder / name).is_file()]
        if missing:
            raise CheckpointError(
                f"{folder} lacks {len(missing)} of {len(names)} weight files, {missing[0]} among them. "
                "Copy or download the checkpoint again."
            )
        return [folder / name for name in names]
    pickled = sorted([*folder.glob("pytorch_model*.bin"), *folder.glob("*.pth")])
    if pickled and not trust:
        raise CheckpointError(
            f"{folder} has its weights only as pickle ({pickled[0].name}), which can run code when it is opened. "
            "Convert them to safetensors, or pass --trust-remote-code if you trust their source."
        )
    if pickled:
        return pickled
    others = sorted(file.name for file in folder.glob("*.safetensors"))
    hint = f" (it has {others[0]}, which is not a name that transformers loads)" if others else ""
    raise CheckpointError(
        f"{folder} has no weights: no model.safetensors{hint}. Copy or download the checkpoint again."
    )


def _adapter_files(adapter: Path) -> list[Path]:
    config, weights = adapter / "adapter_config.json", adapter / "adapter_model.safetensors"
    if not config.is_file() or not weights.is_file():
        raise CheckpointError(
            f"{adapter} is not an adapter: it needs adapter_config.json and adapter_model.safetensors, as written by PEFT."
        )
    read_header(weights)
    return [config, weights]


def _find_tokenizer(folder: Path, source: ModelSource, tokenizer: str | None, trust: bool) -> Path:
    """The path of the requested tokenizer, or else of the checkpoint's own, or else of its model's."""
    if tokenizer is not None:
        path = Path(tokenizer).expanduser()
        if path.exists():
            return path.resolve()
        try:
            tokenizer_source, revision = find_source(tokenizer)
        except UnknownName:
            raise CheckpointError(
                f"There is no tokenizer {tokenizer}. --tokenizer takes a folder, a tokenizer.json or a hub repository."
            ) from None
        if tokenizer_source.repository is not None:
            return hub.download(tokenizer_source.repository, revision or "main", trust=trust, weights=False)
        assert tokenizer_source.folder is not None  # noqa: S101
        return _revision_folder(
            tokenizer_source, tokenizer_source.folder, revision or _default_revision(tokenizer_source)
        )
    for candidate in (folder, source.folder):
        if candidate is not None and any((candidate / file).is_file() for file in TOKENIZER_FILES):
            return candidate
    raise CheckpointError(
        f"There is no tokenizer in {folder}. Name one with --tokenizer (a folder, a hub repository or a tokenizer.json)."
    )
