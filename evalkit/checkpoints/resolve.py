"""Names to checkpoints: hub repositories, local folders, registered names, ``@revision``, folders of revisions."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from evalkit import registry
from evalkit.checkpoints import hub
from evalkit.checkpoints.fingerprints import count_parameters, fingerprint, read_header
from evalkit.checkpoints.registered import user_models
from evalkit.checkpoints.revisions import TOKENS_PER_STEP, Revision, Selection, choose, parse_revision
from evalkit.errors import CheckpointError, UnknownName, UsageError
from evalkit.records import Checkpoint
from evalkit.registry import ModelEntry

HUB_NAME = re.compile(r"^[A-Za-z0-9][\w.-]*/[\w.-]+$")
TOKENIZER_FILES = ("tokenizer.json", "tokenizer.model", "vocab.json", "tokenizer_config.json")
NATIVE_OLMO = ("OLMo-1B", "OLMo-7B", "OLMo-7B-Twin-2T", "OLMo-7B-SFT", "OLMo-7B-Instruct", "OLMo-1.7-7B")
"""Ai2's first repositories hold OLMo's own format; what transformers loads is beside them, named ``-hf``."""


@dataclass(frozen=True, slots=True)
class Source:
    """Where a model's checkpoints are: a folder or a hub repository."""

    model: str
    folder: Path | None = None
    repository: str | None = None
    tokenizer: str | None = None
    default_revision: str | None = None
    tokens_per_step: int | None = None
    training: Mapping[str, Any] = field(default_factory=dict)


def resolve(
    name: str,
    revisions: Sequence[str] | str | None = None,
    *,
    adapter: Path | str | None = None,
    tokenizer: str | Path | None = None,
    trust_remote_code: bool = False,
    verify: bool = False,
    broken: Callable[[str, CheckpointError], None] | None = None,
    selection: Selection | None = None,
) -> list[Checkpoint]:
    """Every checkpoint that a name (and globs of revisions) means, in the order of training.

    `name`: ``org/name[@rev]``, a folder, or a registered name. Without a revision: ``main``, and for a folder of
    revisions the last. `tokenizer`: a folder, a ``tokenizer.json`` or a hub repository. `verify` hashes all weights.
    `selection` chooses some of the revisions that the globs fit (of all, without globs).
    `broken` is told of checkpoints that cannot be loaded, which are then left out instead of raised.

    Raises `UnknownName` with suggestions, `CheckpointError` for what cannot be loaded, `DataUnavailable` where the
    hub is needed and cannot be reached.
    """
    source, revision = find(name)
    globs = [revisions] if isinstance(revisions, str) else list(revisions or ())
    if selection is not None and selection.given:
        globs = globs or ["*"]
    if globs and revision == source.default_revision and "@" not in name:
        revision = None  # a registered name's default gives way to what is asked for
    if revision is not None and globs:
        raise UsageError(f"'{name}' names a revision and --revisions asks for others. Give one of the two.")
    if revision is not None:
        names = [revision]
    elif globs:
        names = _matching(source, globs)
        if selection is not None:
            fitting = [parse_revision(text, source.tokens_per_step) for text in names]
            names = [one.name for one in choose(fitting, selection)]
    else:
        names = [_default(source)]
    found = []
    for chosen in names:
        try:
            checkpoint = _checkpoint(
                source,
                chosen,
                adapter=Path(adapter) if adapter is not None else None,
                tokenizer=str(tokenizer) if tokenizer is not None else source.tokenizer,
                trust=trust_remote_code,
                verify=verify,
            )
        except CheckpointError as error:
            if broken is None:
                raise
            broken(source.model if chosen == "main" else f"{source.model}@{chosen}", error)
            continue
        found.append(checkpoint)
    return found


