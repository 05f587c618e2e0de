"""What strings share is tokenized once, and every request has the ids that encoding whole strings gives it."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from typing import Any

import pytest
from lm_eval.api.model import TemplateLM
from tokenizers import AddedToken, Regex, decoders, models, normalizers, pre_tokenizers, processors, trainers
from tokenizers import Tokenizer as Backend
from transformers import ByT5Tokenizer, PreTrainedTokenizerFast

from evalkit.data import Bundle
from evalkit.encoding import strings
from evalkit.encoding.cuts import Cuts, is_local
from evalkit.encoding.encoding import Encoded, Encoder
from evalkit.encoding.tokenizers import Tokenizer
from evalkit.errors import ScoringError
from evalkit.records import Prompt
from tests.made.word_tokenizer import make_lossy_tokenizer, make_sentencepiece, make_tokenizer

PATTERNS = {
    "gpt2": r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+",
    "llama3": r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+",
    "qwen2": r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+",
    "o200k": r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?"
    r"|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?"
    r"|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+",
}
NEOX = "olmo_eval/tokenizers/allenai_eleuther-ai-gpt-neox-20b-pii-special.json"
DOLMA = "olmo_eval/tokenizers/allenai_gpt-neox-olmo-dolma-v1_5.json"
WHITE_SPACE = [
    "\n",
    "\n\n",
    "\n",
    "\n\n",
    " ",
    "  ",
    "    ",
    "\r\n",
    "\r",
    "\t",
    " \n",
    "\n ",
    "\u3000",
    "\u00a0",
    "\x1c",
    "\x85",
    "\u2028",
]
OTHERS = [
    *("Question:", "Answer:", " cat", "red", "A", "B.", ".", ",", "!!", "?", "/", "//", "'", "'s", "'S", "'l", "’s", "1", "12", "3456"),
    *("é", "e\u0301", "\u0301", "\u0301\u0300", "\u093f", "ß", "ſ", "\u212a", "\u2adc", "\ufb01", "猫", "数学", "かな", "\u1100\u1161", "\u1161"),
    *("🐈", "👩\u200d👧", "\u200b", "\ufeff", "½", "²", "\u0378", "\x00", "<", ">", "|"),
    *("<|endoftext|>", "<|end", "oftext|>", "<s>", "<s", "|||EMAIL_ADDRESS|||", "|||", "<a b>", "<a", "b>"),
]  # fmt: skip


def nasty(draw: random.Random, most: int = 8) -> str:
    """A text of characters that tokenizers treat in special ways."""
    return "".join(draw.choice(draw.choice([WHITE_SPACE, OTHERS, OTHERS])) for _ in range(draw.randint(0, most)))


def prompts(seed: int, number: int = 120) -> list[Prompt]:
    """Prompts in groups that begin alike; of every eighth the hint is wrong. None is empty or of white space alone."""
    draw = random.Random(seed)
    made = []
    while len(made) < number:
        examples = nasty(draw, 14) + draw.choice(["\n\n", "\n\n", "\n", " ", "", "\n\n\n", ".\n\n", " \n\n"])
        for _ in range(3):
            question, option = nasty(draw), draw.choice([" ", " ", "\n", ""]) + nasty(draw, 4)
            context = examples + question
            shared = len(examples) if draw.random() < 7 / 8 else draw.randint(0, len(context) + 2)
            encoding: Any = draw.choice(["joint", "joint", "separate"])
            if context.strip() and option.strip():
                made += [Prompt(context, text, encoding, shared=shared) for text in (option, " A" + option)]
    return made


def trained(
    pre_tokenizer: Any, *, normalizer: Any = None, bos: bool = False, added: Sequence[AddedToken] = (), **model: Any
) -> PreTrainedTokenizerFast:
    """A BPE with merges of what the texts above have, with the pre-tokenizer, or the normalizer, of a real one."""
    backend = Backend(models.BPE(**model))
    backend.pre_tokenizer, backend.decoder = pre_tokenizer, decoders.ByteLevel()
    if normalizer is not None:
        backend.normalizer = normalizer
    trainer = trainers.BpeTrainer(
        vocab_size=900,
        special_tokens=["<|endoftext|>", "<s>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    draw = random.Random(5)
    backend.train_from_iterator([nasty(draw, 30) for _ in range(1500)], trainer)
    backend.add_tokens(list(added))
    if bos:
        pair = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 1)])
        backend.post_processor = processors.Sequence([processors.ByteLevel(), pair])
    names: dict[str, Any] = {"eos_token": "<|endoftext|>"} | ({"bos_token": "<s>"} if bos else {})
    return PreTrainedTokenizerFast(tokenizer_object=backend, **names)


def by_pattern(name: str, *before: Any, **others: Any) -> PreTrainedTokenizerFast:
    stages = [*before, pre_tokenizers.Split(Regex(PATTERNS[name]), "isolated"), pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)]  # fmt: skip
    return trained(pre_tokenizers.Sequence(stages), **others)


def byte_level(**options: Any) -> Any:
    return pre_tokenizers.ByteLevel(**{"add_prefix_space": False} | options)


def from_bundle(name: str) -> PreTrainedTokenizerFast:
    backend = Backend.from_str(Bundle.open(None).read(name).decode())
    names: dict[str, Any] = {"eos_token": "<|endoftext|>"}
    return PreTrainedTokenizerFast(tokenizer_object=backend, **names)


def unigram() -> PreTrainedTokenizerFast:
    """As T5's: Metaspace, Unigram, and an end token behind every text."""
    draw = random.Random(6)
    backend = Backend(models.Unigram())
    backend.normalizer = normalizers.NFKC()
    backend.pre_tokenizer = pre_tokenizers.Metaspace()
    unknown: dict[str, Any] = {"unk_token": "<unk>"}
    names = {"eos_token": "</s>"} | unknown
    trainer = trainers.UnigramTrainer(vocab_size=400, special_tokens=["<unk>", "</s>"], show_progress=False, **unknown)
    backend.train_from_iterator([nasty(draw, 30) for _ in range(1500)], trainer)
    backend.post_processor = processors.TemplateProcessing(single="$A </s>", special_tokens=[("</s>", 1)])
    return PreTrainedTokenizerFast(tokenizer_object=backend, **names)


