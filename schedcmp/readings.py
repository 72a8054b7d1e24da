"""How to read the numbers that are measured of images. No torch here, and nothing that measures."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

NOTE = "metrics"  # the name under which the store keeps how to read a run's numbers


@dataclass(frozen=True, slots=True)
class Reading:
    """How to read a number that was measured of images."""

    name: str
    label: str
    brief: str
    higher: bool | None = True  # more is better; None: neither end is
    ratio: bool = False  # compared as ratios
    unit: str = ""
    decides: bool = True  # an answer may go by it without being asked to

    @property
    def title(self) -> str:
        """The label with its unit, for an axis."""
        return f"{self.label} ({self.unit})" if self.unit else self.label


# Of the distance to the converged image, which is measured for whole tasks, see `truth.metrics`
CONVERGED = (
    Reading("reference_rmse", "RMSE to the converged image", "RMSE", False, True, "standard deviations"),
    Reading("reference_psnr_db", "PSNR to the converged image", "PSNR", unit="dB"),
    Reading("reference_ssim", "SSIM to the converged image", "SSIM"),
)


def readings(noted: Iterable[Mapping[str, Any]] | None) -> dict[str, Reading]:
    """By name, the most telling first: those of the converged image, and what a run's store says of others."""
    known = {field.name for field in fields(Reading)}
    others = (Reading(**{name: value for name, value in row.items() if name in known}) for row in noted or ())
    return {reading.name: reading for reading in (*CONVERGED, *others)}


def noted(found: Iterable[Reading]) -> list[dict[str, Any]]:
    """For the store."""
    return [asdict(reading) for reading in found]
