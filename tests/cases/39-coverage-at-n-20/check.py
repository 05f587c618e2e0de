"""`evalkit.statistics.estimates.estimate_ratio` on 800 samples of 20 documents whose lengths are log-normal (sigma 1.8) and who"""
import pathlib, sys
sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))
from models import *
import numpy as np
from evalkit.statistics import estimates
pop, rng = np.random.default_rng(7), np.random.default_rng(1)
b = np.exp(pop.normal(7, 1.8, 400_000)); num = b * np.exp(pop.normal(0, .5, 400_000)); truth = num.sum() / b.sum()
S, n, held = 800, 20, 0
for s in range(S):
    i = rng.integers(0, len(b), n); e = estimates.estimate_ratio(num[i], b[i]); held += e.low <= truth <= e.high
say(held / S >= 0.92, f"{held / S:.1%} of {S} intervals hold the truth, at least 92 % is right")
