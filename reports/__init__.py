"""evalkit's reports."""
