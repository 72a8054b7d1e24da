"""The sweep file's keys, their types, defaults and limits, in one place."""

from __future__ import annotations

from collections.abc import Collection
from difflib import get_close_matches
from typing import Annotated, Any, Literal

import yaml
from pydantic import Field, ValidationError, model_validator

from schedcmp.axes import AXES
from schedcmp.errors import SweepError, shown
from schedcmp.sweep.keys import FILES, Exclude, Keys, OfRun
from schedcmp.sweep.parts.executor import Executor, Executors
from schedcmp.sweep.parts.fields import Groups, Part, Words
from schedcmp.sweep.parts.grid import Grid
from schedcmp.sweep.parts.making import Jax, Optimize
from schedcmp.sweep.parts.measuring import Metrics, Timing, Timings
from schedcmp.sweep.parts.steps import Search
from schedcmp.sweep.source import Source
from schedcmp.sweep.values import MAX_IN_ALL, count
from schedcmp.sweep.words import SYNONYMS, in_words


class Sweep(Keys):
    """A sweep, resolved: every key has its value. The order of the keys is the order in the written file."""

    zip: Groups = Field(
        (),
        description="keys that advance together instead of each with each: `[schedulers, sigmas]`, or several"
        " such groups; an argument of `call` is `call.NAME`",
    )
    exclude: tuple[Exclude, ...] = Field(
        (),
        max_length=1000,
        description="cells to leave out: `[{scheduler: heun, steps: 30..50}, {call: {eta: 1}}]`",
    )
    generator: Literal["cpu", "device"] = Field(
        "cpu",
        description="where initial noise is drawn: `cpu` is the same on every device, `device` is what most"
        " examples do",
    )
    device: str = Field(
        "auto",
        pattern=r"^(auto|cpu|mps|cuda(:\d+)?)$",
        description="`auto` (cuda, then mps, then cpu), `cuda`, `cuda:1`, `mps`, `cpu`",
    )
    dtype: Literal["auto", "fp32", "fp16", "bf16"] = Field("auto", description="`auto`: fp16 on CUDA, else fp32")
    vae_dtype: Literal["auto", "fp32", "fp16", "bf16"] = Field(
        "auto",
        description="the VAE's own; `auto`: as `dtype`; `fp32` mends black images of a VAE that overflows in fp16",
    )
    safety_checker: bool = Field(True, description="`false` leaves out the one that the checkpoint may have")
    engine: Literal["packed", "solo"] = Field(
        "packed", description="`packed`: cells share denoiser calls; `solo`: one after the other"
    )
    max_batch: Annotated[int, Field(strict=True, ge=1, le=4096)] | None = Field(
        None, description="rows per denoiser call when packed (guidance takes two rows); found by trying by default"
    )
    backend: Literal["torch", "jax"] = Field(
        "torch",
        description="what computes the denoiser; `jax`: all JAX devices, for Stable Diffusion 1, 2, XL"
        " ([jax.md](jax.md))",
    )
    jax: Jax = Field(Jax(), description="how `backend: jax` solves (below)")
    executor: Executors = Field(
        Executor(),
        description="`local`: this process; `ray`, or `{ray: {...}}` (below): workers of a Ray cluster"
        " ([ray.md](ray.md))",
    )
    optimize: Optimize = Field(
        Optimize(), description="speed and memory against set-up time or the last digits (below)"
    )
    step_limit: Annotated[float, Field(gt=0, le=86_400, allow_inf_nan=False)] = Field(
        60.0,
        description="seconds that one step of a scheduler class or sampler function of your own may take before"
        " its cell fails",
    )
    timing: Timings = Field(Timing(), description="how latency is measured (below), or `off`")
    metrics: Metrics = Field(
        ("auto",),
        description="what is measured of the images: names of [metrics.md](metrics.md) such as `[reference, clip]`,"
        " classes of your own by their paths, or `off`; `auto` is `reference` where the denoiser is small and that"
        " costs no more than the sweep",
    )
    clip_model: str = Field(
        "openai/clip-vit-large-patch14",
        description="a CLIP or SigLIP model in transformers' format, for `clip` and `real_images`: a folder or hub id",
    )
    real_images: str | None = Field(
        None, description="a folder of real images, or its address, to compare each scheduler's images with as a whole"
    )
    track: Words | None = Field(
        None,
        description="where results are sent too, by that program's own client: `mlflow`, `mlflow:http://host:5000`,"
        " `wandb:ENTITY/PROJECT`, `tensorboard:FOLDER` ([metrics.md](metrics.md))",
    )
    grid: Grid = Field(Grid(), description="which axes become rows, columns and pages of the grids (below)")

    @model_validator(mode="before")
    @classmethod
    def _budgets_are_columns(cls, data: Any) -> Any:
        return {"grid": {"cols": "nfe"}, **data} if isinstance(data, dict) and data.get("nfe") else data

    @model_validator(mode="after")
    def _makes_sense(self) -> Sweep:
        if (self.steps is None) == (self.nfe is None):
            both = "has both `steps` and `nfe`; keep one (on the command line: --set steps=)"
            neither = "needs `steps`, as in steps: [4, 8, 15], or `nfe`, what images may cost"
            raise ValueError(both if self.steps else neither)
        if self.nfe and len(self.strength or ()) > 1:
            raise ValueError("nfe: so many steps cost otherwise at each strength; give one strength, or `steps`")
        if self.size and self.width:
            raise ValueError("has both `size` and `width`; give one of them")
        if (self.width is None) != (self.height is None):  # diffusers' pipelines ignore one without the other
            raise ValueError("width and height go together; give both or neither")
        if len(set(self.prompt.values())) < len(self.prompt):
            raise ValueError("prompt: the same text is there twice under two names")
        if self.backend != "jax" and self.jax != Jax():
            raise ValueError("jax: says how `backend: jax` runs, which this sweep has not; add it, or leave jax out")
        self._check_zip()
        self._check_executor()
        return self

    def _check_zip(self) -> None:
        named = [key for group in self.zip for key in group]
        known = {key: count for axis in AXES.values() for key, count in axis.zipped(self).items()}
        for key in named:
            if key not in known:
                raise ValueError(f"zip: {key!r} is no key of this sweep with several values ({', '.join(known)})")
            if named.count(key) > 1 or "*" in self.schedulers:
                raise ValueError(f"zip: {key!r} is there twice" if named.count(key) > 1 else 'zip: "*" has no order')
        if why := self.uneven_zip(FILES):  # a folder counts when it is read
            raise ValueError(why)

    def uneven_zip(self, but_for: Collection[str] = ()) -> str:
        """Why keys cannot advance together, some of them left out; empty if all can."""
        known = {key: count for axis in AXES.values() for key, count in axis.zipped(self).items()}
        for group in self.zip:
            counted = {known[key] for key in group if key not in but_for}
            if len(counted) > 1 or len(group) < 2:
                found = ", ".join(f"{key} has {known[key]}" for key in group)
                return f"zip: takes two or more keys with equally many values, but {found}"
        return ""

    def _check_executor(self) -> None:
        ray = self.executor.ray
        if ray is None:
            return
        if isinstance(self.steps, Search):
            raise ValueError("executor: `steps: auto` goes by what was measured before, in one process; give numbers")
        if ":" in self.device:
            raise ValueError(f"executor: Ray gives each worker a GPU of its own, not {self.device}; use device: cuda")
        if ray.gpus_per_worker and self.device in ("cpu", "mps"):
            raise ValueError(f"executor: ray.gpus_per_worker is 1, but device is {self.device}; keep one of the two")
        if ray.gpus_per_worker == 0 and self.device == "cuda":
            raise ValueError("executor: ray.gpus_per_worker is 0, but device is cuda; keep one of the two")


