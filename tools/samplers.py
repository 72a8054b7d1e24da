"""`make samplers`: every method against exact solutions, on every kind of model, as docs/samplers.md and its plots.

python -m tools.samplers                     # the page; some minutes, as its tables rank all methods
python -m tools.samplers NAME... --out DIR   # a page of these alone
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from schedcmp.cli.verifying import error_text, within
from schedcmp.registry.build import mended, resolve
from schedcmp.registry.entry import Entry
from schedcmp.registry.table import builtin_registry
from schedcmp.truth.measure import sampling_floor
from schedcmp.truth.plot import convergence_plot
from schedcmp.truth.verdict import Verdict
from schedcmp.truth.verify import verify

BUDGETS = (10, 20, 40)
_BETAS = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear", "num_train_timesteps": 1000}
_FLOW = {"_class_name": "FlowMatchEulerDiscreteScheduler", "num_train_timesteps": 1000}
_SIZES = {"base_shift": 0.5, "max_shift": 1.15, "base_image_seq_len": 256, "max_image_seq_len": 4096}
SD15 = {**_BETAS, "_class_name": "PNDMScheduler", "skip_prk_steps": True, "set_alpha_to_one": False, "steps_offset": 1}
SDXL = {**_BETAS, "_class_name": "EulerDiscreteScheduler", "timestep_spacing": "leading", "steps_offset": 1}
ZERO_SNR = {
    **_BETAS, "_class_name": "DDIMScheduler", "prediction_type": "v_prediction", "rescale_betas_zero_snr": True,
    "timestep_spacing": "trailing", "clip_sample": False,
}  # fmt: skip
PLOTTED = (
    "euler", "heun", "lms", "dpmpp-2m", "deis", "unipc", "pndm", "res-2s", "res-multistep", "rk4", "ipndm-sigma",
    "euler-a", "dpmpp-2m-sde", "dpmpp-3m-sde", "dpmpp-sde", "er-sde", "seeds-3", "sa-solver", "restart",
)  # fmt: skip


@dataclass(frozen=True, eq=False)
class Ground:
    """A kind of checkpoint and a sigma schedule, on which everything is measured."""

    title: str
    pipeline: str
    config: Mapping[str, Any]
    sigmas: str
    plot: str = ""

    @property
    def scheduler_config(self) -> dict[str, Any]:
        return mended(self.config, self.pipeline)


GROUNDS = (
    Ground("SD 1.5, Karras", "StableDiffusionPipeline", SD15, "karras", "samplers-betas.svg"),
    Ground("SD 1.5, default", "StableDiffusionPipeline", SD15, "default"),
    Ground("SDXL, default", "StableDiffusionXLPipeline", SDXL, "default"),
    Ground("v-prediction with zero SNR, default", "StableDiffusionPipeline", ZERO_SNR, "default"),
    Ground("flow, shift 3, simple", "StableDiffusion3Pipeline", {**_FLOW, "shift": 3.0}, "simple", "samplers-flow.svg"),
    Ground("flow, shift 1, default", "StableDiffusion3Pipeline", {**_FLOW, "shift": 1.0}, "default"),
    Ground(
        "Flux, shift by size, default", "FluxPipeline",
        {**_FLOW, "shift": 3.0, "use_dynamic_shifting": True, **_SIZES}, "default",
    ),
)  # fmt: skip


def methods(names: Sequence[str]) -> list[Entry]:
    """Entries that are no other one's on a sigma schedule. Raises RegistryError for an unknown name."""
    registry = builtin_registry()
    entries = [registry.entry(name) for name in names] or registry.entries.values()
    return [entry for entry in entries if entry.base == entry.name]


def measured(ground: Ground, entries: Iterable[Entry]) -> list[Verdict]:
    """The oracle's verdicts, in the entries' order, each by the method's own name."""
    sigmas = builtin_registry().sigma_schedule(ground.sigmas)
    return verify([entry.with_sigmas(sigmas) for entry in entries], ground.scheduler_config)


def page(found: Mapping[Ground, Sequence[Verdict]], entries: Sequence[Entry], seconds: float) -> str:
    """docs/samplers.md."""
    floor, spread = sampling_floor()
    parts = [
        _HEAD.format(seconds=round(seconds), count=len(entries), floor=floor, spread=spread),
        *(f"![{g.title}]({g.plot})" for g in found if g.plot),
        "## The methods",
        _table(("method", "order", "noise", "NFE", "diffusers", "A1111", "ComfyUI", "what it is"), map(_row, entries)),
    ]
    for ground, verdicts in found.items():
        parts += [f"## {ground.title}", *_tables(ground, entries, verdicts)]
    return "\n\n".join(parts) + "\n"


