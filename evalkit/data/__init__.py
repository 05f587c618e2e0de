"""Where documents come from: the offline bundle, the Hugging Face hub, or a person's own folder of files.

`open_source` chooses one of the three; `DataSet` names a data set in all of them. Nothing here imports ``datasets`` or
``pyarrow`` before a file is read.
"""

from evalkit.data.bundle import Bundle
from evalkit.data.fetch import caches, fetch_bundle, remove_cache
from evalkit.data.sources import DataSet, Source, open_source

__all__ = ["Bundle", "DataSet", "Source", "caches", "fetch_bundle", "open_source", "remove_cache"]
