"""How far two sets of images are apart in a model's embeddings."""

from __future__ import annotations

import numpy as np

from schedcmp.metrics.clip_model import Features

_BANDWIDTH, _SCALE = 10.0, 1000.0  # Jayasumana et al. 2024


def cmmd(made: Features, real: Features) -> float:
    """CLIP maximum mean discrepancy (Jayasumana et al. 2024, arXiv:2401.09603): 1000 times the unbiased estimate of the
    squared MMD with a Gaussian kernel of σ 10. 0 for two samples of one distribution, give or take chance.

    Needs two images of each at least.
    """
    return _SCALE * (_off_diagonal_mean(made) + _off_diagonal_mean(real) - 2 * float(_kernel(made, real).mean()))


def _kernel(x: Features, y: Features) -> Features:
    squared = (x**2).sum(1)[:, None] + (y**2).sum(1) - 2 * x @ y.T
    kernel: Features = np.exp(-squared / (2 * _BANDWIDTH**2))
    return kernel


def _off_diagonal_mean(x: Features) -> float:
    n = len(x)
    return (float(_kernel(x, x).sum()) - n) / (n * (n - 1))
