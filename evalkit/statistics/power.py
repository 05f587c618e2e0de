"""What a test can find: the smallest true difference that it finds with a power of 80 %, at the level that counts.

Where one test of many decides, the level is that of Holm's first step, ``alpha / m``. A test that cannot reach it, whatever
the data (an exact test of five documents has no p below 1/16), finds nothing: the effect is then infinite.
"""

from __future__ import annotations

import math
from functools import lru_cache

import numpy as np

from evalkit.statistics.jackknife import Floats, t_quantile

POWER = 0.8
"""Power that defines the minimum detectable effect (Bloom 1995, Evaluation Review 19; Miller 2024, section 5)."""
_STEPS = 16


def detectable_difference(stderr: float, df: float, alpha: float) -> float:
    """Of Student's t with this standard error: ``nc · stderr`` with `nc` the noncentrality that the two-sided test at `alpha`
    finds with `POWER`. NaN if no document changed, since then nothing is known about their variance."""
    from scipy.special import nctdtr

    if not df > 0 or not stderr > 0:
        return math.nan
    critical = float(t_quantile(1 - alpha / 2, df))
    if df > 1000:  # normal to three digits
        return (critical + float(t_quantile(POWER, df))) * stderr
    low, high = 0.0, 4.0 * critical + 10.0
    for _ in range(2 * _STEPS):
        middle = (low + high) / 2
        low, high = (middle, high) if nctdtr(df, middle, critical) > 1 - POWER else (low, middle)
    return high * stderr


def detectable_rate(n: int, discordant: float, alpha: float) -> float:
    """Of McNemar's exact test of `n` documents, of which the share `discordant` answers differently in two equal runs.

    A difference larger than that share needs as many discordant documents as itself. Infinite where even ``n`` documents
    that all move one way do not reach `alpha`.
    """
    if mcnemar_power(n, max(discordant, 1.0), 1.0, alpha) < POWER:
        return math.inf
    low, high = 0.0, 1.0
    for _ in range(_STEPS):
        middle = (low + high) / 2
        found = mcnemar_power(n, max(discordant, middle), middle, alpha)
        low, high = (low, middle) if found >= POWER else (middle, high)
    return high


def mcnemar_power(n: int, discordant: float, difference: float, alpha: float) -> float:
    """Probability that McNemar's exact two-sided test at `alpha` finds a true `difference` in the right direction; each of `n`
    documents is discordant with probability `discordant`."""
    from scipy.special import bdtr, gammaln, xlog1py, xlogy

    width = 8 * math.sqrt(n * discordant * (1 - discordant)) + 1
    first, last = max(1, math.floor(n * discordant - width)), min(n, math.ceil(n * discordant + width))
    counts = np.arange(first, last + 1)
    logs = gammaln(n + 1) - gammaln(counts + 1) - gammaln(n - counts + 1)
    shares: Floats = np.exp(logs + xlogy(counts, discordant) + xlog1py(n - counts, -discordant))
    most = _most_against(n, alpha)[first : last + 1]
    against = max(0.0, (discordant - difference) / (2 * discordant)) if discordant > 0 else 0.5
    return float((shares * np.where(most >= 0, bdtr(np.maximum(most, 0), counts, against), 0.0)).sum())


@lru_cache(maxsize=64)
def _most_against(n: int, alpha: float) -> Floats:
    """How many of 0 … `n` discordant documents may be against the difference while the test still rejects; −1: not even none."""
    from scipy.special import bdtr, bdtrik

    counts = np.maximum(np.arange(n + 1), 1)
    most = np.floor(np.nan_to_num(bdtrik(alpha / 2, counts, 0.5), nan=-1.0) + 1e-9)
    rejects = (most >= 0) & (2 * bdtr(np.maximum(most, 0), counts, 0.5) <= alpha)
    return np.asarray(np.where(rejects, most, -1.0))