_HEAD = """\
# What each sampler is

Made by `make samplers` in {seconds} s; do not edit. Every one of the {count} methods ran on data whose exact
solution is known (see [the oracle](oracle.md)), as on a checkpoint of each kind. **Error** is the root mean
square distance from the exact solution, in standard deviations of the data; for methods that draw noise it is
the Wasserstein-1 distance of the distribution of their samples from the data's, where as many exact samples are
at {floor:.4f} ± {spread:.4f}. Columns are budgets of denoiser evaluations (NFE), at each of which a method
takes the most steps that it can. **Order** is the slope of log error against log NFE with its 95 % interval; a
dash where that is wider than ± 1. It says what the error does at many steps, the columns what you get at few.

The data are smooth and one-dimensional, and the denoiser is perfect: what is bad here is bad everywhere, what is good
here may still be told apart by a network's own errors. Distilled checkpoints want the sampler that they were distilled
for."""


def _row(entry: Entry) -> tuple[str, ...]:
    cls = "" if entry.cls.startswith("schedcmp.") else entry.class_name.removesuffix("Scheduler")
    noise = "yes" if entry.noise else ""
    known = [", ".join(entry.also.get(place, ())) for place in ("a1111", "comfyui")]
    return f"`{entry.name}`", str(entry.order or ""), noise, entry.nfe, cls, *known, entry.note


def _tables(ground: Ground, entries: Sequence[Entry], verdicts: Sequence[Verdict]) -> Iterator[str]:
    rows: dict[bool, list[tuple[float, tuple[str, ...]]]] = {False: [], True: []}
    refused = []
    for entry, verdict in zip(entries, verdicts, strict=True):
        if not verdict.measured.points:
            refused.append((f"`{entry.name}`", verdict.why.removeprefix(f"{verdict.name}: ")))
            continue
        ran = resolve(entry.with_sigmas(builtin_registry().sigma_schedule(ground.sigmas)), ground.scheduler_config)
        at = [within(verdict.measured.points, budget) for budget in BUDGETS]
        order = verdict.fit.told if verdict.fit else "–"
        cells = (f"`{entry.name}`", *map(error_text, at), order, _verdict(verdict), ran.entry.class_name)
        rows[verdict.measured.stochastic].append((at[1].error if at[1] else float("inf"), cells))
    head = ("method", *(f"{n} NFE" for n in BUDGETS), "order", "verdict", "what ran")
    for stochastic, title in ((False, "Error from the exact solution"), (True, "Distance of the distribution")):
        if rows[stochastic]:
            yield f"**{title}**, best at {BUDGETS[1]} evaluations first"
            yield _table(head, [cells for _, cells in sorted(rows[stochastic], key=lambda row: row[0])])
    if refused:
        yield _table(("not here", "why"), refused)


def _verdict(verdict: Verdict) -> str:
    return f"{verdict.text}{f': {verdict.why}' if verdict.why and verdict.kind != 'same as' else ''}"


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(str(cell).replace('|', chr(92) + '|') for cell in line)} |" for line in lines)


def main(arguments: Sequence[str]) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*")
    parser.add_argument("--out", type=Path, default=Path("docs"))
    asked = parser.parse_args(arguments)
    if asked.names and asked.out == Path("docs"):
        parser.error("the page in docs has all methods; give --out for one of some")
    entries, start, found = methods(asked.names), time.monotonic(), {}
    for ground in GROUNDS:
        found[ground] = measured(ground, entries)
        print(f"{time.monotonic() - start:5.0f} s  {ground.title}", file=sys.stderr)
        if ground.plot:
            names = {f"{name}{'' if ground.sigmas == 'default' else f'-{ground.sigmas}'}" for name in PLOTTED}
            shown = [v for v in found[ground] if (v.name in names or asked.names) and v.kind != "same as"]
            (asked.out / ground.plot).write_bytes(convergence_plot(shown, "svg", ground.title))
    (asked.out / "samplers.md").write_text(page(found, entries, time.monotonic() - start), encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1:])
