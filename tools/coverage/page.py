"""docs/pipelines.md, from what was measured."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from schedcmp.pipelines.inputs import unfit
from schedcmp.pipelines.source import pipeline_file, pipeline_source
from tools.coverage.families import FAMILIES
from tools.coverage.families.videos import VIDEOS
from tools.coverage.measure import Row, code_state

_HEAD = """\
# Pipelines

Made by `make coverage` with diffusers {diffusers}, transformers {transformers} and torch {torch}; do not edit. Each
row is a checkpoint of that pipeline class with random weights, as small as the class allows, loaded from its folder
like any other.

* **own scheduler**: the checkpoint's, and its cells that gave an image, each alone (two seeds, two numbers of steps).
* **= diffusers**: of these, those with the same pixels, bit for bit, as the pipeline's own call with its own scheduler.
* **NFE**: of these, those with as many evaluations of the denoiser as `schedcmp check` plans.
* **packs**: cells to one call of the denoiser, its own scheduler beside up to three others; 1 is one by one.
* **levels**: the largest difference of these from the cells alone, in levels of 255.
* **ok**: schedulers that `schedcmp list-compatible` calls ok, of all there are.
* **`"*"`**: cells of `schedulers: "*"` that gave an image, of those planned.
* **packages**: what the class needs beside schedcmp's own dependencies.
"""
_VIDEOS = "Likewise, of five frames or a few more; equal are all of them, and a difference is the largest of any."
_EDITS = "edits an image, though its call has a default for it"
_DISCRETE = "predicts tokens and not noise, with a scheduler of its own that no other can stand for"
_BOXES = "needs boxes and what is in them"
_LOST = "diffusers cannot load what it saves (it has no {})"
_NOT_BUILT = {
    "AmusedPipeline": _DISCRETE,
    "VQDiffusionPipeline": _DISCRETE,
    "AltDiffusionPipeline": _LOST.format("RobertaSeriesModelWithTransformation"),
    "UnCLIPPipeline": _LOST.format("UnCLIPTextProjModel"),
    "VersatileDiffusionTextToImagePipeline": _LOST.format("UNetFlatConditionModel"),
    "WuerstchenCombinedPipeline": _LOST.format("PaellaVQModel"),
    "WuerstchenPriorPipeline": "makes embeddings, of which another pipeline makes images",
    "StableDiffusionParadigmsPipeline": "asks its scheduler for several steps at once, which two classes alone can",
    "StableDiffusionGLIGENPipeline": _BOXES,
    "StableDiffusionGLIGENTextImagePipeline": _BOXES,
    "StableDiffusionPix2PixZeroPipeline": "edits an image, by embeddings of what it is and shall be",
    "TextToVideoZeroPipeline": "makes a video",
    "TextToVideoZeroSDXLPipeline": "makes a video",
    "StableCascadeCombinedPipeline": _LOST.format("PaellaVQModel"),
    "GlmImagePipeline": "no small one can be made: its tokenizer and chat template are on the hub alone",
    "Cosmos2TextToImagePipeline": "makes itself a guardrail of models that are on the hub",
    "QwenImageLayeredPipeline": "takes an image apart into layers",
    "ShapEPipeline": "renders a three-dimensional shape",
}
_COLUMNS = ("pipeline", "own scheduler", "= diffusers", "NFE", "packs", "levels", "ok", '`"*"`', "packages")


@dataclass(frozen=True, slots=True)
class Told:
    """What the page says of a class."""

    name: str
    cells: Sequence[str]
    notes: Sequence[str]
    current: bool  # measured with these versions, and this state of the code where that is known


def told(row: Row) -> Told:
    return Told(row.name, _cells(row), tuple(_notes(row)), row.code == code_state())


def read(text: str) -> dict[str, Told]:
    """What a page says, by class: what is not measured anew stays as it is."""
    lines, found = text.splitlines(), {}
    for line in lines:
        if match := re.match(r"\| `(.+?)` \|", line):
            name = match[1]
            notes = [note for note in lines if note.startswith((f"* `{name}`:", f"* `{name}`, "))]
            found[name] = Told(name, line[2:-2].split(" | "), notes, text.startswith(_head()))
    return found


def page(rows: Sequence[Told], more: Mapping[str, str]) -> str:
    """The whole page; `more` are classes without a row, and why."""
    of_videos = [row.cells for row in rows if row.name in VIDEOS]
    of_images = [row.cells for row in rows if row.name not in VIDEOS]
    parts = [_head(), _table(_COLUMNS, of_images)]
    if of_videos:
        parts += ["## Videos", _VIDEOS, _table(_COLUMNS, of_videos)]
    notes = [line for row in rows for line in row.notes]
    if earlier := [f"`{row.name}`" for row in rows if not row.current]:
        notes.append(f"* at an earlier state of schedcmp's code, which `make coverage` mends: {', '.join(earlier)}")
    if notes:
        parts += ["## Remarks", "\n".join(notes)]
    if more:
        parts += ["## Not measured", "\n".join(f"* `{name}`: {why}" for name, why in more.items())]
    return "\n\n".join(parts) + "\n"


def _head() -> str:
    from importlib.metadata import version

    return _HEAD.format(**{name: version(name) for name in ("diffusers", "transformers", "torch")})


def _cells(row: Row) -> tuple[str, ...]:
    name = f"`{row.name}`"
    if row.error:
        return (name, *["–"] * (len(_COLUMNS) - 2), ", ".join(row.packages))
    own = f"{row.scheduler.removesuffix('Scheduler')} {_of(row.own)}"
    packs = f"{row.packs or 1:g}"
    levels = "–" if row.levels is None else str(row.levels)
    counts = (_of(row.usable), _of(row.everything))
    return name, own, _of(row.equal), _of(row.nfe), packs, levels, *counts, ", ".join(row.packages)


def _notes(row: Row) -> Iterator[str]:
    if row.error:
        yield f"* `{row.name}`: {row.error}"
    for note in row.notes:
        yield f"* `{row.name}`: {note}"
    kinds: dict[str, int] = {}
    for reason, count in row.failures.items():
        told = re.sub(r"^\S+: ", "", reason).splitlines()[0]
        kinds[told] = kinds.get(told, 0) + count
    yield from (f"* `{row.name}`, {count} cells: {told}" for told, count in kinds.items())


def unmeasured(there: Collection[str]) -> dict[str, str]:
    """Classes that make an image from a prompt alone, by their source, and have no row; and why."""
    return {name: _why(name) for name in text_to_image() if name not in there}


def _why(name: str) -> str:
    if name in FAMILIES:
        return "there is a builder, which was not run"
    path = pipeline_file(name)
    deprecated = path is not None and "deprecated" in path.parts
    kind = "deprecated by diffusers" if deprecated else _EDITS if "Edit" in name else "no builder"
    return _NOT_BUILT.get(name, kind)


def text_to_image() -> list[str]:
    """The pipeline classes of diffusers that make an image from a prompt alone."""
    import diffusers

    names = [name for name in dir(diffusers) if "Pipeline" in name and not name.startswith("Auto")]
    return [name for name in names if pipeline_source(name) and not unfit(name, lambda _: {})]


def _of(pair: tuple[int, int]) -> str:
    return "{} of {}".format(*pair)


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
