"""Writes run folders, reads them, and displays them in notebooks."""
