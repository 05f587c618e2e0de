"""evalkit's train."""