def find(name: str) -> tuple[Source, str | None]:
    """What a model's name stands for, and the revision that it names. Registered names come first, then folders."""
    base, at, revision = name.rpartition("@")
    if not at or Path(name).expanduser().is_dir():
        base, revision = name, ""
    if not base or (at and base != name and not revision):
        raise UsageError(f"'{name}' is no model name. Write NAME, ORG/NAME or a folder, and @REVISION behind it.")
    entry = _registered(base)
    if entry is not None:
        return _from_entry(entry), revision or entry.default_revision
    folder = Path(base).expanduser()
    if folder.is_dir():
        return _from_folder(folder.resolve(), revision)
    if HUB_NAME.match(base) and not base.startswith("."):
        _refuse_native(base)
        return Source(base, repository=base, tokens_per_step=TOKENS_PER_STEP.get(base)), revision or None
    known = {entry.name for entry in registry.models} | set(user_models())
    raise UnknownName(
        "model",
        base,
        known,
        "Give a registered name ('evalkit list models'), a folder, or a hub repository as ORG/NAME.",
    )


def default_revision(name: str) -> str:
    """The revision that a model's name without ``@`` means. Raises as `find` does."""
    source, revision = find(name)
    return revision or _default(source)


def list_revisions(name: str) -> list[Revision]:
    """Every revision of a model in the order of training (``main`` last), for listing and choosing.

    Raises as `resolve` does.
    """
    source, _ = find(name)
    return [parse_revision(text, source.tokens_per_step) for text in _all(source)]


def _registered(name: str) -> ModelEntry | None:
    users = user_models()
    if name in users:
        return users[name]
    return registry.models.get(name) if name in registry.models else None


def _from_entry(entry: ModelEntry) -> Source:
    rate, told = entry.extra.get("tokens_per_step"), entry.extra.get("training") or {}
    folder = Path(entry.source).expanduser()
    if folder.is_absolute() or folder.is_dir():
        if not folder.is_dir():
            raise CheckpointError(
                f"The folder {folder} of the model '{entry.name}' does not exist. 'evalkit models rm {entry.name}' forgets it."
            )
        return Source(entry.name, folder, None, entry.tokenizer, entry.default_revision, rate, told)
    _refuse_native(entry.source)
    rate = rate or TOKENS_PER_STEP.get(entry.source)
    return Source(entry.name, None, entry.source, entry.tokenizer, entry.default_revision, rate, told)


def _from_folder(folder: Path, revision: str) -> tuple[Source, str | None]:
    """A folder by its path. One that is named like a revision is a revision of the folder above it."""
    if not revision and parse_revision(folder.name).step is not None and _is_checkpoint(folder):
        return Source(folder.parent.name or "model", folder.parent), folder.name
    return Source(folder.name or "model", folder), revision or None


def _refuse_native(repository: str) -> None:
    owner, _, model = repository.partition("/")
    if owner == "allenai" and model in NATIVE_OLMO:
        better = {"OLMo-7B-SFT": "OLMo-7B-SFT-hf", "OLMo-1.7-7B": "OLMo-1.7-7B-hf"}.get(model, f"{model}-hf")
        raise CheckpointError(
            f"{repository} holds OLMo's own format, which transformers does not load. Use allenai/{better}."
        )


def _is_checkpoint(folder: Path) -> bool:
    return (folder / "config.json").is_file() or is_adapter(folder)


def is_adapter(folder: Path) -> bool:
    """Whether a folder holds an adapter, as PEFT writes it, and no model of its own."""
    return (folder / "adapter_config.json").is_file() and not (folder / "config.json").is_file()


def _children(folder: Path) -> list[str]:
    """Names of the checkpoint folders directly in a folder, in the order of training."""
    names = [
        child.name
        for child in folder.iterdir()
        if child.is_dir() and (_is_checkpoint(child) or parse_revision(child.name).step is not None)
    ]
    return sorted(names, key=lambda name: parse_revision(name).order)


def _all(source: Source) -> list[str]:
    if source.repository is not None:
        return sorted(hub.revisions(source.repository), key=lambda name: parse_revision(name).order)
    assert source.folder is not None  # noqa: S101
    return _children(source.folder) + (["main"] if _is_checkpoint(source.folder) else [])


