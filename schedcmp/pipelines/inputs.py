"""What a pipeline wants beside a prompt: images, and channels that latents do not have."""

from __future__ import annotations

import ast
import re
from collections.abc import Collection, Iterator

from schedcmp.pipelines.arithmetic import Arithmetic, Configs
from schedcmp.pipelines.missing import read_without
from schedcmp.pipelines.source import PipelineSource, pipeline_source

_IMAGE = re.compile(r"(.+_)?(image|mask|video)")
_ALWAYS_NEEDED = "mask_image"  # of an inpainting pipeline, whatever its annotation
LEADING_MASK = "control_mask"  # of a pipeline whose ControlNet sees an image and its mask
_OPTIONAL = re.compile(r"\b(None|Optional)\b")
OUTPUTS = ("images", "image", "frames")  # what pipelines call what they return
_REMEDY = "give a checkpoint for text to image"
# By the channels that their denoisers read beside the latents', in latents of 4 channels
_MASKED = 5
_KINDS = {
    _MASKED: "a mask and a masked image, as for inpainting",
    4: "an image to edit",
    1: "a depth map",
    3: "a small image",
}
_TIME_IDS = {5: "it is an SDXL refiner, which needs an image to refine", 6: ""}  # by the numbers it is told of a size


def unfit(pipeline: str, configs: Configs, given: Collection[str] = ()) -> str:
    """Why a checkpoint makes no image from a prompt and what else is given; empty if it does, or if its pipeline is not
    known.

    Args:
        given: arguments of the pipeline's call that the sweep has images for.
    """
    source = pipeline_source(pipeline)
    return next(_misfits(source, configs, given), "") if source else ""


def needs(pipeline: str) -> list[str]:
    """Arguments without which the call fails, `prompt` apart; none of a pipeline that is not known."""
    source = pipeline_source(pipeline)
    return _needs(source) if source else []


def argument_names(pipeline: str) -> dict[str, str]:
    """Key of a sweep → argument of the pipeline's call, for the images that it takes."""
    source = pipeline_source(pipeline)
    takes = source.arguments if source else {}
    names = {"image": "image", "mask": "mask_image", "control_image": "control_image"}
    if leads_by_mask(pipeline):
        names = {"image": "control_image", "mask": LEADING_MASK}
    elif "ControlNet" in pipeline and "control_image" not in takes:
        names = {"control_image": "image"}
    names["ip_adapter_image"] = "ip_adapter_image"
    return {key: name for key, name in names.items() if name in takes}


def leads_by_mask(pipeline: str) -> bool:
    """Whether its ControlNet is what sees an image and its mask, in inpainting that begins with noise alone."""
    source = pipeline_source(pipeline)
    return source is not None and LEADING_MASK in source.arguments


def _misfits(source: PipelineSource, configs: Configs, given: Collection[str]) -> Iterator[str]:
    if wanting := [name for name in _needs(source) if name not in given]:
        known = {argument: key for key, argument in argument_names(source.name).items()}
        keys = [known.get(name, "") for name in wanting]
        told = f"give it with the key {keys[0]}, as in {keys[0]}: FILE" if all(keys) else _REMEDY
        yield f"its pipeline, {source.name}, needs {_listed(wanting)}; {told}"
    if "prompt" not in source.arguments:
        yield f"its pipeline, {source.name}, takes no prompt; {_REMEDY}"
    if made := _makes(source):
        yield f"its pipeline, {source.name}, gives {made} and no images; {_REMEDY}"
    yield from _more_channels(source, configs, given)
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
    named = returned(source)
    return "" if not named or any(found & {*OUTPUTS} for found in named) else _listed(sorted(named[0]))


def returned(source: PipelineSource) -> list[set[str]]:
    """The names of what the call returns, of each place where it does."""
    calls = [n.value for n in source.walk("__call__") if isinstance(n, ast.Return) and isinstance(n.value, ast.Call)]
    names = [{k.arg for k in call.keywords if k.arg} for call in calls if not call.args]
    return [found for found in names if found]


def _more_channels(source: PipelineSource, configs: Configs, given: Collection[str]) -> Iterator[str]:
    if _ALWAYS_NEEDED in given:  # inpainting's take both kinds of denoisers
        return
    latents = Arithmetic(source, configs, "__call__")
    wanted = source.assigned("num_channels_latents", "__call__")
    reads = latents.value(wanted[0]) if wanted else configs("unet").get("in_channels") if given else None
    has = configs("vae").get("latent_channels")
    if isinstance(reads, int) and isinstance(has, int) and reads > has:
        kind = _KINDS.get(reads - has, "an image")
        told = "add `image` and `mask`" if reads - has == _MASKED else _REMEDY
        yield f"its denoiser reads {reads} channels, and its VAE's latents have {has}: it needs {kind}; {told}"


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
