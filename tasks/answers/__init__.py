"""Answers that models write: what of a text is the answer (`extract`), and whether it is right (`judge`)."""
