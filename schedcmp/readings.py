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
    whole: bool = False  # of all images of a scheduler together: a cell has its seed's share, whose mean is the number
    near: float | None = None  # what is near enough to converged, where the metric says how far from that an image is

    @property
    def title(self) -> str:
        """The label with its unit, for an axis."""
        return f"{self.label} ({self.unit})" if self.unit else self.label


ENERGY = "energy_distance"
# Of the distance to the converged image, see `truth.metrics`, and of all images to all such, see `metrics.energy`
CONVERGED = (
    Reading("reference_rmse", "RMSE to the converged image", "RMSE", False, True, "standard deviations", near=0.1),
    Reading("reference_psnr_db", "PSNR to the converged image", "PSNR", unit="dB"),
    Reading("reference_ssim", "SSIM to the converged image", "SSIM"),
    Reading(ENERGY, "energy distance to the converged images", "energy distance", False, whole=True, near=0.02),
)


def readings(noted: Iterable[Mapping[str, Any]] | None) -> dict[str, Reading]:
    """By name, the most telling first: those of the converged image, and what a run's store says of others."""
    known = {field.name for field in fields(Reading)}
    others = (Reading(**{name: value for name, value in row.items() if name in known}) for row in noted or ())
    return {reading.name: reading for reading in (*CONVERGED, *others)}


def noted(found: Iterable[Reading]) -> list[dict[str, Any]]:
    """For the store."""
    return [asdict(reading) for reading in found]
