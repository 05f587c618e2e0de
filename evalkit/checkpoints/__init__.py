"""Resolves model names to checkpoints on disk: revisions, fingerprints, the hub, and user-registered models."""
