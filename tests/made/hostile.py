"""A name that would break HTML, JSON, LaTeX, Markdown, CSV or a terminal if one of them did not escape it."""

from __future__ import annotations

HOSTILE = "<script>alert(1)</script>|\"'&amp;\u202egnp\x1b[31m\ud800_{}$^~#%\\=*`[x](y)中"
