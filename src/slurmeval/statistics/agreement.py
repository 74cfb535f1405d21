"""How far raters agree: Krippendorff's alpha, kappa, Kendall's tau."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Literal

from slurmeval.statistics.bootstrap import percentiles, resampled

if TYPE_CHECKING:
    import numpy as np

    from slurmeval.statistics.intervals import Floats, Interval, Labels, Matrix

Level = Literal["nominal", "ordinal", "interval", "ratio"]


def krippendorff_alpha(ratings: Matrix, level: Level) -> float | None:
    """Returns Krippendorff's alpha; None: nothing was rated twice, or all ratings are the same.

    K. Krippendorff, Content Analysis (2004), chapter 11.

    Args:
        ratings: Of shape (raters, units); NaN where a rater did not rate a unit.
        level: What the values are: names, ranks, or numbers on an interval or ratio scale.
    """
    import numpy as np

    values, pairs = _coincidences(ratings)
    found = float(_alphas(pairs.sum(axis=0)[None], values, level)[0]) if len(values) else math.nan
    return None if np.isnan(found) else found


def alpha_interval(ratings: Matrix, level: Level, clusters: Labels | None = None) -> Interval | None:
    """Returns the 95 % interval of alpha, by a bootstrap over units; None: there is none.

    Units of one cluster (a question with several answers) are drawn together. The same data give the same
    interval. Resamples in which all ratings are the same say nothing and are left out.
    """
    import numpy as np

    values, pairs = _coincidences(ratings)
    if clusters is not None:
        names, numbers = np.unique(clusters, return_inverse=True)
        sums = np.zeros((len(names), *pairs.shape[1:]))
        np.add.at(sums, numbers, pairs)
        pairs = sums
    pairs = pairs[pairs.sum(axis=(1, 2)) > 0]
    if len(pairs) < 2:
        return None
    return percentiles(_alphas(resampled(pairs), values, level))


def _coincidences(ratings: Matrix) -> tuple[Floats, np.ndarray]:
    """Returns the values in use, and each unit's pairs of values, of shape (units, values, values)."""
    import numpy as np

    values = np.unique(ratings[~np.isnan(ratings)])
    counts = (ratings[:, :, None] == values).sum(axis=0).astype(float)
    rated = counts.sum(axis=1)
    pairs = counts[:, :, None] * counts[:, None, :]
    pairs[:, range(len(values)), range(len(values))] -= counts
    return values, pairs * np.where(rated > 1, 1 / np.maximum(rated - 1, 1), 0)[:, None, None]


def _alphas(pairs: np.ndarray, values: Floats, level: Level) -> Floats:
    """Returns alpha of each matrix of coincidences, shape (n, values, values); NaN: it is not defined."""
    import numpy as np

    totals = pairs.sum(axis=2)
    if level == "nominal":
        distances = np.broadcast_to(1.0 - np.eye(len(values)), pairs.shape)
    else:
        # An ordinal distance is that of the ranks' middles
        places = np.cumsum(totals, axis=1) - totals / 2 if level == "ordinal" else values[None]
        distances = (places[:, :, None] - places[:, None, :]) ** 2
        if level == "ratio":
            sums = places[:, :, None] + places[:, None, :]
            distances = distances / np.where(sums == 0, 1, sums) ** 2
    n = totals.sum(axis=1)
    observed = (pairs * distances).sum(axis=(1, 2))
    expected = (totals[:, :, None] * totals[:, None, :] * distances).sum(axis=(1, 2))
    defined = expected > 0
    return np.where(defined, 1 - (n - 1) * observed / np.where(defined, expected, 1), np.nan)


def cohen_kappa(table: Matrix, quadratic: bool = False) -> tuple[float, float] | None:
    """Returns Cohen's kappa of two raters and its standard error; None: it is not defined.

    J. Fleiss, J. Cohen, B. Everitt, Psychological Bulletin 72 (1969) 323.

    Args:
        table: How often the first rater gave value i and the second value j, shape (values, values).
        quadratic: Whether near values agree in part, as the square of their distance says.
    """
    import numpy as np

    n, size = float(table.sum()), len(table)
    if not n:
        return None
    shares = table / n
    rows, columns = shares.sum(axis=1), shares.sum(axis=0)
    places = np.arange(size)
    weights = np.eye(size)
    if quadratic:
        weights = 1 - (places[:, None] - places) ** 2 / max(1, size - 1) ** 2
    seen, expected = float((weights * shares).sum()), float((weights * np.outer(rows, columns)).sum())
    if expected >= 1:
        return None
    kappa = (seen - expected) / (1 - expected)
    means = (weights @ columns)[:, None] + (weights.T @ rows)[None]
    spread = float((shares * (weights - means * (1 - kappa)) ** 2).sum())
    variance = (spread - (kappa - expected * (1 - kappa)) ** 2) / (n * (1 - expected) ** 2)
    return kappa, math.sqrt(max(0.0, variance))


def fleiss_kappa(counts: Matrix) -> float | None:
    """Returns Fleiss' kappa of units that equally many raters rated; None: it is not defined.

    `counts`: how many raters gave unit i the value j, shape (units, values).
    """
    rated = counts.sum(axis=1)
    if not len(counts) or rated[0] < 2 or (rated != rated[0]).any():
        return None
    shares = counts.sum(axis=0) / counts.sum()
    seen = float(((counts**2).sum(axis=1) - rated).mean() / (rated[0] * (rated[0] - 1)))
    expected = float((shares**2).sum())
    return (seen - expected) / (1 - expected) if expected < 1 else None


def kendall_tau(a: Floats, b: Floats) -> float | None:
    """Returns Kendall's tau-b of two raters' values of the same units; None: one never varied."""
    import numpy as np

    signs_a, signs_b = np.sign(a[:, None] - a), np.sign(b[:, None] - b)
    untied = math.sqrt(float((signs_a**2).sum()) * float((signs_b**2).sum()))
    return float((signs_a * signs_b).sum()) / untied if untied else None
