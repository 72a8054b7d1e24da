"""The images of a sweep, and what the pipeline's call is given of them for a cell."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from io import BytesIO
from pathlib import Path
from typing import Any

from schedcmp.checkpoint.elsewhere import controlnet
from schedcmp.checkpoint.given import Given
from schedcmp.checkpoint.source import Checkpoint, with_part
from schedcmp.errors import CheckpointError, SweepError
from schedcmp.inputs.pictures import Picture, pictures_of
from schedcmp.pipelines.beginning import default_strength
from schedcmp.pipelines.tasks import argument_names, task_pipeline
from schedcmp.records import Cell
from schedcmp.sweep.document import Sweep
from schedcmp.sweep.keys import FILES
from schedcmp.sweep.source import Source

_ALIKE = 0.01  # of proportions: what rounding to whole pixels may change


@dataclass(frozen=True)
class Inputs:
    """A sweep's images, read once, and the sweep and checkpoint as they are with them."""

    sweep: Sweep  # its images by token, its strength said
    checkpoint: Checkpoint  # as the pipeline of the task
    pictures: Mapping[str, Picture] = field(default_factory=dict)  # by token
    written: Mapping[str, tuple[str, ...]] = field(default_factory=dict)  # by key: the files, from any folder

    @property
    def arguments(self) -> frozenset[str]:
        """Those of the pipeline's call that are images."""
        names = argument_names(self.checkpoint.pipeline_class)
        return frozenset(names[key] for key in self.written)

    def of(self, cell: Cell) -> dict[str, Any]:
        """A cell's arguments of the call that are images, at its size. Raises ValueError if a file has changed."""
        names, size = argument_names(self.checkpoint.pipeline_class), self._size(cell)
        return {names[key]: self.pictures[token].at(size, mask=key == "mask") for key, token in cell.images.items()}

    def shown(self) -> Iterator[tuple[str, bytes]]:
        """Each image, small, as a PNG file by its token. Raises SweepError if a file has changed."""
        for token, picture in self.pictures.items():
            buffer = BytesIO()
            try:
                picture.small().save(buffer, "PNG")
            except ValueError as error:
                raise SweepError(str(error)) from error
            yield token, buffer.getvalue()

    def refuse_other_masks(self, cells: Iterable[Cell], source: Source) -> None:
        """Raises SweepError for a mask that does not lie over its image."""
        pairs = {(cell.init_image, cell.mask): None for cell in cells if cell.mask}
        for image, mask in ((self.pictures[one], self.pictures[other]) for one, other in pairs):
            if not _alike(image.size, mask.size):
                raise SweepError(
                    f"{source.at('mask')}: {mask.path} ({_shown(mask)}) has other proportions than"
                    f" {image.path} ({_shown(image)}); give a mask of the image's size"
                )

    def _size(self, cell: Cell) -> tuple[int | None, int | None]:
        return (cell.width, cell.height) if cell.width else (self.checkpoint.width, self.checkpoint.height)


def inputs_of(sweep: Sweep, source: Source, checkpoint: Checkpoint) -> Inputs:
    """Read a sweep's images, and choose the pipeline that takes them.

    Raises:
        SweepError: with file:line and key: a file is missing or no image, or no pipeline takes what is given.
    """
    if sweep.controlnet:
        checkpoint = _led(checkpoint, sweep.controlnet, source)
    found = {key: _read(key, files, source) for key in FILES if (files := getattr(sweep, key))}
    if not found and not sweep.controlnet and not sweep.strength:
        return Inputs(sweep, checkpoint)
    try:
        pipeline = task_pipeline(checkpoint.pipeline_class, [*found], controlnet=sweep.controlnet is not None)
    except ValueError as error:
        key = str(error).partition(":")[0]
        raise SweepError(f"{source.where((key,))}: {error}") from error
    strength = default_strength(pipeline)
    if sweep.strength and strength is None:
        told = f"{pipeline} begins with noise alone, and takes none; add `image`, or leave it out"
        raise SweepError(f"{source.at('strength')}: {told}")
    update: dict[str, Any] = {key: tuple(p.token for p in pictures) for key, pictures in found.items()}
    update |= {"strength": (strength,)} if strength is not None and not sweep.strength else {}
    named = sweep.model_copy(update=update)
    if why := named.uneven_zip():
        raise SweepError(f"{source.where(('zip',))}: {why}")
    return Inputs(
        named,
        replace(checkpoint, pipeline_class=pipeline),
        {picture.token: picture for pictures in found.values() for picture in pictures},
        {key: tuple(str(p.path.absolute()) for p in pictures) for key, pictures in found.items()},
    )


def _led(checkpoint: Checkpoint, name: str, source: Source) -> Checkpoint:
    where = source.where(("controlnet",))
    if isinstance(checkpoint, Given):
        raise SweepError(f"{where}: controlnet: give one to the pipeline that a program has made; leave it out here")
    if (checkpoint.config_folder / "controlnet/config.json").is_file():
        raise SweepError(f"{where}: controlnet: {checkpoint.name} has one of its own; leave it out")
    try:
        return with_part(checkpoint, controlnet(name))
    except CheckpointError as error:
        raise CheckpointError(f"{where}: {error}") from error


def _read(key: str, names: Iterable[str], source: Source) -> list[Picture]:
    folder = Path(source.name).parent
    found: dict[str, Picture] = {}
    for i, name in enumerate(names):
        try:
            for picture in pictures_of(name, folder):
                if other := found.get(picture.token.rpartition("@")[2]):
                    raise ValueError(f"{picture.path} is the same image as {other.path}; remove one of the two")
                found[picture.token.rpartition("@")[2]] = picture
        except ValueError as error:
            raise SweepError(f"{source.at(key, i)}: {error}") from error
    return [*found.values()]


def _shown(picture: Picture) -> str:
    return "{} × {}".format(*picture.size)


def _alike(one: tuple[int, int], other: tuple[int, int]) -> bool:
    return abs(one[0] * other[1] / (one[1] * other[0]) - 1) <= _ALIKE
