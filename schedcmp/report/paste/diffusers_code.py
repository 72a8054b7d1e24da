"""A cell as a program: executed, it makes the same image as the cell does alone, bit for bit."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from schedcmp.axes import arguments_of, plain_name
from schedcmp.checkpoint.elsewhere import BESIDE, IMAGE_ENCODER
from schedcmp.checkpoint.source import GIVEN
from schedcmp.pictures.video import frame_ms
from schedcmp.pipelines.arguments import as_taken
from schedcmp.pipelines.guidance import spelled_guidance
from schedcmp.records import Cell, CellResult
from schedcmp.registry.build import load_class
from schedcmp.registry.entry import DEFAULT_SIGMAS
from schedcmp.report.paste.parts_code import parts
from schedcmp.report.paste.spelling import spelling
from schedcmp.report.paste.subject import Subject
from schedcmp.spacing.written import read_levels
from schedcmp.store.images import name_of, stem_of
from schedcmp.sweep.keys import SEEN

_BUILTIN, _ENCODER = "builtin:", BESIDE[IMAGE_ENCODER][1]
_TORCH = {"float32": "torch.float32", "float16": "torch.float16", "bfloat16": "torch.bfloat16"}


def write(subject: Subject) -> str:
    """Imports, the pipeline, its scheduler with all options that are not the class's defaults, the call."""
    pipeline, scheduler = [*_pipeline(subject)], [*_scheduler(subject)]
    body = [*pipeline, *scheduler, *_call(subject)]
    return "\n".join([*_imports(subject, "\n".join(body)), "", *body]) + "\n"


def _imports(subject: Subject, body: str) -> Iterator[str]:
    if "partial(" in body:
        yield "from functools import partial"
    if "files(" in body:
        yield "from importlib.resources import files\n"
    yield "import torch"
    if "ImageOps." in body:
        yield "from PIL import Image, ImageOps"
    known = (_class(subject), subject.environment["pipeline"], "AutoencoderKL", "AutoModel", "GGUFQuantizationConfig")
    names = {name for name in known if f"{name}." in body or f"{name}(" in body}
    if names:
        yield f"from diffusers import {', '.join(sorted(names))}"
    if "python" in subject.model:
        yield f"import {subject.model['python'].rpartition('.')[0]}"
    if f"{_ENCODER}." in body:
        yield f"from transformers import {_ENCODER}"
    if "load_file(" in body:
        yield "from safetensors.torch import load_file"
    if "schedcmp." in body:
        yield "\nimport schedcmp"
    if "Embedder(" in body:
        yield "\nfrom schedcmp.checkpoint.emphasis import Embedder"


def _pipeline(subject: Subject) -> Iterator[str]:
    model, environment = subject.model, subject.environment
    dtype = _TORCH[environment["dtype"]]
    if "python" in model:
        yield f"pipe = {model['python']}(**{model['options']!r})"
        return
    if model["id"].startswith(GIVEN):
        yield f"pipe = ...  # the {environment['pipeline']} that was handed to schedcmp.run"
        return
    argument = "torch_dtype" if environment["diffusers"].startswith("0.38.") else "dtype"  # its name since then
    options = {argument: dtype}
    options |= {name: repr(model[name]) for name in ("revision", "variant", "config") if model.get(name)}
    if model.get("vae"):
        method = "from_single_file" if model["vae"].endswith(".safetensors") else "from_pretrained"
        options["vae"] = f"AutoencoderKL.{method}({model['vae']!r}, {argument}={dtype})"
    if subject.sweep.get("controlnet"):
        options["controlnet"] = f"AutoModel.from_pretrained({subject.sweep['controlnet']!r}, {argument}={dtype})"
    if encoder := (subject.sweep.get("ip_adapter") or {}).get(IMAGE_ENCODER):
        options[IMAGE_ENCODER] = f"{_ENCODER}.from_pretrained({encoder!r}, {argument}={dtype})"
    if not subject.sweep.get("safety_checker", True):
        options |= {"safety_checker": "None", "requires_safety_checker": "False"}
    method = "from_single_file" if model["id"].endswith(".safetensors") else "from_pretrained"
    arguments = ", ".join([_place(model["id"]), *(f"{name}={value}" for name, value in options.items())])
    yield f"pipe = {environment['pipeline']}.{method}({arguments})"
    yield from parts(model, _place(model["id"]), f"{argument}={dtype}")
    yield from _ip_adapter(subject)
    if environment["device"] != "cpu":
        yield f'pipe.to("{environment["device"]}")'
    if "vae_dtype" in environment:
        yield f"pipe.vae.to({_TORCH[environment['vae_dtype']]})  # schedcmp casts its latents too"
    for name, value in (environment.get("optimize") or {}).items():
        yield f"# the run had optimize: {{{name}: {value}}}"
    yield from _adapters(subject)


def _adapters(subject: Subject) -> Iterator[str]:
    weights = {}
    for i, (place, file, weight, _) in enumerate(subject.cell.adapters):
        weights[f"lora{i}"] = weight
        named = f", weight_name={file!r}" if file else ""
        yield f'pipe.load_lora_weights({_place(place)}{named}, adapter_name="lora{i}")'
    if weights:
        yield f"pipe.set_adapters({[*weights]!r}, {[*weights.values()]!r})"


def _ip_adapter(subject: Subject) -> Iterator[str]:
    if adapter := subject.sweep.get("ip_adapter"):
        path = Path(adapter["path"])
        names = f"{str(path.parent)!r}, subfolder='', weight_name={path.name!r}"
        yield f"pipe.load_ip_adapter({names}, {IMAGE_ENCODER}_folder=None)"
        yield f"pipe.set_ip_adapter_scale({subject.cell.ip_adapter_scale!r})"


