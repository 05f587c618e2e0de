"""Where evalkit keeps a person's things: the registry of models, and what can be fetched again."""

from __future__ import annotations

import os
from pathlib import Path


def home() -> Path:
    """The folder of what a person made (registered models): ``$EVALKIT_HOME``, else the platform's data folder."""
    if chosen := os.environ.get("EVALKIT_HOME"):
        return Path(chosen).expanduser()
    import platformdirs

    return platformdirs.user_data_path("evalkit", appauthor=False)


def cache() -> Path:
    """The folder of what can be fetched again: ``$EVALKIT_HOME/cache``, else the platform's cache folder."""
    if os.environ.get("EVALKIT_HOME"):
        return home() / "cache"
    import platformdirs

    return platformdirs.user_cache_path("evalkit", appauthor=False)
