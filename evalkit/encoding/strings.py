"""The distinct strings of some prompts and their token ids; what strings have in common is tokenized once where that is exact."""

from __future__ import annotations

from array import array
from collections import OrderedDict
from collections.abc import Sequence

from evalkit.encoding.cuts import Cuts
from evalkit.encoding.tokenizers import Tokenizer

Ids = list[int]

REMEMBERED_CHARACTERS = 1_000_000
"""How many characters of shared beginnings are remembered with their ids: about 10 MB."""


class SharedBeginnings:
    """Token ids of the beginnings that strings share (few-shot examples), from one chunk of prompts to the next."""

    def __init__(self) -> None:
        self._ids: OrderedDict[str, Ids] = OrderedDict()
        self._characters = 0

    def __getitem__(self, text: str) -> Ids:
        self._ids.move_to_end(text)
        return self._ids[text]

    def add(self, texts: Sequence[str], tokenizer: Tokenizer) -> None:
        """Tokenize those of some distinct texts that are not remembered; all of them are until `forget_oldest`."""
        new = [text for text in texts if text not in self._ids]
        if new:
            self._ids.update(zip(new, tokenizer.encode(new, special=False), strict=True))
            self._characters += sum(map(len, new))

    def forget_oldest(self) -> None:
        """Forget those that were not used for longest, until `REMEMBERED_CHARACTERS` hold the rest."""
        while self._characters > REMEMBERED_CHARACTERS:
            text, _ = self._ids.popitem(last=False)
            self._characters -= len(text)


class TokenizedStrings:
    """Distinct strings and their token ids; tokenized in batches: without special tokens, with them, and pairs to be split."""

    def __init__(self, tokenizer: Tokenizer, cuts: Cuts, beginnings: SharedBeginnings) -> None:
        self._tokenizer = tokenizer
        self._cuts = cuts
        self._beginnings = beginnings
        self._ids: dict[tuple[str, bool], Ids] = {}
        self._parts: dict[tuple[str, bool], tuple[str, str]] = {}
        """The two parts of each string that is cut."""
        self._packed: dict[tuple[str, bool], array[int]] = {}
        self._splits: dict[tuple[str, str], tuple[Ids, Ids]] = {}

    def add(self, text: str, special: bool, shared: int = 0) -> None:
        """Add a string to be tokenized; `shared`: the number of characters at its beginning that others share."""
        if (text, special) in self._ids:
            return
        self._ids[text, special] = []
        cut = self._cuts.within(text, shared) if shared else 0
        if cut:
            self._parts[text, special] = text[:cut], text[cut:]

    def add_split(self, context: str, continuation: str) -> None:
        """Add a pair that is tokenized as one text and then split."""
        self._splits[context, continuation] = [], []

    def tokenize(self) -> None:
        """Tokenize all strings that were added."""
        for special in (False, True):
            texts = [text for text, kind in self._ids if kind is special and (text, kind) not in self._parts]
            if texts:
                for text, ids in zip(texts, self._tokenizer.encode(texts, special=special), strict=True):
                    self._ids[text, special] = ids
        if self._parts:
            self._join_parts()
        if self._splits:
            self._splits = dict(zip(self._splits, self._tokenizer.encode_split(list(self._splits)), strict=True))

    def _join_parts(self) -> None:
        firsts, rests = (list(dict.fromkeys(parts)) for parts in zip(*self._parts.values(), strict=True))
        self._beginnings.add(firsts, self._tokenizer)
        rest_ids = dict(zip(rests, self._tokenizer.encode(rests, special=False), strict=True))
        for (text, special), (first, rest) in self._parts.items():
            before = self._tokenizer.prefix_ids if special else []
            self._ids[text, special] = before + self._beginnings[first] + rest_ids[rest]
        self._beginnings.forget_oldest()

    def split(self, context: str, continuation: str) -> tuple[Ids, Ids]:
        """The ids of a pair's two parts."""
        return self._splits[context, continuation]

    def packed(self, text: str, special: bool) -> array[int]:
        """The ids of a string that many prompts have, as requests hold them."""
        packed = self._packed.get((text, special))
        if packed is None:
            packed = self._packed[text, special] = array("i", self._ids[text, special])
        return packed

    def __getitem__(self, key: tuple[str, bool]) -> Ids:
        return self._ids[key]
