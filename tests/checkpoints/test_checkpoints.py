"""Names to checkpoints: revisions, folders, registered names, fingerprints, and what is refused in which words."""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from evalkit import registry
from evalkit.checkpoints.fingerprints import count_parameters
from evalkit.checkpoints.registered import models_file, user_models
from evalkit.checkpoints.resolve import list_revisions, resolve
from evalkit.checkpoints.revisions import parse_revision
from evalkit.errors import CheckpointError, DataUnavailable, UnknownName, UsageError
from evalkit.models import add_model, remove_model
from tests.made.byte_checkpoints import make_checkpoint


@pytest.mark.parametrize(
    ("name", "stage", "ingredient", "step", "tokens"),
    [
        ("step20000-tokens84B", None, None, 20_000, 84 * 10**9),
        ("step1000-tokens4.5M", None, None, 1000, 4_500_000),
        ("step738020-tokens3095B", None, None, 738_020, 3_095 * 10**9),
        ("stage1-step10000-tokens21B", 1, None, 10_000, 21 * 10**9),
        ("stage2-ingredient3-step1000-tokens3B", 2, 3, 1000, 3 * 10**9),
        ("stage3-step11000", 3, None, 11_000, None),
        ("stage3-step-500", 3, None, 500, None),
        ("step-500", None, None, 500, None),
        ("step_500", None, None, 500, None),
        ("step557000-tokens2T", None, None, 557_000, 2 * 10**12),
        ("step4-tokens300K", None, None, 4, 300_000),
        ("step1000-tokens4B-unsharded", None, None, 1000, 4 * 10**9),
        ("checkpoint-1500", None, None, 1500, None),
        ("global_step300", None, None, 300, None),
        ("iter_0002000", None, None, 2000, None),
        ("main", None, None, None, None),
        ("final", None, None, None, None),
        ("footstep9", None, None, None, None),
    ],
)
def test_revision_names(
    name: str, stage: int | None, ingredient: int | None, step: int | None, tokens: int | None
) -> None:
    """Every published pattern, and the aliases of local training runs."""
    revision = parse_revision(name)
    assert (revision.stage, revision.ingredient, revision.step, revision.tokens) == (stage, ingredient, step, tokens)
    assert not revision.tokens_derived


def test_tokens_are_derived_only_where_the_name_has_none() -> None:
    """A known rate fills in the first stage's tokens, marked; later stages count from elsewhere."""
    derived = parse_revision("stage1-step10", 2**22)
    assert (derived.tokens, derived.tokens_derived) == (10 * 2**22, True)
    assert parse_revision("stage2-step10", 2**22).tokens is None
    assert parse_revision("step10-tokens5B", 2**22) == parse_revision("step10-tokens5B")


def test_revisions_sort_as_they_were_trained() -> None:
    """By stage, ingredient and step as numbers; names without a step come last."""
    names = [
        "main",
        "stage2-ingredient2-step9",
        "stage1-step200",
        "stage2-ingredient1-step10",
        "stage1-step1000",
        "stage2-ingredient1-step9",
    ]
    assert sorted(names, key=lambda name: parse_revision(name).order) == [
        "stage1-step200",
        "stage1-step1000",
        "stage2-ingredient1-step9",
        "stage2-ingredient1-step10",
        "stage2-ingredient2-step9",
        "main",
    ]


@pytest.fixture
def many(tmp_path: Path) -> Path:
    """A model of three revisions; the tokenizer stands above them."""
    folder = make_checkpoint(tmp_path / "many")
    for file in ("config.json", "model.safetensors"):
        (folder / file).unlink()
    for step in (5, 50, 10):
        make_checkpoint(folder / f"step{step}-tokens{step}M", seed=step, tokenizer=False)
    return folder


