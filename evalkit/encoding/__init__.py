"""Strings to token ids: the split of context and continuation, prefix tokens, windows, tokenizers."""