def llama2() -> PreTrainedTokenizerFast:
    """As Llama 2's: one pre-token a text, with SentencePiece's space token in front, and BOS."""
    prepend = normalizers.Sequence([normalizers.Prepend("\u2581"), normalizers.Replace(" ", "\u2581")])
    made = trained(None, normalizer=prepend, bos=True)
    assert made.backend_tokenizer.pre_tokenizer is None
    return made


SAFE: dict[str, Callable[[], Any]] = {
    "olmo": lambda: from_bundle(DOLMA),
    "neox": lambda: from_bundle(NEOX),
    "small": make_tokenizer,
    "small bos": lambda: make_tokenizer(bos=True),
    "byte level": lambda: trained(byte_level(), added=[AddedToken("\n\n"), AddedToken("<a b>"), AddedToken("    ")]),
    "digits": lambda: trained(pre_tokenizers.Sequence([pre_tokenizers.Digits(individual_digits=True), byte_level()])),
    "nfc": lambda: trained(byte_level(), normalizer=normalizers.NFC(), added=[AddedToken("é\n", normalized=True)]),
    "bos": lambda: by_pattern("llama3", bos=True, ignore_merges=True),
    **{name: lambda name=name: by_pattern(name) for name in PATTERNS},  # type: ignore[misc]
    **{f"{name} nfc": lambda name=name: by_pattern(name, normalizer=normalizers.NFC()) for name in PATTERNS},  # type: ignore[misc]
}
UNSAFE: dict[str, Callable[[], Any]] = {
    "llama 2": llama2,
    "one pre-token": lambda: make_sentencepiece("normalizer"),
    "metaspace": lambda: make_sentencepiece("always"),
    "unigram": unigram,
    "words": make_lossy_tokenizer,
    "slow": ByT5Tokenizer,
    "end token": lambda: make_tokenizer(appends="<|padding|>"),
    "lower case": lambda: trained(byte_level(), normalizer=normalizers.Lowercase()),
    "nfkd": lambda: trained(byte_level(), normalizer=normalizers.Sequence([normalizers.NFC(), normalizers.NFKD()])),
    "space in front": lambda: trained(byte_level(add_prefix_space=True)),
    "another pattern": lambda: trained(
        pre_tokenizers.Sequence([pre_tokenizers.Split(Regex(r"(?<=\n)\p{L}+|\s+"), "isolated"), byte_level(use_regex=False)])
    ),
    "matches merged": lambda: trained(
        pre_tokenizers.Sequence([pre_tokenizers.Split(Regex(PATTERNS["gpt2"]), "merged_with_next"), byte_level(use_regex=False)])
    ),
    "token that takes white space": lambda: trained(byte_level(), added=[AddedToken("<a", lstrip=True), AddedToken("b>", rstrip=True)]),
    "token that is a word": lambda: trained(byte_level(), added=[AddedToken("red", single_word=True)]),
}  # fmt: skip


