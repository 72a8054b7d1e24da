"""Noise levels against steps: what a sigma schedule does, at a glance."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any

from schedcmp.drawing import COLOURS, figure, rendered
from schedcmp.errors import RegistryError
from schedcmp.registry.build import resolve
from schedcmp.registry.entry import DEFAULT_SIGMAS, Entry, SigmaSchedule
from schedcmp.registry.preflight import preflight

_COMPARED = ("karras", "exponential", "sgm-uniform", "beta-timesteps", "kl-optimal", "ays")


def sigma_curves(
    entry: Entry, schedules: Mapping[str, SigmaSchedule], scheduler_config: Mapping[str, Any], steps: int
) -> dict[str, tuple[float, ...]]:
    """The positive noise levels of an entry as it is, and on the sigma schedules that it can take, by name.

    Raises:
        RegistryError: the entry keeps no sigmas.
    """
    curves: dict[str, tuple[float, ...]] = {}
    for name in (DEFAULT_SIGMAS, *_COMPARED):
        variant = entry.with_sigmas(schedules[name])
        if name != DEFAULT_SIGMAS and variant == entry:
            continue
        with suppress(RegistryError):
            if sigmas := preflight(resolve(variant, scheduler_config), steps).sigmas:
                curves[variant.name] = tuple(s for s in dict.fromkeys(sigmas) if s > 0)
    if not curves:
        raise RegistryError(f"{entry.name}: {entry.class_name} keeps no sigmas that could be drawn")
    return curves


def sigma_plot(curves: Mapping[str, Sequence[float]], title: str, file_format: str) -> bytes:
    """Noise levels on a logarithmic axis, a line for each schedule; the final 0 is not on it."""
    fig = figure(7.5, 5, title)
    ax = fig.subplots()
    for (name, sigmas), colour in zip(curves.items(), (COLOURS[-1], *COLOURS), strict=False):
        ax.plot(range(len(sigmas)), sigmas, color=colour, marker=".", linewidth=1.2, label=name)
    ax.set(yscale="log", xlabel="step", ylabel="noise level σ")
    ax.locator_params(axis="x", integer=True)
    ax.spines[["top", "right"]].set_visible(False)
    ax.legend(frameon=False)
    return rendered(fig, file_format)