def _default(source: Source) -> str:
    if source.default_revision:
        return source.default_revision
    if source.folder is None or _is_checkpoint(source.folder):
        return "main"
    children = _children(source.folder)
    return children[-1] if children else "main"


def _matching(source: Source, globs: Sequence[str]) -> list[str]:
    known = _all(source)
    for glob in globs:
        if not any(fnmatchcase(name, glob) for name in known):
            raise UnknownName("revision", glob, known, f"'evalkit list checkpoints {source.model}' shows all.")
    return [name for name in known if any(fnmatchcase(name, glob) for glob in globs)]


def _checkpoint(
    source: Source, revision: str, *, adapter: Path | None, tokenizer: str | None, trust: bool, verify: bool
) -> Checkpoint:
    if source.repository is not None:
        folder = hub.download(source.repository, revision, trust=trust)
    else:
        assert source.folder is not None  # noqa: S101
        folder = _revision_folder(source, source.folder, revision)
    parsed = parse_revision(revision, source.tokens_per_step)
    if is_adapter(folder):
        if adapter is not None:
            raise UsageError(f"{folder} is an adapter itself, so --adapter cannot be put on top of it.")
        base = _base_of(folder, trust)
        files = weight_files(base.path, trust=trust)
        return replace(
            base,
            model=source.model,
            revision=revision,
            tokenizer_path=_adapter_tokenizer(folder, source, tokenizer, trust) or base.tokenizer_path,
            fingerprint=fingerprint(base.config, files, adapter=_adapter_files(folder), verify=verify),
            step=parsed.step,
            tokens=parsed.tokens,
            tokens_derived=parsed.tokens_derived,
            stage=parsed.stage,
            ingredient=parsed.ingredient,
            adapter=folder.resolve(),
        )
    config = read_config(folder)
    weights = weight_files(folder, trust=trust)
    headers = [read_header(file) for file in weights if file.suffix == ".safetensors"]
    checkpoint = Checkpoint(
        model=source.model,
        revision=revision,
        path=folder,
        tokenizer_path=_tokenizer(folder, source, tokenizer, trust),
        fingerprint=fingerprint(config, weights, adapter=_adapter_files(adapter) if adapter else (), verify=verify),
        config=config,
        parameters=count_parameters(headers, config) if headers else None,
        step=parsed.step,
        tokens=parsed.tokens,
        tokens_derived=parsed.tokens_derived,
        stage=parsed.stage,
        ingredient=parsed.ingredient,
        trust_remote_code=trust,
        training=source.training,
    )
    return replace(checkpoint, adapter=adapter.resolve()) if adapter else checkpoint


def _adapter_tokenizer(folder: Path, source: Source, tokenizer: str | None, trust: bool) -> Path | None:
    """The tokenizer asked for, else the one beside an adapter; None where there is none, and its base's counts."""
    own = any((folder / file).is_file() for file in TOKENIZER_FILES)
    return _tokenizer(folder, source, tokenizer, trust) if own or tokenizer is not None else None


def _base_of(adapter: Path, trust: bool) -> Checkpoint:
    """The checkpoint that an adapter names as the one it was trained on."""
    file = adapter / "adapter_config.json"
    try:
        about = json.loads(file.read_text(encoding="utf-8"))
        name, revision = str(about["base_model_name_or_path"] or ""), about.get("revision")
    except (OSError, ValueError, KeyError, AttributeError) as error:
        raise CheckpointError(
            f"{file} does not say what the adapter was trained on (base_model_name_or_path). Give the base with --model and the "
            f"adapter with --adapter {adapter}."
        ) from error
    if name.startswith(("/", ".", "~")) and not Path(name).expanduser().is_dir():
        raise CheckpointError(
            f"The adapter in {adapter} was trained on {name}, which is not there. Put it back, or give the base with "
            f"--model and the adapter with --adapter {adapter}."
        )
    (base,) = resolve(f"{name}@{revision}" if revision else name, trust_remote_code=trust)
    if base.adapter is not None:
        raise CheckpointError(
            f"The adapter in {adapter} was trained on another adapter ({name}). Merge that one first."
        )
    return base


