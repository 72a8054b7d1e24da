"""The images of a sweep, and what the pipeline's call is given of them for a cell."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from io import BytesIO
from pathlib import Path
from typing import Any

from schedcmp.checkpoint.elsewhere import controlnet
from schedcmp.checkpoint.given import Given
from schedcmp.checkpoint.ip_adapter import with_ip_adapter
from schedcmp.checkpoint.source import Checkpoint, with_part
from schedcmp.errors import CheckpointError, SweepError, raised_as
from schedcmp.inputs.earlier import pictures_of_run
from schedcmp.inputs.pictures import Picture, pictures_of
from schedcmp.pipelines.adapters import no_ip_adapter
from schedcmp.pipelines.beginning import default_strength
from schedcmp.pipelines.tasks import argument_names, leads_by_mask, task_pipeline, unfit_controlnet
from schedcmp.records import Cell
from schedcmp.sweep.document import Sweep
from schedcmp.sweep.keys import FILES, SEEN, OfRun
from schedcmp.sweep.source import Source

_EXTRA_CHANNELS = ("extra_conditioning_channels", "extra_condition_channels")  # of a ControlNet that sees a mask
_ALIKE = 0.01  # of proportions: what rounding to whole pixels may change


@dataclass(frozen=True)
class Inputs:
    """A sweep's images, read once, and the sweep and checkpoint as they are with them."""

    sweep: Sweep  # its images by token, its strength said
    checkpoint: Checkpoint  # as the pipeline of the task
    pictures: Mapping[str, Picture] = field(default_factory=dict)  # by token
    written: Mapping[str, tuple[str | OfRun, ...]] = field(default_factory=dict)  # by key, as from any folder

    @property
    def arguments(self) -> frozenset[str]:
        """Those of the pipeline's call that are images."""
        names = argument_names(self.checkpoint.pipeline_class)
        return frozenset(names[key] for key in self.written)

    def of(self, cell: Cell) -> dict[str, Any]:
        """A cell's arguments of the call that are images, at its size. Raises ValueError if a file has changed."""
        names, size = argument_names(self.checkpoint.pipeline_class), self._size(cell)
        given = {key: self.pictures[token] for key, token in cell.images.items()}
        return {
            names[key]: one.at((None, None) if key == SEEN else size, mask=key == "mask") for key, one in given.items()
        }

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
    checkpoint = _seeing(checkpoint, sweep, source)
    read = {key: _read(key, files, source) for key in FILES if (files := getattr(sweep, key))}
    found = {key: [picture for pictures, _ in read[key] for picture in pictures] for key in read}
    if not found and not sweep.controlnet and not sweep.strength:
        return Inputs(sweep, checkpoint)
    try:
        cls = str(checkpoint.config("controlnet").get("_class_name")) if sweep.controlnet else ""
        pipeline = task_pipeline(checkpoint.pipeline_class, [key for key in found if key != SEEN], controlnet=cls)
    except ValueError as error:
        key = str(error).partition(":")[0]
        raise SweepError(f"{source.where((key,))}: {error}") from error
    _refuse_unseeing(pipeline, sweep, source)
    _refuse_other_controlnet(checkpoint, pipeline, sweep, source)
    strength = default_strength(pipeline)
    if sweep.strength and strength is None:
        told = f"{pipeline} begins with noise alone, and takes none; add `image`, or leave it out"
        raise SweepError(f"{source.at('strength')}: {told}")
    update: dict[str, Any] = {key: tuple(p.token for p in pictures) for key, pictures in found.items()}
    update |= {"strength": (strength,)} if strength is not None and not sweep.strength else {}
    update |= {"ip_adapter_scale": (1.0,)} if sweep.ip_adapter and not sweep.ip_adapter_scale else {}
    named = sweep.model_copy(update=update)
    if why := named.uneven_zip():
        raise SweepError(f"{source.where(('zip',))}: {why}")
    return Inputs(
        named,
        replace(checkpoint, pipeline_class=pipeline),
        {picture.token: picture for pictures in found.values() for picture in pictures},
        {key: tuple(name for _, names in read[key] for name in names) for key in read},
    )


def _led(checkpoint: Checkpoint, name: str, source: Source) -> Checkpoint:
    where = source.where(("controlnet",))
    if isinstance(checkpoint, Given):
        raise SweepError(f"{where}: controlnet: give one to the pipeline that a program has made; leave it out here")
    if (checkpoint.config_folder / "controlnet/config.json").is_file():
        raise SweepError(f"{where}: controlnet: {checkpoint.name} has one of its own; leave it out")
    with raised_as(CheckpointError, where, CheckpointError):
        return with_part(checkpoint, controlnet(name))


