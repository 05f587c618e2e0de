"""Sources of documents: the offline bundle, the Hugging Face hub, or a user's folder of files.

`open_source` opens one of the three; a `DataSet` has its name in each of them. ``datasets`` and ``pyarrow`` are imported
only when a file is read.
"""

from evalkit.data.bundle import Bundle
from evalkit.data.fetch import caches, fetch_bundle, remove_cache
from evalkit.data.sources import DataSet, Source, open_source

__all__ = ["Bundle", "DataSet", "Source", "caches", "fetch_bundle", "open_source", "remove_cache"]