def test_a_folder_of_revisions(many: Path) -> None:
    """Its default is the last; ``@`` names one, globs name several in the order of training."""
    assert [one.revision for one in resolve(str(many))] == ["step50-tokens50M"]
    (one,) = resolve(f"{many}@step5-tokens5M")
    assert (one.name, one.step, one.tokens) == ("many@step5-tokens5M", 5, 5_000_000)
    assert one.tokenizer_path == many
    assert [one.step for one in resolve(str(many), "step?-*")] == [5]
    assert [one.step for one in resolve(str(many), ["step5-*", "step1*"])] == [5, 10]
    assert [one.step for one in resolve(str(many), "*")] == [5, 10, 50]
    assert [one.revision for one in list_revisions(str(many))] == [
        "step5-tokens5M",
        "step10-tokens10M",
        "step50-tokens50M",
    ]
    assert resolve(str(many / "step10-tokens10M"))[0].name == "many@step10-tokens10M"


def test_a_training_folder_is_a_checkpoint_and_has_some(tmp_path: Path) -> None:
    """The folder itself is ``main``; its ``checkpoint-N`` children are revisions before it."""
    folder = make_checkpoint(tmp_path / "sft")
    make_checkpoint(folder / "checkpoint-20", seed=2)
    make_checkpoint(folder / "checkpoint-100", seed=3)
    (folder / "runs").mkdir()
    assert [one.name for one in resolve(str(folder))] == ["sft"]
    assert [one.name for one in resolve(str(folder), "*")] == ["sft@checkpoint-20", "sft@checkpoint-100", "sft"]


def test_unknown_names_suggest(many: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Models, revisions and globs that are not there; a hub name without a hub."""
    with pytest.raises(UnknownName, match="olmo-tiny"):
        resolve("olmo-tyni")
    with pytest.raises(UnknownName, match="step5-tokens5M"):
        resolve(f"{many}@step5-tokens5B")
    with pytest.raises(UnknownName, match="revision"):
        resolve(str(many), "stage*")
    with pytest.raises(UnknownName, match="revision"):
        resolve(f"{many}@..")
    with pytest.raises(UsageError, match="already has a revision"):
        resolve(f"{many}@step5-tokens5M", "*")
    with pytest.raises(DataUnavailable, match="HF_HUB_OFFLINE"):
        resolve("nobody/nothing-here")
    with pytest.raises(UsageError):
        resolve("@main")


def test_registered_models(tmp_path: Path, checkpoint: Path) -> None:
    """A name of one's own stands for a folder, in every later process, until it is removed."""
    add_model("mine", checkpoint, default_revision=None)
    assert json.loads(models_file().read_text())["models"]["mine"]["source"] == str(checkpoint)
    (one,) = resolve("mine")
    assert (one.name, one.path) == ("mine", checkpoint)
    with pytest.raises(UsageError, match="already registered"):
        add_model("mine", checkpoint)
    with pytest.raises(UsageError, match="comes with evalkit"):
        add_model("olmo-tiny", checkpoint)
    with pytest.raises(UsageError, match="cannot be"):
        add_model("a/b", checkpoint)
    with pytest.raises(UsageError, match="neither"):
        add_model("other", tmp_path / "nowhere")
    shutil.rmtree(checkpoint)
    with pytest.raises(CheckpointError, match="does not exist"):
        resolve("mine")
    remove_model("mine")
    assert "mine" not in user_models()
    assert "mine" not in registry.models
    with pytest.raises(UnknownName):
        remove_model("mine")


def test_a_damaged_registry_is_named(checkpoint: Path) -> None:
    """A broken ``models.json`` is an error that says which file it is."""
    add_model("mine", checkpoint)
    for text, words in (
        ("{", "not JSON"),
        ("[]", "mapping"),
        ('{"models": {"mine": 5}}', "models.mine"),
        ('{"models": {"mine": {}}}', "models.mine.source is missing"),
        ('{"models": {"mine": {"source": ["x"]}}}', "models.mine.source should be a valid string"),
        ('{"models": {"mine": {"source": "x", "extra": {"tokens_per_step": true}}}}', "tokens_per_step"),
    ):
        models_file().write_text(text)
        with pytest.raises(UsageError, match=rf"models\.json.*{words}.*register your models again"):
            user_models()
    models_file().write_bytes(b"\xfe")
    with pytest.raises(UsageError, match=r"models\.json is not UTF-8"):
        resolve("mine")
    registry.models.remove("mine")  # the registry outlives this test's home


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (lambda folder: (folder / "model.safetensors").unlink(), "no weights"),
        (lambda folder: (folder / "config.json").unlink(), "no config.json"),
        (lambda folder: (folder / "config.json").write_text("{"), "JSON"),
        (lambda folder: (folder / "model.safetensors").rename(folder / "pytorch_model.bin"), "pickle"),
        (lambda folder: _cut(folder / "model.safetensors", -1), "truncated"),
        (lambda folder: _cut(folder / "model.safetensors", 30), "truncated"),
        (lambda folder: _cut(folder / "model.safetensors", 3), "damaged"),
        (lambda folder: (folder / "model.safetensors").write_bytes(b"\x02\0\0\0\0\0\0\0xx"), "damaged"),
        (lambda folder: _index(folder), "lacks 1 of 2"),
        (
            lambda folder: [(folder / name).unlink() for name in ("tokenizer.json", "tokenizer_config.json")],
            "--tokenizer",
        ),
        (lambda folder: _native(folder), "-hf"),
        (lambda folder: _distributed(folder), "convert_checkpoint_to_hf"),
        (lambda folder: _first_format(folder), "hf_olmo"),
        (lambda folder: (folder / "config.json").rename(folder / "adapter_config.json"), "--adapter"),
    ],
)
def test_what_cannot_be_loaded(checkpoint: Path, spoil: object, words: str) -> None:
    """Each kind of broken or foreign checkpoint is one sentence that says what to do."""
    spoil(checkpoint)  # type: ignore[operator]
    with pytest.raises(CheckpointError, match=words) as caught:
        resolve(str(checkpoint))
    assert len(str(caught.value)) < 400


