"""What schedcmp makes of a tiny checkpoint of a pipeline class, beside diffusers' own call of it."""

from __future__ import annotations

import time
import warnings
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from functools import cache
from hashlib import blake2s
from importlib import import_module
from pathlib import Path
from types import MappingProxyType
from typing import Any

import torch
import yaml

import schedcmp
from schedcmp.checkpoint import layout
from schedcmp.checkpoint.json_files import read_json
from schedcmp.engine.job import Workbench
from schedcmp.engine.packed import PackedEngine
from schedcmp.engine.solo import Measuring, SoloEngine
from schedcmp.pictures.image import difference, pixels_sha256
from schedcmp.pipelines.arguments import called_by
from schedcmp.pipelines.inputs import OUTPUTS
from schedcmp.pipelines.packages import packages
from schedcmp.pipelines.videos import makes_video
from schedcmp.prepare import Prepared
from schedcmp.records import Cell, CellResult
from schedcmp.registry.appraisal import Appraisal
from schedcmp.registry.compat import compatibility
from schedcmp.registry.table import builtin_registry
from schedcmp.runs.several import prepare_all
from tools.coverage.families import FAMILIES
from tools.coverage.family import GUIDANCE, Family
from tools.coverage.parts import filled

_OTHERS = ("unipc", "heun", "dpmpp-2m", "euler-a", "ddim", "euler", "lcm")
_MORE = 3  # schedulers of these that are packed beside the checkpoint's own
_BATCH = 12  # rows, of four cells with perturbed-attention guidance
Results = Mapping[str, CellResult]


@dataclass(slots=True)
class Row:
    """What was found of a pipeline class. Pairs are (how many, of how many)."""

    name: str
    error: str = ""  # why nothing could be measured
    scheduler: str = ""  # the class of the checkpoint's own
    own: tuple[int, int] = (0, 0)  # its cells that gave an image, alone
    equal: tuple[int, int] = (0, 0)  # of these, the same pixels as diffusers' own call
    nfe: tuple[int, int] = (0, 0)  # of these, as many evaluations as planned
    packs: float = 0.0  # cells to a call of the denoiser
    levels: int | None = None  # the largest difference of a packed cell from the cell alone
    usable: tuple[int, int] = (0, 0)  # schedulers that `list-compatible` calls ok
    everything: tuple[int, int] = (0, 0)  # cells of `schedulers: "*"` that gave an image
    failures: dict[str, int] = field(default_factory=dict)  # of all these cells: reasons
    notes: list[str] = field(default_factory=list)  # what the packed engine has to say
    packages: list[str] = field(default_factory=list)  # what it needs beside our dependencies
    seconds: float = 0.0
    code: str = ""  # of which state of schedcmp it was measured, as `code_state`

    def as_json(self) -> dict[str, Any]:
        return asdict(self)


def measured(name: str, folder: Path, *, whole: bool = True) -> Row:
    """Build the class's checkpoint in `folder` and ask everything of it; unless `whole`, at few steps, of few."""
    row, start, family = Row(name), time.monotonic(), FAMILIES[name]
    if not whole:
        family = replace(family, steps=family.steps[:1])
    row.code = code_state()
    row.packages = [*packages(name.partition(" ")[0]), *family.packages]
    try:
        with _quiet():
            save(family, folder)
            _measure(row, family, folder, whole=whole)
    except Exception as error:
        row.error = f"{type(error).__name__}: {error}".splitlines()[0]
    row.seconds = round(time.monotonic() - start, 1)
    return row


@cache
def code_state() -> str:
    """A hash of schedcmp's sources."""
    sources = sorted(Path(schedcmp.__file__).parent.rglob("*.py"))
    return blake2s(b"".join(path.read_bytes() for path in sources), digest_size=4).hexdigest()


def save(family: Family, folder: Path) -> None:
    """Write the family's checkpoint. Raises whatever diffusers raises where a package is missing."""
    torch.manual_seed(0)
    filled(family.build()).save_pretrained(folder)


def _measure(row: Row, family: Family, folder: Path, *, whole: bool) -> None:
    index = read_json(folder / layout.MODEL_INDEX)
    row.scheduler = index["scheduler"][1]
    first = prepared(family, folder, [row.scheduler])
    pipeline = first.loader.load()
    alone = _alone(first, pipeline)
    _count_own(row, first, alone, direct(family, folder, first.supported))
    several = prepared(family, folder, [row.scheduler, *_other(first)])
    _pack(row, several, pipeline, {**alone, **_alone(several, pipeline, without=alone)})
    if whole:
        _everything(row, first, prepared(replace(family, steps=family.steps[-1:]), folder, ["*"], seeds=1), pipeline)