def encode_whole(tokenizer: Tokenizer, asked: Sequence[Prompt]) -> list[Encoded]:
    """The requests where nothing is cut."""
    encoder = Encoder(tokenizer, 4096)
    encoder.cuts = Cuts(None)
    return encoder.encode(asked)


def has_score(tokenizer: Tokenizer, prompt: Prompt) -> bool:
    """Whether a continuation has tokens of its own where nothing is cut."""
    try:
        encode_whole(tokenizer, [prompt])
    except ScoringError:
        return False
    return True


@pytest.mark.parametrize("name", [*SAFE, *UNSAFE])
def test_the_same_ids(name: str) -> None:
    """Texts that are nasty at the cut, with right and wrong hints, one chunk after the other with one encoder."""
    tokenizer = Tokenizer((SAFE | UNSAFE)[name]())
    encoder = Encoder(tokenizer, 4096)
    is_cut = []
    for seed in range(12):
        asked = [prompt for prompt in prompts(seed) if has_score(tokenizer, prompt)]
        for prompt, ours, whole in zip(asked, encoder.encode(asked), encode_whole(tokenizer, asked), strict=True):
            assert ours == whole, prompt
        is_cut += [encoder.cuts.within(prompt.context, prompt.shared) > 0 for prompt in asked]
    assert (sum(is_cut) > len(is_cut) / 4) is (name in SAFE)


@pytest.mark.parametrize("name", ["olmo", "bos", "o200k"])
def test_the_ids_of_lm_eval(name: str) -> None:
    """The joint encoding against lm-eval's own split of ids that transformers makes."""
    tokenizer = Tokenizer(SAFE[name]())

    class Peer:
        backend = "causal"

        def tok_encode(self, text: str, add_special_tokens: bool | None = None) -> list[int]:
            begins = tokenizer.adds_bos and text.startswith("<s>")
            return list(tokenizer.inner.encode(text, add_special_tokens=not begins))

    asked = [prompt for prompt in prompts(77, 400) if prompt.encoding == "joint" and has_score(tokenizer, prompt)]
    for prompt, ours in zip(asked, Encoder(tokenizer, 4096).encode(asked), strict=True):
        context, continuation = TemplateLM._encode_pair(Peer(), prompt.context, prompt.continuation)  # type: ignore[arg-type]
        assert list(ours.requests[0].tokens) == context + continuation
        assert ours.requests[0].start == len(context)


def test_marks_behind_punctuation() -> None:
    """o200k's pattern takes ``!!`` with any number of marks and the line feeds behind them as one, so nothing is cut there."""
    tokenizer = Tokenizer(by_pattern("o200k"))
    for marks in (1, 7, 8, 9, 30):
        asked = [
            Prompt("x!!" + "\u0301" * marks + "\n\nQ", "\n", shared=len("x!!\n\n") + marks),
            Prompt("!!" + "\u0301" * marks, "\n\nQ"),
        ]
        assert Encoder(tokenizer, 4096).encode(asked) == encode_whole(tokenizer, asked)


@pytest.mark.parametrize(
    ("name", "text", "shared", "cut"),
    [
        ("gpt2", "a red.\n\nQ", 8, 6),  # '\n\n' is one token at the end of a text, and two before Q
        ("gpt2", "a red\n\nQ", 7, 5),
        ("llama3", "a red.\n\nQ", 8, 8),  # '.\n\n' is one pre-token
        ("llama3", "a red\n\nQ", 7, 5),
        ("llama3", "a red.\n\n\n\n\n\n\n\n\n\n\n\nQ", 18, 18),
        ("qwen2", "a red.\n\n Q", 8, 0),  # the white space that follows may belong to either side
        ("o200k", "a red.\n\n/Q", 8, 0),
        ("gpt2", "a red. Q", 6, 6),
        ("gpt2", "a redQ", 5, 0),
        ("gpt2", "a red\n\nQ", 8, 0),  # nothing is left
        ("gpt2", "\n\nQ", 2, 0),
    ],
)  # fmt: skip
def test_the_place_of_the_cut(name: str, text: str, shared: int, cut: int) -> None:
    """Before the white space where that is a border between pre-tokens, else after it; by hand from the patterns."""
    assert Cuts(by_pattern(name).backend_tokenizer).within(text, shared) == cut


