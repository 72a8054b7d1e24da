"""Load a checkpoint, once."""

from __future__ import annotations

import functools
import inspect
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, cast

import torch

from schedcmp.checkpoint import layout
from schedcmp.checkpoint.cache import caching
from schedcmp.checkpoint.elsewhere import BESIDE, Elsewhere
from schedcmp.checkpoint.embeddings import learn
from schedcmp.checkpoint.given import Given
from schedcmp.checkpoint.ip_adapter import see
from schedcmp.checkpoint.kinds import GGUF
from schedcmp.checkpoint.optimize import optimize
from schedcmp.checkpoint.quantize import config as quantization
from schedcmp.checkpoint.quantize import refuse_device
from schedcmp.checkpoint.quiet import quiet
from schedcmp.checkpoint.source import Checkpoint
from schedcmp.checkpoint.view import only
from schedcmp.errors import CheckpointError, PartError, RequestError, one_line
from schedcmp.guard import shortage
from schedcmp.pipelines.packages import install
from schedcmp.registry.postpone import STATISTICS, postponed

if TYPE_CHECKING:
    from diffusers import DiffusionPipeline

_PROCESSOR = re.compile(r'"([A-Z]\w*Processor)"')  # the name of a class of transformers in a config
_DTYPES = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}


def resolve_device(device: str) -> str:
    """A device that is there: "auto" is the first of cuda, mps and cpu.

    Raises:
        RequestError: this machine has no such device.
    """
    there = {
        "cuda": torch.cuda.device_count() if torch.cuda.is_available() else 0,
        "mps": int(torch.backends.mps.is_available()),
        "xpu": torch.xpu.device_count() if torch.xpu.is_available() else 0,
        "cpu": 1,
    }
    if device == "auto":
        return next(name for name in ("cuda", "mps", "cpu") if there[name])
    kind, _, index = device.partition(":")
    if kind in there and (index or "0").isdecimal() and int(index or 0) < there[kind]:
        return device
    seen = ", ".join(f"{name}:{i}" if count > 1 else name for name, count in there.items() for i in range(count))
    raise RequestError(f"device {device!r} is not there (torch {torch.__version__} sees {seen}); use 'auto'.")


def resolve_dtype(dtype: str, device: str) -> torch.dtype:
    """ "auto" is fp16 on a GPU (cuda, mps, xpu) and fp32 on a CPU.

    Raises:
        RequestError: no such dtype.
    """
    if dtype == "auto":
        return torch.float32 if device.startswith("cpu") else torch.float16
    if dtype not in _DTYPES:
        raise RequestError(f"dtype {dtype!r} is unknown; use auto, {', '.join(_DTYPES)}.")
    return _DTYPES[dtype]


def load(
    checkpoint: Checkpoint,
    device: str = "auto",
    dtype: str = "auto",
    optimizations: Mapping[str, Any] = MappingProxyType({}),
    vae_dtype: str | None = None,
) -> DiffusionPipeline:
    """The checkpoint's pipeline, in evaluation mode on the device, with its progress bars off; one that the caller has
    loaded stays as it is.

    Args:
        checkpoint: what `inspect` found.
        device: as `resolve_device` takes it.
        dtype: as `resolve_dtype` takes it.
        optimizations: as `optimize` takes them.
        vae_dtype: the VAE's own, as `resolve_dtype` takes it; None: as the other models.

    Raises:
        CheckpointError: the weights do not fit the configs or the device, or diffusers cannot load them.
        RequestError: no such device or dtype, or an optimization that this pipeline does not have.
    """
    if isinstance(checkpoint, Given):
        return cast("DiffusionPipeline", checkpoint.ready())
    target = resolve_device(device)
    torch_dtype = resolve_dtype(dtype, target)
    refuse_device(checkpoint.quantized, target)
    try:
        with quiet() as messages, _recorded_gaps() as gaps, postponed(*STATISTICS):  # diffusers imports all schedulers
            _refuse_missing_packages(checkpoint)
            pipeline = _build(checkpoint, torch_dtype, resolve_dtype(vae_dtype, target) if vae_dtype else None)
            _refuse_gaps(checkpoint, messages, gaps)
            _try_cache(checkpoint, pipeline)
            if not optimizations.get("offload"):
                pipeline.to(target)
    except CheckpointError:
        raise
    except Exception as error:
        if shortage.of_memory(error):
            half = "bf16" if target.startswith("cpu") else "fp16"
            raise CheckpointError(
                f"{checkpoint.name} does not fit into the memory of {target}; use dtype {half} or another device."
            ) from error
        reason = shortage.told(error) or one_line(error)
        if "meta tensor" in reason:  # with accelerate, from_single_file leaves missing weights on torch's meta device
            reason = "it lacks weights that its configs name; fetch it again."
        raise CheckpointError(f"{checkpoint.path} cannot be loaded: {reason}") from error
    for component in pipeline.components.values():
        if isinstance(component, torch.nn.Module):
            component.eval()  # not requires_grad_(False): torch multiplies other shapes then, and rounds otherwise
    if vae_dtype and getattr(pipeline, "vae", None) is not None:
        _take_other_dtypes(pipeline.vae)
    pipeline.set_progress_bar_config(disable=True)
    optimize(pipeline, optimizations, target)
    return cast("DiffusionPipeline", pipeline)


