"""evalkit's domains."""
