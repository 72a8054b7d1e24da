"""CFG++ with a history of slopes."""

from __future__ import annotations

from schedcmp.samplers.common import Descent, solver


@solver(needs_unconditional=True)
def cfgpp_ud10_ab(
    way: Descent, *, history: float = 0.25, unconditional_history: float = 0.1, to_zero: float = 1.0
) -> None:
    """CFG++ (Chung et al. 2024) with memories, as ComfyUI has it; no paper defines it.

    The noise without guidance is extrapolated by the part `unconditional_history` to the end of the step; so much as
    `history` of the step is the two-step Adams-Bashforth method's; and the last estimate is, by the part `to_zero`, the
    line through the last two estimates, at sigma 0.
    """
    last_slope = last_noise = last_denoised = None
    before = 0.0
    for x, sigma, to in way.steps():
        denoised = way.denoise(x, sigma)
        ahead = noise = (x - way.model.unconditional) / sigma
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
        way.go(x)
