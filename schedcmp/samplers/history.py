"""CFG++ with a history of slopes."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from schedcmp.samplers.common import denoise, steps
from schedcmp.samplers.contract import needs_unconditional


@needs_unconditional
def cfgpp_ud10_ab(
    model: Any,
    x: Tensor,
    sigmas: Tensor,
    *,
    history: float = 0.25,
    unconditional_history: float = 0.1,
    to_zero: float = 1.0,
) -> Tensor:
    """CFG++ (Chung et al. 2024) with memories, as ComfyUI has it; no paper defines it.

    The noise without guidance is extrapolated by the part `unconditional_history` to the end of the step; so much as
    `history` of the step is the two-step Adams-Bashforth method's; and the last estimate is, by the part `to_zero`, the
    line through the last two estimates, at sigma 0.
    """
    last_slope = last_noise = last_denoised = None
    before = 0.0
    for sigma, to in steps(sigmas):
        denoised = denoise(model, x, sigma)
        ahead = noise = (x - model.unconditional) / sigma
        if last_noise is not None:
            ahead = noise + unconditional_history * (to - sigma) / (sigma - before) * (noise - last_noise)
        slope = (denoised + to * ahead - x) / (to - sigma)
        if last_slope is not None:
            x = x + (to - sigma) * (slope + history * (to - sigma) / (2 * (sigma - before)) * (slope - last_slope))
        else:
            x = x + (to - sigma) * slope
        if to == 0 and last_denoised is not None:
            line = denoised - sigma * (denoised - last_denoised) / (sigma - before)
            x = x + to_zero * (line - x)
        last_slope, last_noise, last_denoised, before = slope, noise, denoised, sigma
    return x
