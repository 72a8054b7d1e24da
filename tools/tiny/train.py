"""Train the built-in checkpoints from nothing: `python -m tools.tiny.train`, then again with `--flow` and `--few-step`.

Each stage leaves its result in the work folder and is skipped when it is there; an interrupted stage goes on
from its last save and draws the same random numbers as if it had not been interrupted. One thread is enough:
about an hour.
"""

import argparse
import json
import logging
import os
import time
from collections.abc import Callable
from dataclasses import asdict
from functools import partial
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from diffusers import AutoencoderKL
from transformers import CLIPTokenizer

from tools.tiny.captions import MAX_TOKENS, all_words
from tools.tiny.diffusion import DenoiserRecipe, DenoiserTrainer
from tools.tiny.distil import Distiller, DistilRecipe
from tools.tiny.export import export, export_flow, export_lora
from tools.tiny.flow import FlowRecipe, FlowTrainer, Teacher
from tools.tiny.paths import PathRecipe, make_paths
from tools.tiny.shapes import POSITIONS, SIDE, Drawing, Pixels, draw_many
from tools.tiny.tokenizer import build_tokenizer
from tools.tiny.training import log, save
from tools.tiny.vae import SCALING_FACTOR, VaeRecipe, VaeTrainer, encode_all, new_vae, psnr, whiten
from tools.tiny.worlds import Diffusion, Flow, World

Stage = tuple[str, Callable[[Path], None]]  # the file that it leaves in the work folder, and what makes it

ROOT = Path(__file__).resolve().parents[2]
WORK = ROOT / "outputs" / "tiny"
CHECKPOINT = ROOT / "schedcmp" / "builtin" / "tiny"
BUILTIN = ROOT / "schedcmp" / "builtin"
FLOW_CHECKPOINT = ROOT / "schedcmp" / "builtin" / "tiny-flow"
PICTURES = 24_000
DATA_SEED = 1


def make_data(work: Path) -> None:
    """images.npy: (n, 64, 64, 3) bytes; drawings.json: what they show."""
    drawings, images = zip(*draw_many(PICTURES, DATA_SEED), strict=True)
    (work / "drawings.json").write_text(json.dumps([asdict(d) for d in drawings]))
    np.save(work / "images.npy", np.stack(images))


def load_data(work: Path) -> tuple[list[Drawing], Pixels]:
    drawings = [Drawing(**d) for d in json.loads((work / "drawings.json").read_text())]
    return drawings, np.load(work / "images.npy")