def checked(source: Source) -> Sweep:
    """The sweep of a document.

    Raises:
        SweepError: with file:line, the key, what is wrong and the nearest right word.
    """
    if count(source.data) > MAX_IN_ALL:
        raise SweepError(f"{source.name}: its ranges have over {MAX_IN_ALL:,} values together; use fewer")
    try:
        return Sweep.model_validate(source.data)
    except ValidationError as error:
        raise SweepError(_message(error, source)) from error


def dump(sweep: Sweep) -> str:
    """The resolved sweep as YAML: running it repeats the run."""
    data = sweep.model_dump(mode="json", by_alias=True, exclude_none=True)
    return yaml.safe_dump(data, sort_keys=False, allow_unicode=True, width=110)


def _message(error: ValidationError, source: Source) -> str:
    """The first problem (by line) of a failed check, in the user's words."""
    problems = error.errors(include_url=False)
    first = min(problems, key=_urgency)
    path = [step for step in first["loc"] if step not in (*_UNIONS, "counts", "search")]
    key = ".".join(str(step) for step in path)
    named = first["msg"].removeprefix("Value error, ").partition(":")[0]  # what is wrong between keys names one of them
    where = source.where(path[:-1] if first["type"] == "missing" else path or [named])
    return f"{where}: {_problem(first, key)}"


def _urgency(problem: Any) -> tuple[int, int]:
    """An unknown key explains the missing one; of a union's, the problem deepest inside it is the one meant."""
    location = problem["loc"]
    union = any(part in location for part in _UNIONS)
    return (0 if problem["type"] == "extra_forbidden" else 1 + (not location), -len(location) if union else 0)


def _problem(problem: Any, key: str) -> str:
    if problem["type"] == "missing":
        return f"the key {key!r} is missing"
    if problem["type"] == "extra_forbidden":
        return f"unknown key {shown(key)}{_nearest_key(key)}"
    return f"{f'{key}: ' if key else ''}{in_words(problem)}"


_UNIONS = ("str", "EntrySpec", "OfRun")  # what stands in a problem's place for a member of a union
_PARTS: tuple[type[Part], ...] = (Sweep, Exclude, OfRun, *Part.__subclasses__())


def _nearest_key(key: str) -> str:
    if key in SYNONYMS:
        return f"; here it is {SYNONYMS[key]}"
    known = {f.alias or name for model in _PARTS for name, f in model.model_fields.items()}
    own = set(Sweep.model_fields) if "." not in key else known
    near = get_close_matches(key.rpartition(".")[2], sorted(own), n=1)
    return f"; did you mean {near[0]!r}?" if near else f"; known keys: {', '.join(sorted(own))}"
