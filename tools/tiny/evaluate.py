"""Measure a trained checkpoint: `python -m tools.tiny.evaluate --checkpoint schedcmp/builtin/tiny --out outputs/tiny`.

For every scheduler, number of steps and guidance: how many pictures show what their (held-out) caption says,
and how far they are from a reference of many steps. Writes evaluation.json as it goes, and a sheet of pictures
for each guidance.
"""

import argparse
import json
import logging
import random
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import diffusers
import numpy as np
import torch
from diffusers import DiffusionPipeline
from PIL import Image, ImageDraw
from torch import Tensor

from tools.tiny.captions import plain_caption
from tools.tiny.flow import SHIFT, PaddedOnce
from tools.tiny.judge import Judge, check, load_judge, verdicts
from tools.tiny.shapes import SIDE, Drawing, Pixels, draw_many, sample_drawing
from tools.tiny.train import CHECKPOINT, DATA_SEED, PICTURES, WORK
from tools.tiny.training import log

HELD_OUT_SEED = 123
BATCH = 25
REFERENCE_PICTURES = 16
SHOWN = 12  # pictures in a row of the sheet
MEASURES = ["colours", "pixels", "shape", "texture", "size", "position", "all"]

Record = dict[str, Any]
Solvers = dict[str, tuple[str, Record]]  # a class of diffusers and its options

SCHEDULERS: Solvers = {
    "DDIM": ("DDIMScheduler", {}),
    "Euler": ("EulerDiscreteScheduler", {}),
    "Euler a": ("EulerAncestralDiscreteScheduler", {}),
    "Heun": ("HeunDiscreteScheduler", {}),
    "LMS": ("LMSDiscreteScheduler", {}),
    "PNDM": ("PNDMScheduler", {}),
    "UniPC": ("UniPCMultistepScheduler", {}),
    "DPM++ 2M": ("DPMSolverMultistepScheduler", {}),
    "DPM++ 2M Karras": ("DPMSolverMultistepScheduler", {"use_karras_sigmas": True}),
    "reference": ("DDIMScheduler", {"timestep_spacing": "trailing"}),
}
_FLOWING = {"use_flow_sigmas": True, "prediction_type": "flow_prediction", "flow_shift": SHIFT}
FLOW_SCHEDULERS: Solvers = {
    "Euler": ("FlowMatchEulerDiscreteScheduler", {}),
    "Heun": ("FlowMatchHeunDiscreteScheduler", {}),
    "UniPC": ("UniPCMultistepScheduler", _FLOWING),
    "DPM++ 2M": ("DPMSolverMultistepScheduler", _FLOWING),
    "reference": ("FlowMatchEulerDiscreteScheduler", {}),
}


@dataclass(frozen=True)
class Kind:
    """What is surveyed of one of the checkpoints."""

    solvers: Solvers
    main: str  # the solver that is measured on many captions
    reference_steps: int
    arguments: Record  # of the pipeline's call


KINDS = {
    "StableDiffusionPipeline": Kind(SCHEDULERS, "DPM++ 2M Karras", 1000, {}),
    "StableDiffusion3Pipeline": Kind(FLOW_SCHEDULERS, "Euler", 200, {"max_sequence_length": 1}),
}


@dataclass(frozen=True)
class Setting:
    """One way of sampling."""

    scheduler: str
    steps: int
    guidance: float


@dataclass(frozen=True)
class Bench:
    """What every setting is measured with: the same captions, noise and judge."""

    pipeline: DiffusionPipeline
    kind: Kind
    config: Record  # the checkpoint's scheduler's
    judge: Judge
    drawings: list[Drawing]

    def sample(self, setting: Setting, count: int) -> Pixels:
        """The first `count` drawings' pictures, (count, 64, 64, 3)."""
        name, options = self.kind.solvers[setting.scheduler]
        scheduler_class = getattr(diffusers, name)
        parts = []
        for first in range(0, count, BATCH):
            rows = range(first, min(first + BATCH, count))
            self.pipeline.scheduler = scheduler_class.from_config(self.config, **options)
            parts.append(
                self.pipeline(
                    [plain_caption(self.drawings[i]) for i in rows],
                    latents=torch.cat([noise(i) for i in rows]),
                    generator=[torch.Generator().manual_seed(i) for i in rows],
                    num_inference_steps=setting.steps,
                    guidance_scale=setting.guidance,
                    output_type="np",
                    **self.kind.arguments,
                ).images
            )
        return np.asarray((np.concatenate(parts) * 255).round(), np.uint8)

    def measure(self, setting: Setting, count: int, reference: Pixels | None) -> tuple[Record, Pixels]:
        """The setting's record, and its pictures."""
        start = time.perf_counter()
        images = self.sample(setting, count)
        record: Record = {**asdict(setting), "pictures": count}
        record["seconds_per_picture"] = (time.perf_counter() - start) / count
        right = verdicts(self.judge, images, self.drawings[:count])
        record |= {name: float(right[name].mean()) for name in MEASURES}
        if reference is not None:
            shared = min(count, len(reference))
            error = images[:shared].astype(float) - reference[:shared]
            record["rmse"] = float(np.sqrt((error**2).mean()))
        return record, images