def shape_centers(drawings: list[Drawing]) -> npt.NDArray[np.int64]:
    """Rough row and column of each shape, (n, 2)."""
    offsets = np.array([POSITIONS[d.position][::-1] for d in drawings])
    return np.asarray(SIDE // 2 + 13 * offsets, np.int64)


def train_vae(work: Path) -> None:
    drawings, images = load_data(work)
    vae = VaeTrainer(images, shape_centers(drawings), VaeRecipe()).run(work / "vae_run.pt")
    save(work / "vae.pt", vae.state_dict())


def make_latents(work: Path) -> None:
    """latents.pt: (n, 4, 16, 16) in half precision; whitened_vae.pt: the VAE that makes and reads them."""
    _, images = load_data(work)
    vae = new_vae().eval()
    vae.load_state_dict(torch.load(work / "vae.pt", weights_only=True))
    before = psnr(vae, images[:256])
    latents = whiten(vae, encode_all(vae, images))
    log.info("vae: %.1f dB, %.1f dB whitened", before, psnr(vae, images[:256]))
    save(work / "whitened_vae.pt", vae.state_dict())
    save(work / "latents.pt", latents.half())


def train_denoiser(work: Path) -> None:
    drawings, _ = load_data(work)
    tokenizer = build_tokenizer(all_words(), MAX_TOKENS, work / "tokenizer")
    latents = torch.load(work / "latents.pt", weights_only=True)
    trainer = DenoiserTrainer(latents, drawings, tokenizer, DenoiserRecipe())
    networks = trainer.run(work / "denoiser_run.pt")
    save(work / "denoiser.pt", {name: network.state_dict() for name, network in networks.items()})


def make_flow_latents(work: Path) -> None:
    """flow_latents.pt: (n, 4, 16, 16) in half precision, of the shipped VAE."""
    _, images = load_data(work)
    vae = AutoencoderKL.from_pretrained(CHECKPOINT / "vae", torch_dtype=torch.float32).eval()
    save(work / "flow_latents.pt", (encode_all(vae, images) * SCALING_FACTOR).half())


def train_flow(work: Path) -> None:
    drawings, _ = load_data(work)
    tokenizer = CLIPTokenizer.from_pretrained(CHECKPOINT / "tokenizer")
    latents = torch.load(work / "flow_latents.pt", weights_only=True)
    trainer = FlowTrainer(latents, drawings, tokenizer, FlowRecipe(), Teacher(CHECKPOINT))
    networks = trainer.run(work / "flow_run.pt")
    save(work / "flow.pt", {name: network.state_dict() for name, network in networks.items()})


def make_few_step_paths(work: Path, name: str, device: torch.device) -> None:
    """paths.pt: see `make_paths`."""
    drawings, _ = load_data(work)
    tokenizer = CLIPTokenizer.from_pretrained(CHECKPOINT / "tokenizer")
    world = FEW_STEP[name][0]().to(device)
    save(work / f"{name}_paths.pt", make_paths(world, drawings, tokenizer, PathRecipe(), device))


def distil(work: Path, name: str, device: torch.device) -> None:
    """NAME: a folder with the LoRA."""
    load_world, recipe = FEW_STEP[name]
    world = load_world().to(device)
    paths = torch.load(work / f"{name}_paths.pt", map_location=device, weights_only=True)
    world.save(work / name, Distiller(world, paths, recipe).run(work / f"{name}_run.pt"))


DATA: Stage = ("images.npy", make_data)
STAGES: list[Stage] = [
    DATA,
    ("vae.pt", train_vae),
    ("latents.pt", make_latents),
    ("denoiser.pt", train_denoiser),
]
FLOW_STAGES: list[Stage] = [
    DATA,
    ("flow_latents.pt", make_flow_latents),
    ("flow.pt", train_flow),
]
FEW_STEP: dict[str, tuple[Callable[[], World], DistilRecipe]] = {
    "tiny-lcm": (lambda: Diffusion(CHECKPOINT), DistilRecipe(iterations=2000)),
    "tiny-flow-turbo": (lambda: Flow(FLOW_CHECKPOINT), DistilRecipe(iterations=1500)),
}


def few_step_stages(name: str, device: torch.device) -> list[Stage]:
    return [
        DATA,
        (f"{name}_paths.pt", partial(make_few_step_paths, name=name, device=device)),
        (name, partial(distil, name=name, device=device)),
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--work", type=Path, default=WORK, help="folder for intermediate files")
    parser.add_argument("--out", type=Path, help="folder for the checkpoint")
    parser.add_argument("--flow", action="store_true", help="train the transformer of builtin:tiny-flow")
    parser.add_argument("--few-step", choices=FEW_STEP, help="train a LoRA of few steps instead")
    parser.add_argument("--device", type=torch.device, default="cpu", help="where LoRAs of few steps are trained")
    args = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", datefmt="%H:%M:%S")
    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "1")))
    args.work.mkdir(parents=True, exist_ok=True)
    few_step = args.few_step and few_step_stages(args.few_step, args.device)
    for result, stage in few_step or (FLOW_STAGES if args.flow else STAGES):
        if not (args.work / result).exists():
            start = time.perf_counter()
            stage(args.work)
            log.info("%s took %.0f s", result, time.perf_counter() - start)
    if args.few_step:
        export_lora(args.work / args.few_step, args.out or BUILTIN / args.few_step)
    elif args.flow:
        export_flow(args.work, args.out or FLOW_CHECKPOINT, CHECKPOINT)
    else:
        export(args.work, args.out or CHECKPOINT)


if __name__ == "__main__":
    main()