def _cut(file: Path, size: int) -> None:
    file.write_bytes(file.read_bytes()[:size])


def _index(folder: Path) -> None:
    (folder / "model.safetensors").rename(folder / "model-1.safetensors")
    index = {"weight_map": {"a": "model-1.safetensors", "b": "model-2.safetensors"}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))


def _native(folder: Path) -> None:
    (folder / "config.json").unlink()
    (folder / "config.yaml").touch()
    (folder / "model.pt").touch()


def _distributed(folder: Path) -> None:
    (folder / "config.json").unlink()
    (folder / "model_and_optim").mkdir()
    (folder / "model_and_optim" / "__0_0.distcp").touch()


def _first_format(folder: Path) -> None:
    (folder / "config.json").write_text(json.dumps({"model_type": "hf_olmo"}))


def test_pickled_weights_on_demand(checkpoint: Path) -> None:
    """Pickle is taken only where the person trusts it."""
    (checkpoint / "model.safetensors").rename(checkpoint / "pytorch_model.bin")
    assert resolve(str(checkpoint), trust_remote_code=True)[0].parameters is None


def test_ai2s_first_repositories_are_refused() -> None:
    """``allenai/OLMo-1B`` is OLMo's own format; the sentence names the repository that works."""
    with pytest.raises(CheckpointError, match="allenai/OLMo-1B-hf"):
        resolve("allenai/OLMo-1B")


def test_fingerprints_follow_content_not_place(checkpoint: Path, tmp_path: Path) -> None:
    """A copy is equal; one changed weight, or a changed config, is not; names and dates do not matter."""
    copy = tmp_path / "elsewhere" / "other"
    shutil.copytree(checkpoint, copy)
    first = resolve(str(checkpoint))[0].fingerprint
    assert resolve(str(copy))[0].fingerprint == first
    config = json.loads((copy / "config.json").read_text())
    (copy / "config.json").write_text(json.dumps({**config, "_name_or_path": "x", "transformers_version": "9"}))
    assert resolve(str(copy))[0].fingerprint == first
    (copy / "config.json").write_text(json.dumps({**config, "rope_theta": 1}))
    assert resolve(str(copy))[0].fingerprint != first
    raw = bytearray((checkpoint / "model.safetensors").read_bytes())
    raw[-1] ^= 1
    (checkpoint / "model.safetensors").write_bytes(raw)
    assert resolve(str(checkpoint))[0].fingerprint != first


