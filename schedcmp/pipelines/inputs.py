"""What a pipeline wants beside a prompt: images that a sweep cannot give, and channels that latents do not have."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator

from schedcmp.pipelines.arithmetic import Arithmetic, Configs
from schedcmp.pipelines.missing import read_without
from schedcmp.pipelines.source import PipelineSource, pipeline_source

_IMAGE = re.compile(r"(.+_)?(image|mask|video)")
_ALWAYS_NEEDED = "mask_image"  # of an inpainting pipeline, whatever its annotation
_OPTIONAL = re.compile(r"\b(None|Optional)\b")
OUTPUTS = ("images", "image")  # what pipelines call what they return
_REMEDY = "give a checkpoint for text to image"
# By the channels that their denoisers read beside the latents', in latents of 4 channels
_KINDS = {
    5: "a mask and a masked image, as for inpainting",
    4: "an image to edit",
    1: "a depth map",
    3: "a small image",
}
_TIME_IDS = {5: "it is an SDXL refiner, which needs an image to refine", 6: ""}  # by the numbers it is told of a size


def unfit(pipeline: str, configs: Configs) -> str:
    """Why a checkpoint makes no image from a prompt alone; empty if it does, or if its pipeline is not known."""
    source = pipeline_source(pipeline)
    return next(_misfits(source, configs), "") if source else ""


def _misfits(source: PipelineSource, configs: Configs) -> Iterator[str]:
    if needs := _needs(source):
        yield f"its pipeline, {source.name}, needs {_listed(needs)}, and a sweep gives a prompt alone; {_REMEDY}"
    if "prompt" not in source.arguments:
        yield f"its pipeline, {source.name}, takes no prompt; {_REMEDY}"
    if made := _makes(source):
        yield f"its pipeline, {source.name}, gives {made} and no images; {_REMEDY}"
    yield from _more_channels(source, configs)
    yield from _other_embeddings(source, configs)


def _needs(source: PipelineSource) -> list[str]:
    """Arguments without which the call fails, `prompt` apart: those without a default, and images that may not be None,
    whatever default they have, or are read in any case."""
    call = source.methods["__call__"].args
    positional = [a.arg for a in [*call.posonlyargs, *call.args]]
    without = set(positional[1 : len(positional) - len(call.defaults)]) - {"prompt"}
    return [
        name
        for name, argument in source.arguments.items()
        if name in without or _is_image(argument) or (_IMAGE.fullmatch(name) and read_without(source, name))
    ]


def _is_image(argument: ast.arg) -> bool:
    annotation = ast.unparse(argument.annotation) if argument.annotation else ""
    image = "Image" in annotation or "Tensor" in annotation
    needed = _IMAGE.fullmatch(argument.arg) and not _OPTIONAL.search(annotation)
    return bool(image and needed) or argument.arg == _ALWAYS_NEEDED


def _makes(source: PipelineSource) -> str:
    """What the call returns instead of images."""
    returned = [n.value for n in source.walk("__call__") if isinstance(n, ast.Return) and isinstance(n.value, ast.Call)]
    names = [{k.arg for k in call.keywords if k.arg} for call in returned if not call.args]
    named = [found for found in names if found]
    return "" if not named or any(found & {*OUTPUTS} for found in named) else _listed(sorted(named[0]))


def _more_channels(source: PipelineSource, configs: Configs) -> Iterator[str]:
    latents = Arithmetic(source, configs, "__call__")
    wanted = source.assigned("num_channels_latents", "__call__")
    reads = latents.value(wanted[0]) if wanted else None
    has = configs("vae").get("latent_channels")
    if isinstance(reads, int) and isinstance(has, int) and reads > has:
        kind = _KINDS.get(reads - has, "an image")
        yield f"its denoiser reads {reads} channels, and its VAE's latents have {has}: it needs {kind}; {_REMEDY}"


def _other_embeddings(source: PipelineSource, configs: Configs) -> Iterator[str]:
    """Stable Diffusion XL tells its UNet sizes and crops, and the refiner an aesthetic score instead of two of them."""
    unet, text = configs("unet"), configs("text_encoder_2")
    expected, each = unet.get("projection_class_embeddings_input_dim"), unet.get("addition_time_embed_dim")
    pooled = text.get("projection_dim")
    if source.name != "StableDiffusionXLPipeline" or not (expected and each and pooled):
        return
    told = _TIME_IDS.get((expected - pooled) // each, "its UNet wants other embeddings than its text encoder gives")
    if told:
        yield f"{told}; {_REMEDY}"


def _listed(names: list[str]) -> str:
    *more, last = (f"`{name}`" for name in names)
    return f"{', '.join(more)} and {last}" if more else last
