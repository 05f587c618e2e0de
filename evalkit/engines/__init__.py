"""Engines turn requests into log-probabilities. The seam is `evalkit.engines.base.Engine`."""
