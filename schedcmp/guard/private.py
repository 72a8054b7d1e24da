"""What other libraries keep to themselves and schedcmp cannot do without: here, and nowhere else.

A release may rename it. `_kept` then says so, and for which release this was written; a test looks for all of it in the
releases that are installed. What is asked with a default may be missing, and says something by that. No torch here
before it is needed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from importlib.metadata import version
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from schedcmp.errors import RunError

if TYPE_CHECKING:
    import torch

WRITTEN_FOR = {"diffusers": "0.42.1", "torch": "2.13.0", "ray": "2.60.0"}


def _kept(library: str, owner: Any, name: str) -> Any:
    """An attribute that is not public. Raises RunError if this release does not have it."""
    try:
        return getattr(owner, name)
    except AttributeError as error:
        kind = owner.__name__ if isinstance(owner, type) or hasattr(owner, "__spec__") else type(owner).__name__
        raise RunError(
            f"{library} {version(library)} has no {kind}.{name}, which it had in {WRITTEN_FOR[library]}:"
            f' pip install "{library}=={WRITTEN_FOR[library]}", or a newer schedcmp'
        ) from error


def execution_device(pipeline: Any) -> torch.device:
    """Where a pipeline's models compute; with offload, they wait elsewhere."""
    import torch

    return torch.device(_kept("diffusers", pipeline, "_execution_device"))


def knowing_its_device(pipeline: Any, device: torch.device) -> type:
    """A pipeline's class for that device: diffusers looks through all modules at every question, which takes longer
    than many a scheduler's step."""
    _kept("diffusers", type(pipeline), "_execution_device")
    return type(type(pipeline).__name__, (type(pipeline),), {"device": device, "_execution_device": device})


def answer_with_levels(scheduler: Any, levels: Callable[..., Any]) -> None:
    """Let a scheduler that was built with `use_karras_sigmas` take other noise levels instead."""
    _kept("diffusers", scheduler, "_convert_to_karras")
    scheduler._convert_to_karras = levels


def knows_its_step(scheduler_class: type) -> bool:
    """Whether a class keeps its noise levels, and its place among them, as diffusers' do."""
    return hasattr(scheduler_class, "_init_step_index")


def compatible_names(scheduler_class: type) -> tuple[str, ...]:
    """What `compatibles` has, before classes are looked up by these names."""
    return tuple(getattr(scheduler_class, "_compatibles", ()))


def lora_models(pipeline: Any) -> Iterator[torch.nn.Module]:
    """Those of its models that can wear LoRAs."""
    import torch

    models = (getattr(pipeline, name, None) for name in _kept("diffusers", pipeline, "_lora_loadable_modules"))
    return (model for model in models if isinstance(model, torch.nn.Module))


def has_attention_backends(model: torch.nn.Module) -> bool:
    """Whether there is a choice: diffusers ignores the setting without a word where there is none."""
    return any(hasattr(getattr(module, "processor", None), "_attention_backend") for module in model.modules())


def has_repeated_blocks(model: torch.nn.Module) -> bool:
    """Whether `compile_repeated_blocks` has any to compile."""
    return bool(getattr(model, "_repeated_blocks", None))


def single_file_config(shapes: Mapping[str, tuple[int, ...]]) -> Mapping[str, Any]:
    """What diffusers takes a single file for. Its tests look at names and shapes only, so that the header is enough."""
    from diffusers.loaders import single_file_utils

    fetch = _kept("diffusers", single_file_utils, "fetch_diffusers_config")
    found: Mapping[str, Any] = fetch({name: SimpleNamespace(shape=shape) for name, shape in shapes.items()})
    return found


def tree_map(function: Callable[..., Any], *trees: Any, is_leaf: Callable[[Any], bool]) -> Any:
    """Over the leaves of tuples, lists, dictionaries and diffusers' outputs."""
    return _trees().tree_map(function, *trees, is_leaf=is_leaf)


def tree_map_tensors(function: Callable[[torch.Tensor], Any], tree: Any) -> Any:
    """As `tree_map`, over leaves that are tensors; others stay."""
    import torch

    return _trees().tree_map_only(torch.Tensor, function, tree)


def _trees() -> Any:
    import torch

    return _kept("torch", torch.utils, "_pytree")


def changes_of(tensor: torch.Tensor) -> int:
    """How often it was written to; what inference mode made cannot be changed outside of it."""
    return 0 if tensor.is_inference() else int(tensor._version)


def allow_recompiling(times: int) -> None:
    """Let torch.compile make so many programs of one function before it gives up."""
    import torch

    config = _kept("torch", torch, "_dynamo").config
    config.recompile_limit = max(times, _kept("torch", config, "recompile_limit"))


def mps_generator() -> torch.Generator:
    """The default one of a Mac's GPU."""
    import torch

    generator: torch.Generator = _kept("torch", torch.mps, "_get_default_mps_generator")()
    return generator


def silence_obituaries(ray: Any) -> None:
    """Of Ray's workers that died; what we say of them is shorter."""
    worker = _kept("ray", _kept("ray", ray, "_private"), "worker")
    _kept("ray", worker, "_worker_logs_enabled")
    worker._worker_logs_enabled = False