def _seeing(checkpoint: Checkpoint, sweep: Sweep, source: Source) -> Checkpoint:
    """The checkpoint with the sweep's IP-Adapter, if it has one.

    Raises:
        SweepError: with file:line: it cannot have one, or adapter and image do not go together.
        CheckpointError: likewise: the adapter is not there, or does not fit.
    """
    if not sweep.ip_adapter:
        _refuse_alone(checkpoint, sweep, source)
        return checkpoint
    _refuse_unseeing(checkpoint.pipeline_class, sweep, source)
    where = source.where(("ip_adapter",))
    if isinstance(checkpoint, Given):
        raise SweepError(f"{where}: ip_adapter: load it into the pipeline that a program has made; leave it out here")
    if not sweep.ip_adapter_image:
        raise SweepError(f"{where}: ip_adapter: sees an image, and there is none; add `{SEEN}`")
    with raised_as(CheckpointError, f"{where}: ip_adapter", CheckpointError):
        return with_ip_adapter(checkpoint, sweep.ip_adapter.path, sweep.ip_adapter.image_encoder)


def _refuse_unseeing(pipeline: str, sweep: Sweep, source: Source) -> None:
    """Raises SweepError for a pipeline that loads no such adapter."""
    if sweep.ip_adapter and (why := no_ip_adapter(pipeline)):
        raise SweepError(f"{source.at('ip_adapter')}: {why}; leave it out")


def _refuse_alone(checkpoint: Checkpoint, sweep: Sweep, source: Source) -> None:
    """What an adapter is missing for; a pipeline that a program has made may have one."""
    has_one = isinstance(checkpoint, Given) and checkpoint.config("unet").get("encoder_hid_dim_type") == "ip_image_proj"
    for key in (SEEN, "ip_adapter_scale"):
        if getattr(sweep, key) and not (has_one and key == SEEN):
            told = f"{key}: there is no IP-Adapter that it could be for; add `ip_adapter`, or leave it out"
            raise SweepError(f"{source.where((key,))}: {told}")


def _refuse_other_controlnet(checkpoint: Checkpoint, pipeline: str, sweep: Sweep, source: Source) -> None:
    """Raises SweepError for one of another family, or that sees a mask where there is none, or the other way round."""
    config = checkpoint.config("controlnet")
    if why := unfit_controlnet(pipeline, checkpoint.config, sweep.call):
        where = source.at("controlnet" if sweep.controlnet else "model")
        raise SweepError(f"{where}: {sweep.controlnet or 'its ControlNet'} {why}")
    known = [config[name] for name in _EXTRA_CHANNELS if name in config]
    if known and bool(known[0]) != leads_by_mask(pipeline):
        told = "sees an image and its mask; give these as `image` and `mask`, and no `control_image`"
        plain = "sees an image alone, and no mask; give that as `control_image`, without `image` and `mask`"
        raise SweepError(f"{source.at('controlnet')}: {told if known[0] else plain}")


def _read(
    key: str, items: Iterable[str | OfRun], source: Source
) -> list[tuple[list[Picture], tuple[str | OfRun, ...]]]:
    """Of each item its pictures, and what names them from any folder."""
    folder = Path(source.name).parent
    read: list[tuple[list[Picture], tuple[str | OfRun, ...]]] = []
    found: dict[str, Picture] = {}
    for i, item in enumerate(items):
        with raised_as(SweepError, source.at(key, i), ValueError):
            if isinstance(item, OfRun):
                pictures, again = pictures_of_run(item, folder)
                read.append((pictures, (again,)))
            else:
                pictures = [*pictures_of(item, folder)]
                read.append((pictures, tuple(str(picture.path.absolute()) for picture in pictures)))
            for picture in pictures:
                mark = picture.token if isinstance(item, OfRun) else picture.token.rpartition("@")[2]
                if other := found.get(mark):
                    raise ValueError(f"{picture.path} is the same image as {other.path}; remove one of the two")
                found[mark] = picture
    return read


def _shown(picture: Picture) -> str:
    return "{} × {}".format(*picture.size)


def _alike(one: tuple[int, int], other: tuple[int, int]) -> bool:
    return abs(one[0] * other[1] / (one[1] * other[0]) - 1) <= _ALIKE