def _place(model: str) -> str:
    if model.startswith(_BUILTIN):
        return f'files("schedcmp") / "builtin" / "{model.removeprefix(_BUILTIN)}"'
    return repr(model)


def _spelling(subject: Subject) -> Mapping[str, Any]:
    """As the run has kept it, so that no library is loaded."""
    if subject.spelling is not None:
        return subject.spelling
    classes = [] if "." in _class(subject) else [load_class(_class(subject))]
    return spelling(subject.environment["pipeline"], classes)


def _class(subject: Subject) -> str:
    return str(subject.config["_class_name"])


def _scheduler(subject: Subject) -> Iterator[str]:
    """By its constructor, or by schedcmp where no options of diffusers' classes say it."""
    config = subject.config
    if "." in _class(subject) or "_levels" in config or subject.cell.shift:
        yield f"pipe.scheduler = schedcmp.build({_built(subject)})"
        return
    defaults = _spelling(subject)["defaults"][_class(subject)]
    options = {name: value for name, value in config.items() if name in defaults and value != defaults[name]}
    if subject.entry and subject.entry.seed:
        options[subject.entry.seed] = subject.cell.seed
    yield f"pipe.scheduler = {_class(subject)}("
    yield from (f"    {name}={value!r}," for name, value in options.items())
    yield ")"


def _built(subject: Subject) -> str:
    cell, entry = subject.cell, subject.entry
    arguments: dict[str, Any] = {}
    name = cell.base
    if cell.sigma_schedule != DEFAULT_SIGMAS:
        own = entry is not None and read_levels(entry.sigmas.levels)
        arguments["sigmas"] = entry.sigmas.levels if entry and own else cell.sigma_schedule
    if entry and entry.origin == "sweep":
        name, arguments["options"] = entry.cls, {**entry.unless, **entry.options}
    if cell.shift:
        arguments["shift"] = cell.shift
    if entry and entry.seed:
        arguments["seed"] = cell.seed
    return ", ".join([repr(name), "pipe", *(f"{key}={value!r}" for key, value in arguments.items())])


def _call(subject: Subject) -> Iterator[str]:
    cell = subject.cell
    where = "cpu" if subject.sweep.get("generator", "cpu") == "cpu" else subject.environment["device"]
    yield f'generator = torch.Generator("{where}").manual_seed({cell.seed})'
    if "shift" in subject.config or subject.config.get("use_flow_sigmas"):
        yield from _handed_on(subject)
    yield from _images(subject)
    spelled = _spelling(subject)
    known = spelled.get("guidance", ["guidance_scale"])
    guidance = spelled_guidance(known, cell.guidance_scale, cell.negative_prompt, cell.arguments)
    yield from _texts(
        cell, guidance.pop("negative_prompt", ""), "image" if subject.stored.result.fps is None else "video"
    )
    yield f"    num_inference_steps={cell.steps},"
    yield from (f"    {name}={value!r}," for name, value in guidance.items())
    if cell.width and cell.height and spelled["sized"]:
        yield f"    width={cell.width}, height={cell.height},"
    names, called = spelled["images"], spelled.get("called", {})
    own = {called.get(name, name): value for name, value in arguments_of(cell).items()}
    yield from (f"    {names[key]}={key}," for key in cell.images)
    more = own | as_taken(spelled.get("tuples", ()), cell.arguments)
    yield from (f"    {name}={value!r}," for name, value in more.items())
    yield "    generator=generator,"
    yield from _result(subject.stored.result)


def _result(made: CellResult) -> Iterator[str]:
    """What the call returns; a video is saved, since nothing shows its frames."""
    if made.fps is None:
        yield ").images[0]"
        return
    yield '    output_type="pil",'
    yield ").frames[0]"
    yield f'video[0].save("video.webp", save_all=True, append_images=video[1:], duration={frame_ms(made.fps)})'


def _texts(cell: Cell, negative: str, name: str) -> Iterator[str]:
    """The call begins with the prompts."""
    if cell.prompt_syntax:
        yield f"texts = Embedder(pipe).arguments({cell.prompt!r}, {cell.negative_prompt or None!r}, ())"
        yield f"{name} = pipe("
        yield "    **texts,"
        return
    yield f"{name} = pipe("
    yield f"    {cell.prompt!r},"
    if negative:
        yield f"    negative_prompt={negative!r},"


def _images(subject: Subject) -> Iterator[str]:
    """The files, as `inputs.pictures` brings them to the size."""
    for key, token in subject.cell.images.items():
        path = next(path for path, name in _named(subject.sweep[key]) if name == plain_name(token))
        resampling = "NEAREST" if key == "mask" else "LANCZOS"
        image = f'ImageOps.exif_transpose(Image.open({path!r})).convert("RGB")'
        fitted = f"ImageOps.fit({image}, {subject.size}, Image.Resampling.{resampling})"
        yield f"{key} = {image if key == SEEN else fitted}"
    if subject.cell.images:
        yield f"torch.manual_seed({subject.cell.seed})"


def _named(items: Iterable[Any]) -> Iterator[tuple[str, str]]:
    """The files of a resolved sweep's key, and what cells call them."""
    for item in items:
        if isinstance(item, dict):  # those of an earlier run
            yield from ((f"{item['run']}/{file}", name_of(file)) for file in item["file"])
        else:
            yield item, stem_of(Path(item))


def _handed_on(subject: Subject) -> Iterator[str]:
    """Pipelines for flow matching hand the scheduler no generator, as `engine.guarded.seeded` does."""
    if subject.entry and subject.entry.noise:
        yield "# where noise is drawn in each step: the pipeline does not hand its generator on"
        yield "pipe.scheduler.generator = generator"
        yield "pipe.scheduler.step = partial(pipe.scheduler.step, generator=generator)"
