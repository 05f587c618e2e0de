"""The native scorer: requests laid out as prefix trees, so that every shared token is computed once.

`layout` (numpy) decides what is computed together; `forward` (torch) computes it.
"""