def _build(checkpoint: Checkpoint, dtype: torch.dtype, vae_dtype: torch.dtype | None) -> Any:
    pipeline_class = _pipeline_class(checkpoint)
    files = [file for file in (*checkpoint.content, *checkpoint.beside) if file.name]  # a single file's has none
    with only(files) as folder:
        try:
            pipeline = _load_from(folder, checkpoint, pipeline_class, dtype, vae_dtype)
            learn(pipeline, checkpoint.embeddings, folder)
            if checkpoint.ip_adapter:
                see(pipeline, folder)
            return pipeline
        except Exception as error:
            error.args = tuple(str(arg).replace(str(folder), str(checkpoint.config_folder)) for arg in error.args)
            raise


def _load_from(
    folder: Path, checkpoint: Checkpoint, pipeline_class: Any, dtype: torch.dtype, vae_dtype: torch.dtype | None
) -> Any:
    options: dict[str, Any] = {"torch_dtype": dtype}  # renamed to dtype after diffusers 0.38, which ignores that name
    # SDXL writes a watermark into its images where the optional package is there; it spoils pixel metrics.
    unwanted: dict[str, Any] = {"add_watermarker": False}
    if not checkpoint.spec.safety_checker:
        unwanted |= {layout.SAFETY_CHECKER: None, "requires_safety_checker": False}
    unwanted |= dict.fromkeys(layout.absent(layout.read_json(folder / layout.MODEL_INDEX)))
    takes = inspect.signature(pipeline_class.__init__).parameters
    options |= {name: value for name, value in unwanted.items() if name in takes}
    configs = _quantization(folder, checkpoint, dtype)
    for part in checkpoint.elsewhere:
        own = vae_dtype if part.name == "vae" and vae_dtype else dtype
        options[part.name] = _load_elsewhere(folder, checkpoint, part, own, configs.pop(part.name, None))
    if checkpoint.kind == "folder":
        if vae_dtype:  # not cast later: what fp16 has rounded stays so
            options["torch_dtype"] = {"vae": vae_dtype, "default": dtype}
        if configs:
            from diffusers import PipelineQuantizationConfig

            options["quantization_config"] = PipelineQuantizationConfig(quant_mapping=configs)
        return pipeline_class.from_pretrained(
            folder,
            variant=checkpoint.variant,
            use_safetensors=True,
            trust_remote_code=False,
            local_files_only=True,
            **options,
        )
    if not hasattr(pipeline_class, "from_single_file"):
        raise CheckpointError(
            f"{checkpoint.path}: diffusers loads no {checkpoint.pipeline_class} from one file; give a folder."
        )
    if vae_dtype and "vae" in takes and "vae" not in options:
        options["vae"] = _vae_of_file(checkpoint, folder, vae_dtype)
    return pipeline_class.from_single_file(str(checkpoint.path), config=str(folder), local_files_only=True, **options)


def _quantization(folder: Path, checkpoint: Checkpoint, dtype: torch.dtype) -> dict[str, Any]:
    """The configs of the components that are to be quantised."""
    index = layout.read_json(folder / layout.MODEL_INDEX)
    return {name: quantization(index[name][0], method, dtype) for name, method in checkpoint.quantized.items()}


def _vae_of_file(checkpoint: Checkpoint, folder: Path, dtype: torch.dtype) -> Any:
    library, name = layout.read_json(folder / layout.MODEL_INDEX)["vae"]
    cls = getattr(import_module(library), name)
    return cls.from_single_file(
        str(checkpoint.path), config=str(folder), subfolder="vae", torch_dtype=dtype, local_files_only=True
    )