def test_added_tokens_are_not_cut() -> None:
    """An added token that lies across the place, and one of which only the beginning stands there."""
    cuts = Cuts(trained(byte_level(), added=[AddedToken("<a b>"), AddedToken(".\n")]).backend_tokenizer)
    assert not cuts.between("x<a", " b>")
    assert not cuts.between("x.", "\n\nQ")
    assert cuts.between("x.", " b")


def test_ids_that_are_drawn_are_drawn_whole() -> None:
    """With BPE-dropout no two encodings of a text are the same, and nothing is cut."""
    assert not is_local(trained(byte_level(), dropout=0.5).backend_tokenizer)


def counted(inner: Any) -> tuple[Encoder, list[str]]:
    """An encoder, and the list of all strings that its tokenizer is going to be given."""
    tokenizer, given = Tokenizer(inner), list[str]()
    encode = tokenizer.encode

    def encode_counted(texts: Sequence[str], *, special: bool) -> list[list[int]]:
        given.extend(texts)
        return encode(texts, special=special)

    tokenizer.encode = encode_counted  # type: ignore[method-assign]
    return Encoder(tokenizer, 4096), given


EXAMPLES = "".join(f"Question: What is {n} and {n}?\nAnswer: It is {2 * n}.\n\n" for n in range(5))
FIVE_SHOT = [
    Prompt(EXAMPLES + f"Question: And {n} and {n}?\nAnswer:", f" {answer}", encoding, shared=len(EXAMPLES))
    for n in range(40)
    for answer in (2 * n, n, "none", "all of them")
    for encoding in ("joint",)
]


@pytest.mark.parametrize("name", SAFE)
def test_what_is_shared_is_tokenized_once(name: str) -> None:
    """The examples once, each question once and each answer once: not one character more."""
    encoder, given = counted(SAFE[name]())
    for first in range(0, len(FIVE_SHOT), 32):
        encoder.encode(FIVE_SHOT[first : first + 32])
    assert sum(text.startswith("Question: What is 0") for text in given) == 1
    questions = {prompt.context for prompt in FIVE_SHOT}
    assert sum(map(len, given)) < len(EXAMPLES) + 45 * len(questions) + 10 * len(FIVE_SHOT)


@pytest.mark.parametrize("name", UNSAFE)
def test_other_tokenizers_are_given_whole_strings(name: str) -> None:
    """Nothing but contexts, and contexts with their answers."""
    encoder, given = counted(UNSAFE[name]())
    assert encoder.tokenizer.backend is None or not is_local(encoder.tokenizer.backend)
    encoder.encode(FIVE_SHOT[:8])
    assert set(given) == {p.context for p in FIVE_SHOT[:8]} | {p.context + p.continuation for p in FIVE_SHOT[:8]}


def test_separately_encoded_contexts_share_too() -> None:
    """Catwalk's rule: the context's beginning once, and of the rest of it each once."""
    encoder, given = counted(SAFE["olmo"]())
    asked = [Prompt(p.context, p.continuation, "separate", shared=p.shared) for p in FIVE_SHOT]
    encoder.encode(asked)
    assert sum(text.startswith("Question: What is 0") for text in given) == 1


def test_no_more_is_remembered_than_the_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of beginnings that are all different the last remain, and one that is longer than the limit is used and forgotten."""
    encoder, given = counted(SAFE["small"]())
    monkeypatch.setattr(strings, "REMEMBERED_CHARACTERS", 100)
    asked = [Prompt(f"the cat sat {n:04d}\n\nthe dog", " ran", shared=len("the cat sat 0000\n\n")) for n in range(50)]
    asked.append(Prompt("cat " * 100 + "sat\n\nthe dog", " ran", shared=405))
    for _ in range(2):
        assert encoder.encode(asked) == encode_whole(encoder.tokenizer, asked)
    assert encoder._beginnings._characters == sum(map(len, encoder._beginnings._ids)) <= 100
    encoder.encode(asked[:6])
    given.clear()
    encoder.encode(asked[1:6])
    assert not any("cat sat" in text for text in given)


def test_hints_are_no_part_of_a_prompt() -> None:
    """Prompts that differ in the hint alone are equal."""
    assert Prompt("a\n\nb", " c", shared=3) == Prompt("a\n\nb", " c")