def _revision_folder(source: Source, folder: Path, revision: str) -> Path:
    if revision == "main" and (_is_checkpoint(folder) or not (folder / "main").is_dir()):
        return folder
    if revision in (".", "..") or "/" in revision or not (folder / revision).is_dir():
        raise UnknownName(
            "revision",
            revision,
            _all(source),
            f"'evalkit list checkpoints {source.model}' shows those of {source.model}.",
        )
    return folder / revision


def read_config(folder: Path) -> dict[str, Any]:
    """The parsed ``config.json`` of a checkpoint. Raises `CheckpointError`, naming foreign formats and their converter."""
    _refuse_foreign(folder)
    file = folder / "config.json"
    if not file.is_file():
        if (folder / "adapter_config.json").is_file():
            raise CheckpointError(
                f"{folder} holds an adapter and no model. Give the base model with --model and this folder with --adapter."
            )
        raise CheckpointError(
            f"{folder} is no checkpoint: it has no config.json. Give a folder as transformers' save_pretrained writes it."
        )
    try:
        config = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{file} cannot be read: it is no valid JSON.") from error
    if not isinstance(config, dict):
        raise CheckpointError(f"{file} cannot be read: it is no JSON object.")
    native = config.get("model_type") == "hf_olmo" or "OLMoForCausalLM" in (config.get("architectures") or [])
    if native:
        raise CheckpointError(
            f"{folder} holds OLMo's first format (hf_olmo), which transformers does not load. Use the '-hf' repository, or "
            "convert it with transformers' models/olmo/convert_olmo_weights_to_hf.py."
        )
    return config


def _refuse_foreign(folder: Path) -> None:
    if (folder / "config.json").is_file():
        return
    parts = [folder, folder / "model_and_optim"]
    if any((part / ".metadata").exists() or any(part.glob("*.distcp")) for part in parts if part.is_dir()):
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
    """The weight files that transformers would load, all there.

    Raises `CheckpointError` where there are none, where a shard is missing, and for pickled weights unless `trust`.
    """
    index = folder / "model.safetensors.index.json"
    single = folder / "model.safetensors"
    if single.is_file():
        return [single]
    if index.is_file():
        try:
            names = sorted(set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values()))
        except (OSError, ValueError, KeyError, AttributeError) as error:
            raise CheckpointError(f"{index} is damaged. Copy or download the checkpoint again.") from error
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
            "Convert them to safetensors, or pass --trust-remote-code if you trust who made them."
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
            f"{adapter} is no adapter: it needs adapter_config.json and adapter_model.safetensors, as PEFT writes them."
        )
    read_header(weights)
    return [config, weights]


def _tokenizer(folder: Path, source: Source, tokenizer: str | None, trust: bool) -> Path:
    """Where the tokenizer is: the one asked for, else the checkpoint's own, else its model's."""
    if tokenizer is not None:
        path = Path(tokenizer).expanduser()
        if path.exists():
            return path.resolve()
        try:
            inner, revision = find(tokenizer)
        except UnknownName:
            raise CheckpointError(
                f"There is no tokenizer {tokenizer}. --tokenizer takes a folder, a tokenizer.json or a hub repository."
            ) from None
        if inner.repository is not None:
            return hub.download(inner.repository, revision or "main", trust=trust, weights=False)
        assert inner.folder is not None  # noqa: S101
        return _revision_folder(inner, inner.folder, revision or _default(inner))
    for place in (folder, source.folder):
        if place is not None and any((place / file).is_file() for file in TOKENIZER_FILES):
            return place
    raise CheckpointError(
        f"There is no tokenizer in {folder}. Name one with --tokenizer (a folder, a hub repository or a tokenizer.json)."
    )
