"""Run folders: written, read, and shown in a notebook."""