def _everything(row: Row, first: Prepared, star: Prepared, pipeline: Any) -> None:
    entries, config = [*builtin_registry().entries.values()], first.scheduler_config
    found = list(compatibility([*Appraisal(config).unlisted(entries), *entries], config))
    row.usable = (sum(c.status == "ok" for c in found), len(found))
    results = _packed(star, pipeline)[0]
    row.everything = (_made(results), len(star.plan.cells))
    row.failures |= _reasons(results.values())


def prepared(family: Family, folder: Path, schedulers: Sequence[str], seeds: int = 2) -> Prepared:
    """A sweep on the checkpoint, checked."""
    sweep: dict[str, Any] = {
        "model": str(folder), "prompt": family.prompt, "schedulers": list(schedulers), "steps": list(family.steps),
        "seeds": list(range(seeds)), "metrics": "off", "device": "cpu", "call": dict(family.call),
        "guidance_scale": GUIDANCE,
    }  # fmt: skip
    if family.size:
        sweep["size"] = "{}x{}".format(*family.size)
    if family.frames:
        sweep["num_frames"] = family.frames
    path = folder.with_suffix(".yaml")
    path.write_text(yaml.safe_dump(sweep), encoding="utf-8")
    return prepare_all(path)


def _other(first: Prepared) -> list[str]:
    """Schedulers of other classes than the checkpoint's own, as different from each other as they come."""
    own = {recipe.cls.__name__ for recipe in first.recipes.values()}
    entries = [builtin_registry().entries[name] for name in _OTHERS]
    found = compatibility((e for e in entries if e.class_name not in own), first.scheduler_config)
    return [c.entry.name for c in found if c.status == "ok"][:_MORE]


def _workbench(of: Prepared, pipeline: Any) -> Workbench:
    return Workbench(pipeline, of.all_recipes, of.sweep.generator, of.sweep.step_limit)


def _alone(of: Prepared, pipeline: Any, without: Results = MappingProxyType({})) -> Results:
    engine = SoloEngine(_workbench(of, pipeline), Measuring(timed=False))
    return {r.cell.id: r for r in engine.run(c for c in of.supported if c.id not in without)}


def _packed(of: Prepared, pipeline: Any) -> tuple[Results, PackedEngine]:
    engine = PackedEngine(_workbench(of, pipeline), of.cost, _BATCH)
    return {r.cell.id: r for r in engine.run(of.supported)}, engine


def direct(family: Family, folder: Path, cells: Iterable[Cell]) -> dict[str, str]:
    """By cell: the hash of what diffusers' own call makes of it, from a pipeline that was loaded for it alone."""
    return {cell.id: _direct(family, folder, cell) for cell in cells}


def _direct(family: Family, folder: Path, cell: Cell) -> str:
    index = read_json(folder / layout.MODEL_INDEX)
    cls = getattr(import_module("diffusers"), index["_class_name"])
    pipeline = cls.from_pretrained(folder, **dict.fromkeys(layout.absent(index)))
    pipeline.set_progress_bar_config(disable=True)
    given: dict[str, Any] = {"prompt": cell.prompt, "num_inference_steps": cell.steps}
    given |= {**family.guided, **family.call}
    if family.size:
        given["width"], given["height"] = family.size
    if makes_video(index["_class_name"]):
        given |= {"output_type": "pil", **called_by(index["_class_name"], {"num_frames": family.frames})}
    output = pipeline(**given, generator=torch.Generator().manual_seed(cell.seed))
    made = next(found for name in OUTPUTS if (found := getattr(output, name, None)))[0]
    return pixels_sha256(*(made if isinstance(made, list) else [made]))


def _count_own(row: Row, of: Prepared, alone: Results, expected: Mapping[str, str]) -> None:
    made = [r for r in alone.values() if r.image]
    row.own = (len(made), len(of.plan.cells))
    row.equal = (sum(r.image_sha256 == expected[r.cell.id] for r in made), len(made))
    row.nfe = (sum(r.nfe == of.cost(r.cell) for r in made), len(made))
    row.failures |= _reasons(alone.values())


def _pack(row: Row, of: Prepared, pipeline: Any, alone: Results) -> None:
    results, engine = _packed(of, pipeline)
    count = engine.throughput
    row.packs = round(count.evaluations / count.forwards, 1) if count.forwards else 0.0
    row.notes = count.notes
    both = [difference(r.pictures, alone[i].pictures) for i, r in results.items() if r.image and alone[i].image]
    row.levels = max((found[1] for found in both if found), default=None)
    row.failures |= _reasons([*alone.values(), *results.values()])


def _made(results: Results) -> int:
    return sum(r.image is not None for r in results.values())


def _reasons(results: Iterable[CellResult]) -> dict[str, int]:
    return dict(Counter(f"{r.cell.scheduler}: {r.error}" for r in results if r.image is None))


@contextmanager
def _quiet() -> Iterator[None]:
    import diffusers
    import transformers

    for library in (diffusers, transformers):
        library.utils.logging.set_verbosity_error()
        library.utils.logging.disable_progress_bar()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
