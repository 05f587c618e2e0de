"""The native scorer: requests laid out as prefix trees, so that shared tokens are computed once.

`layout` (numpy) decides what is computed together; `forward` (torch) computes it.
"""
