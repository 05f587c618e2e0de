"""The folders for user data (registered models) and for caches."""

from __future__ import annotations

import os
from pathlib import Path


def home() -> Path:
    """The folder for user data such as registered models: ``$EVALKIT_HOME``, else the platform's data folder."""
    if folder := os.environ.get("EVALKIT_HOME"):
        return Path(folder).expanduser()
    import platformdirs

    return platformdirs.user_data_path("evalkit", appauthor=False)


def cache() -> Path:
    """The folder for what can be downloaded or computed again: ``$EVALKIT_HOME/cache``, else the platform's cache folder."""
    if os.environ.get("EVALKIT_HOME"):
        return home() / "cache"
    import platformdirs

    return platformdirs.user_cache_path("evalkit", appauthor=False)
