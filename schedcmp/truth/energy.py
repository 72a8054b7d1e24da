"""How far two distributions are apart, from samples of both: the energy distance, without bias and with its spread.

Schedulers that draw noise head for no image of their own, but, like all others, for the images that the checkpoint
makes of a prompt. The converged images of many seeds are a sample of these, so a scheduler's images can be compared
with them as a whole.

The energy distance 2 E|X - Y| - E|X - X'| - E|Y - Y'| (Székely and Rizzo 2013, doi:10.1016/j.jspi.2013.03.018) is 0 for
equal distributions and for no others. Here image and converged image of one seed begin with the same noise, so they are
no independent draws; without the terms within a seed the mean over pairs of seeds is still without bias, however they
depend on each other (a U-statistic; Gretton et al. 2012, lemma 6, for a kernel).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

FEWEST_SEEDS = 8  # below, intervals are wider than anything that is to be told apart


def energy_shares(made: Floats, converged: Floats) -> Floats:
    """(n,): what each seed has in the distance; their mean is the distance, their scatter says how sure it is.

    They are the jackknife's pseudo-values (Efron and Stein 1981): n times the distance of all less n - 1 times that
    without the seed. In units of the mean distance of two converged images: a shift of all images by the share s of
    their spread costs about s²/2, images of nothing but one value 1.

    Args:
        made: (n, d), a row for each of n ≥ 3 seeds.
        converged: (n, d), of the same seeds.

    Raises:
        ValueError: fewer than three seeds, or converged images that are all equal: they have no spread to measure by.
    """
    n = len(made)
    if n < 3:
        raise ValueError("an energy distance with its spread takes three seeds at least")
    across, among = _distances(made, converged), _distances(converged, converged)
    unit = float(among.sum()) / (n * (n - 1))
    if not unit:
        raise ValueError("the converged images are all equal")
    terms = across + across.T - _distances(made, made) - among
    np.fill_diagonal(terms, 0)
    rows = terms.sum(axis=1)
    return np.asarray((2 * rows - rows.sum() / (n - 1)) / ((n - 2) * unit))


def _distances(a: Floats, b: Floats) -> Floats:
    """(n, m), Euclidean."""
    from scipy.spatial.distance import cdist

    return np.asarray(cdist(a, b))
