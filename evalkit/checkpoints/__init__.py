"""Model names to checkpoints on disk: resolving, revisions, fingerprints, the hub, and a person's own names."""