def held_out(count: int) -> list[Drawing]:
    """Drawings of which no training picture has the same attributes."""
    seen = {drawing for drawing, _ in draw_many(PICTURES, DATA_SEED)}
    rng, unseen = random.Random(HELD_OUT_SEED), dict[Drawing, None]()
    while len(unseen) < count:
        drawing = sample_drawing(rng)
        if drawing not in seen:
            unseen[drawing] = None
    return list(unseen)


def noise(row: int) -> Tensor:
    """The starting latents of a picture, (1, 4, 16, 16)."""
    return torch.randn((1, 4, 16, 16), generator=torch.Generator().manual_seed(1000 + row))


def load_pipeline(checkpoint: Path) -> DiffusionPipeline:
    options: Record = {"dtype": torch.float32, "local_files_only": True, "low_cpu_mem_usage": False}
    index = json.loads((checkpoint / "model_index.json").read_text())
    options |= {name: None for name in ("text_encoder_3", "tokenizer_3") if name in index}
    pipeline = DiffusionPipeline.from_pretrained(checkpoint, **options)
    if hasattr(pipeline, "transformer"):
        pipeline.transformer.set_attn_processor(PaddedOnce())  # the same images in a fifth of the time
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def write_sheet(rows: dict[str, Pixels], path: Path) -> None:
    """A row of pictures for each label."""
    label, cell = 130, SIDE + 2
    sheet = Image.new("RGB", (label + SHOWN * cell, len(rows) * cell), "white")
    draw = ImageDraw.Draw(sheet)
    for y, (text, images) in enumerate(rows.items()):
        draw.text((4, y * cell + SIDE // 2 - 5), text, fill="black")
        for x, image in enumerate(images[:SHOWN]):
            sheet.paste(Image.fromarray(image), (label + x * cell, y * cell))
    sheet.save(path)


def line(record: Record) -> str:
    setting = f"{record['scheduler']:16} {record['steps']:4} steps, guidance {record['guidance']:g}:"
    rates = "  ".join(f"{name} {record[name]:.3f}" for name in MEASURES)
    rmse = f"  rmse {record['rmse']:.1f}" if "rmse" in record else ""
    return f"{setting}  {rates}{rmse}  {record['seconds_per_picture']:.2f} s"


class Report:
    """Keeps evaluation.json and the log up to date, so that a stopped evaluation leaves what it had."""

    def __init__(self, folder: Path, judge: Judge) -> None:
        self.path = folder / "evaluation.json"
        self.content: Record = {"judge": check(judge), "settings": []}
        log.info("judge on real drawings: %s", self.content["judge"])

    def add(self, record: Record) -> None:
        self.content["settings"].append(record)
        self.path.write_text(json.dumps(self.content, indent=1) + "\n")
        log.info("%s", line(record))


def survey(bench: Bench, guidance: float, args: argparse.Namespace, report: Report) -> None:
    """All schedulers at all step counts, at one guidance."""
    reference = bench.sample(Setting("reference", bench.kind.reference_steps, guidance), REFERENCE_PICTURES)
    rows = {"reference": reference}
    for steps in args.steps:
        for name in args.schedulers or list(bench.kind.solvers)[:-1]:
            record, images = bench.measure(Setting(name, steps, guidance), args.survey_captions, reference)
            report.add(record)
            rows[f"{name} {steps}"] = images
            write_sheet(rows, args.out / f"sheet_guidance_{guidance:g}.png")


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--checkpoint", type=Path, default=CHECKPOINT)
    parser.add_argument("--out", type=Path, default=WORK, help="folder for judge.pt, evaluation.json, sheets")
    parser.add_argument("--captions", type=int, default=240, help="for one scheduler at 20 steps")
    parser.add_argument("--survey-captions", type=int, default=50, help="for each other setting")
    parser.add_argument("--guidance", type=float, nargs="+", default=[2.0, 3.0])
    parser.add_argument("--steps", type=int, nargs="+", default=[4, 8, 15, 20, 30])
    parser.add_argument("--schedulers", nargs="+", help="of the checkpoint's; all of them")
    return parser.parse_args()


def main() -> None:
    args = parse_arguments()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    torch.set_num_threads(1)
    args.out.mkdir(parents=True, exist_ok=True)
    judge = load_judge(args.out / "judge.pt")
    pipeline = load_pipeline(args.checkpoint)
    drawings = held_out(max(args.captions, args.survey_captions))
    kind = KINDS[type(pipeline).__name__]
    bench = Bench(pipeline, kind, dict(pipeline.scheduler.config), judge, drawings)
    report = Report(args.out, judge)
    for guidance in args.guidance:
        record, _ = bench.measure(Setting(kind.main, 20, guidance), args.captions, None)
        report.add(record)
    for guidance in args.guidance:
        survey(bench, guidance, args, report)


if __name__ == "__main__":
    main()
