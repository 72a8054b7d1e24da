"""Numbers for people, the same in every table, grid, plot and sentence; the page's own are in `assets/format.js`."""

from __future__ import annotations

NONE = "–"


def seconds(value: float | None) -> str:
    """Three digits and a fitting unit: "1.23 s", "45.6 ms", "–" for None."""
    if value is None:
        return NONE
    rounded = float(f"{value:.3g}")
    if rounded >= 1000:
        return f"{value:.0f} s"
    size, unit = (1.0, "s") if rounded >= 1 else (1e-3, "ms") if rounded >= 1e-3 else (1e-6, "µs")
    return f"{value / size:.3g} {unit}"


def mebibytes(value: int | None) -> str:
    return NONE if value is None else f"{value / 2**20:,.0f} MiB"