def test_the_hubs_blobs_are_verified(checkpoint: Path, tmp_path: Path) -> None:
    """A link into the hub's blobs has the fingerprint of its content; a blob that is not what its name says is refused."""
    plain = resolve(str(checkpoint))[0].fingerprint
    content = (checkpoint / "model.safetensors").read_bytes()
    blob = tmp_path / "blobs" / hashlib.sha256(content).hexdigest()
    blob.parent.mkdir()
    (checkpoint / "model.safetensors").rename(blob)
    (checkpoint / "model.safetensors").symlink_to(blob)
    assert resolve(str(checkpoint))[0].fingerprint == plain
    blob.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    with pytest.raises(CheckpointError, match="does not match the hub's cache"):
        resolve(str(checkpoint))


def test_code_counts_where_it_is_run(checkpoint: Path, tmp_path: Path) -> None:
    """Python files beside the weights, and of another folder that ``auto_map`` names, with ``--trust-remote-code`` alone."""
    plain = resolve(str(checkpoint))[0].fingerprint
    (checkpoint / "modelling.py").write_text("SCALE = 1")
    assert resolve(str(checkpoint))[0].fingerprint == plain
    prints = [plain, resolve(str(checkpoint), trust_remote_code=True)[0].fingerprint]
    (checkpoint / "modelling.py").write_text("SCALE = 2")
    prints.append(resolve(str(checkpoint), trust_remote_code=True)[0].fingerprint)
    other = tmp_path / "code"
    other.mkdir()
    config = json.loads((checkpoint / "config.json").read_text())
    auto_map = {"AutoModelForCausalLM": f"{other}--more.Model", "AutoTokenizer": [None, "own.Tokenizer"]}
    (checkpoint / "config.json").write_text(json.dumps({**config, "auto_map": auto_map}))
    for text in ("SCALE = 3", "SCALE = 4"):
        (other / "more.py").write_text(text)
        prints.append(resolve(str(checkpoint), trust_remote_code=True)[0].fingerprint)
    assert len(set(prints)) == 5


def test_adapters_count(checkpoint: Path, tmp_path: Path) -> None:
    """An adapter is part of the checkpoint and of its fingerprint; a folder that is none is refused."""
    adapter = tmp_path / "adapter"
    adapter.mkdir()
    with pytest.raises(CheckpointError, match=r"adapter_config\.json"):
        resolve(str(checkpoint), adapter=adapter)
    (adapter / "adapter_config.json").write_text("{}")
    save_file({"a": np.zeros(3, dtype="float32")}, adapter / "adapter_model.safetensors")
    (one,) = resolve(str(checkpoint), adapter=adapter)
    assert one.adapter == adapter
    save_file({"a": np.ones(3, dtype="float32")}, adapter / "adapter_model.safetensors")
    prints = {
        resolve(str(checkpoint))[0].fingerprint,
        one.fingerprint,
        resolve(str(checkpoint), adapter=adapter)[0].fingerprint,
    }
    assert len(prints) == 3


def test_another_tokenizer(checkpoint: Path, tmp_path: Path) -> None:
    """``--tokenizer`` takes a folder or a tokenizer.json; what is not there is named."""
    other = make_checkpoint(tmp_path / "other")
    assert resolve(str(checkpoint), tokenizer=other)[0].tokenizer_path == other
    file = other / "tokenizer.json"
    assert resolve(str(checkpoint), tokenizer=str(file))[0].tokenizer_path == file
    with pytest.raises(CheckpointError, match="no tokenizer nowhere"):
        resolve(str(checkpoint), tokenizer="nowhere")


def _tensor(*shape: int, dtype: str = "F32") -> dict[str, object]:
    return {"dtype": dtype, "shape": list(shape), "data_offsets": [0, 0]}


def test_parameters_by_hand() -> None:
    """Tied matrices count once, buffers not at all, biases do."""
    header = {
        "model.embed_tokens.weight": _tensor(10, 4),
        "lm_head.weight": _tensor(10, 4),
        "model.layers.0.self_attn.rotary_emb.inv_freq": _tensor(2),
        "gpt_neox.layers.0.attention.bias": _tensor(1, 1, 8, 8, dtype="BOOL"),
        "h.0.attn.bias": _tensor(1, 1, 8, 8),
        "h.0.attn.c_attn.bias": _tensor(12),
    }
    assert count_parameters([header], {"tie_word_embeddings": True}) == 40 + 12
    assert count_parameters([header], {"tie_word_embeddings": False}) == 80 + 12