def _load_elsewhere(
    folder: Path, checkpoint: Checkpoint, part: Elsewhere, dtype: torch.dtype, quantization_config: Any
) -> Any:
    """A component that the checkpoint takes from elsewhere; its files are in `folder`, as one of its own would be."""
    index = layout.read_json(folder / layout.MODEL_INDEX)
    library, class_name = BESIDE.get(part.name) or index[part.name]
    name = layout.read_json(part.config).get("_class_name", class_name)
    if library not in layout.LIBRARIES:
        raise CheckpointError(f"{checkpoint.path}: {part.name} is of {library}, which cannot be taken from elsewhere.")
    cls = getattr(import_module(library), name)
    options: dict[str, Any] = {"torch_dtype": dtype, "local_files_only": True}
    if quantization_config:
        options["quantization_config"] = quantization_config
    if part.path.is_dir() or not hasattr(cls, "from_single_file"):
        return cls.from_pretrained(folder / part.name, use_safetensors=True, **options)
    if part.path.suffix == GGUF:
        from diffusers import GGUFQuantizationConfig

        options["quantization_config"] = GGUFQuantizationConfig(compute_dtype=dtype)
    return cls.from_single_file(str(part.path), config=str(folder), subfolder=part.name, **options)


def _take_other_dtypes(vae: Any) -> None:
    """Let a VAE take images and latents of another dtype than its own; not all pipelines cast them."""

    def cast_to_its(value: Any) -> Any:
        return value.to(vae.dtype) if isinstance(value, torch.Tensor) else value

    for name in ("encode", "decode"):
        method = getattr(vae, name)

        @functools.wraps(method)
        def casting(*args: Any, method: Any = method, **kwargs: Any) -> Any:
            return method(*map(cast_to_its, args), **{key: cast_to_its(value) for key, value in kwargs.items()})

        setattr(vae, name, casting)


def _pipeline_class(checkpoint: Checkpoint) -> Any:
    import diffusers

    found = getattr(diffusers, checkpoint.pipeline_class, None)
    if not (isinstance(found, type) and issubclass(found, diffusers.DiffusionPipeline)):
        raise CheckpointError(
            f"{checkpoint.name} is a {checkpoint.pipeline_class}, which diffusers {diffusers.__version__}"
            " does not have; upgrade diffusers or use another checkpoint."
        )
    return found


def _refuse_missing_packages(checkpoint: Checkpoint) -> None:
    """Raises CheckpointError where transformers has but a placeholder of a processor's class, or of a part of it."""
    import transformers

    index = layout.read_json(checkpoint.config_folder / layout.MODEL_INDEX)
    for part in layout.components(index, (), str(checkpoint.path)):
        folder = checkpoint.config_folder / part.name
        texts = [path.read_text(encoding="utf-8") for path in sorted(folder.glob("*processor_config.json"))]
        classes = [getattr(transformers, name, None) for name in dict.fromkeys(_PROCESSOR.findall("".join(texts)))]
        if missing := sorted({package for cls in classes for package in getattr(cls, "_backends", ())}):
            needs = f"its {part.name} needs {', '.join(missing)}: {install(missing)}"
            raise CheckpointError(f"{checkpoint.name}: {needs}")


def _try_cache(checkpoint: Checkpoint, pipeline: Any) -> None:
    try:
        with caching(pipeline, checkpoint.cache, 1):
            pass
    except ValueError as error:
        raise PartError(("cache",), f"{', '.join(checkpoint.cache)} cannot be had: {one_line(error)}") from error


def _refuse_gaps(checkpoint: Checkpoint, messages: list[str], gaps: list[str]) -> None:
    # diffusers and transformers fill missing weights with random numbers and only log it.
    logged = [text for text in messages if "newly initialized" in text]
    if gaps or logged:
        detail = ", ".join(gaps[:3]) or " ".join(logged[0].split())
        raise CheckpointError(f"{checkpoint.path} lacks weights that its configs name: {detail}; fetch it again.")


@contextmanager
def _recorded_gaps() -> Iterator[list[str]]:
    """Yields the names of parameters that load_state_dict() leaves at random values: `from_single_file`
    asks for strict=False and drops the answer."""
    original: Any = torch.nn.Module.load_state_dict
    gaps: list[str] = []

    def recording(module: torch.nn.Module, *args: Any, **kwargs: Any) -> Any:
        result = original(module, *args, **kwargs)
        state = module.state_dict()
        # A tied weight is missing under one of its names only.
        filled = {state[name].data_ptr() for name in state.keys() - set(result.missing_keys)}
        missing = (name for name in result.missing_keys if name in state)
        gaps.extend(name for name in missing if state[name].data_ptr() not in filled)
        return result

    torch.nn.Module.load_state_dict = recording  # type: ignore[method-assign,assignment]
    try:
        yield gaps
    finally:
        torch.nn.Module.load_state_dict = original  # type: ignore[method-assign]
