"""From a made image to the bytes of its file, and which latents are worth keeping."""

from __future__ import annotations

from dataclasses import asdict, replace

from schedcmp.pictures.image import encode_png, fingerprint
from schedcmp.pictures.video import encode_webp
from schedcmp.prepare import Prepared
from schedcmp.records import Cell, CellResult
from schedcmp.report.paste.infotext import a1111_parameters


def encoded(prepared: Prepared, result: CellResult) -> CellResult:
    """The result as it is stored: with a file that says how it was made, and latents only if a reference needs them."""
    result = replace(result, latents=result.latents if wants_latents(prepared, result.cell) else None)
    if not result.pictures:
        return result
    return replace(result, pictures=(), file=_file(prepared, result), fingerprint=fingerprint(*result.pictures))


def wants_latents(prepared: Prepared, cell: Cell) -> bool:
    """Whether a cell is compared with a reference, or is one."""
    found, name = prepared.references, cell.scheduler
    return found is not None and (name in found.trajectories or name in found.comparable)


def _file(prepared: Prepared, result: CellResult) -> bytes:
    cell, environment = result.cell, prepared.origin.environment
    entry = prepared.all_recipes[cell.scheduler].entry
    parameters = a1111_parameters(
        cell,
        entry,
        result.scheduler_config,
        result.pictures[0].size,
        model=environment["checkpoint"],
        generator=environment["device"] if prepared.sweep.generator == "device" else "cpu",
    )
    settings = {
        "cell": asdict(cell),
        "class": entry.cls,
        "scheduler_config": result.scheduler_config,
        "timesteps": result.timesteps,
        "nfe": result.nfe,
        "generator": prepared.sweep.generator,
        "environment": environment,
    }
    if result.fps is None:
        return encode_png(result.pictures[0], settings, parameters)
    return encode_webp(result.pictures, settings, parameters, result.fps)
