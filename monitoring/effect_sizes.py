"""How far two samples are apart: Cliff's delta of numbers, total variation distance of categories.

Apart from `monitoring.comparison`, since Evidently takes seconds to import.
"""

from __future__ import annotations

import numpy as np
import pandas as pd
from scipy.stats import rankdata


def shift(reference: pd.Series, current: pd.Series) -> float:
    """How far two samples without missing values are apart: Cliff's delta of numbers, in [-1, 1]; total variation
    distance of categories, in [0, 1]."""
    if pd.api.types.is_numeric_dtype(reference):
        return cliffs_delta(reference.to_numpy(), current.to_numpy())
    before, after = shares(reference), shares(current)
    return sum(abs(after.get(key, 0) - before.get(key, 0)) for key in {*before, *after}) / 2


def cliffs_delta(reference: np.ndarray, current: np.ndarray) -> float:
    """P(current > reference) - P(current < reference) of two samples, from the ranks of the Mann-Whitney test."""
    ranks = rankdata(np.concatenate([current, reference]))[: len(current)]
    above = ranks.sum() - len(current) * (len(current) + 1) / 2
    return float(2 * above / (len(current) * len(reference)) - 1)


def shares(values: pd.Series) -> dict[str, float]:
    """The share of each category."""
    return {str(key): float(share) for key, share in values.value_counts(normalize=True).items()}
