"""Step caches: transformers that reuse what they computed in earlier steps, by diffusers' `CacheMixin`."""

from __future__ import annotations

import ast
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, fields
from typing import Any

from schedcmp.checkpoint.layout import DENOISERS, denoisers
from schedcmp.checkpoint.quiet import quiet
from schedcmp.checkpoint.source import Checkpoint
from schedcmp.errors import PartError
from schedcmp.pipelines.source import pipeline_source

Options = Mapping[str, Any]
_KEY = ("cache",)
_ATTENTION = re.compile(r"(((temporal|single)_)?transformer_)?blocks.*attn$")  # as TaylorSeer's patterns have it
_EVERY_CALL = "every"  # the name of a pipeline's calls of its denoiser, unless it gives them names itself


@dataclass(frozen=True, slots=True)
class _Method:
    """A row of the table."""

    config: str  # diffusers' class
    given: Callable[[Any, int], Options] = lambda pipeline, evaluations: {}  # unless the sweep says otherwise
    of_any: bool = False  # also of models whose classes have no `CacheMixin`: it changes what attention gives, no more


def _timestep(pipeline: Any) -> Options:
    return {"current_timestep_callback": lambda: pipeline.current_timestep}


METHODS: Mapping[str, _Method] = {
    "first_block": _Method("FirstBlockCacheConfig"),
    "taylorseer": _Method(
        "TaylorSeerCacheConfig", lambda pipeline, n: {"taylor_factors_dtype": pipeline.dtype}, of_any=True
    ),
    "mag": _Method("MagCacheConfig", lambda pipeline, n: {"num_inference_steps": n}),
    "pyramid": _Method(
        "PyramidAttentionBroadcastConfig",
        lambda pipeline, n: {"spatial_attention_block_skip_range": 2, **_timestep(pipeline)},
    ),
    "faster": _Method(
        "FasterCacheConfig",
        lambda pipeline, n: {"tensor_format": "BCHW", "is_guidance_distilled": True, **_timestep(pipeline)},
    ),
}


def refuse_cache(checkpoint: Checkpoint, evaluations: int) -> None:
    """Raises PartError where a checkpoint's model or pipeline has no step caches, or such a cache not these options.

    Args:
        evaluations: of the denoiser at each timestep, at most.
    """
    for method, options in checkpoint.cache.items():
        _refuse_options(method, options)
        for config in filter(None, map(checkpoint.config, DENOISERS)):
            _refuse_model(method, str(config.get("_class_name")), config)
        if evaluations > 1 and not _names_its_calls(checkpoint.pipeline_class):
            raise PartError(
                _KEY,
                f"{checkpoint.pipeline_class} calls its denoiser {evaluations} times at each step, and tells no step"
                " cache which call it is; leave it out.",
            )


def _refuse_model(method: str, name: str, config: Mapping[str, Any]) -> None:
    import diffusers

    cls = getattr(diffusers, name, None)
    if hasattr(cls, "enable_cache"):
        return
    able = [other for other, row in METHODS.items() if row.of_any] if cls and _has_blocks(cls, config) else []
    if not able:
        raise PartError(_KEY, f"diffusers has no step caches for {name}; leave it out.")
    if method not in able:
        raise PartError(_KEY, f"diffusers has no {method} cache for {name}; take {', '.join(able)}, or leave it out.")


def _has_blocks(cls: Any, config: Mapping[str, Any]) -> bool:
    """Whether a model, built without weights, has attention where step caches look for it."""
    import torch

    with torch.device("meta"), quiet():
        model = cls.from_config(config)
    return any(_ATTENTION.match(name) for name, _ in model.named_modules())


def _names_its_calls(pipeline: str) -> bool:
    """Whether a pipeline tells caches which of several calls at a step it makes; else all are taken for one kind."""
    source = pipeline_source(pipeline)
    nodes = ast.walk(source.tree) if source else ()
    return any(isinstance(node, ast.Attribute) and node.attr == "cache_context" for node in nodes)


def _refuse_options(method: str, options: Options) -> None:
    known = {field.name for field in fields(_class(method)) if not field.name.endswith("callback")}
    known = {name for name in known if not name.startswith("_")} - {"num_inference_steps", "calibrate"}
    for name in options:
        if name not in known:
            raise PartError(_KEY, f"{method} takes no {name!r}; it takes {', '.join(sorted(known))}.")
    if method == "mag" and "mag_ratios" not in options:
        raise PartError(_KEY, "mag needs mag_ratios, which are each checkpoint's own: a list of numbers.")


def _class(method: str) -> Any:
    from diffusers import hooks

    return getattr(hooks, METHODS[method].config)


@contextmanager
def caching(pipeline: Any, cache: Mapping[Any, Options], evaluations: int) -> Iterator[None]:
    """While open, a pipeline's denoisers reuse what they have computed; what they have kept is gone afterwards, so that
    no image depends on another one.

    Args:
        evaluations: of the denoiser, that the call will take.

    Raises:
        ValueError: diffusers knows no blocks of this model, or refuses the options.
    """
    with ExitStack() as stack:
        for method, options in cache.items():
            row = METHODS[method]
            with quiet():
                config = _class(method)(**{**row.given(pipeline, evaluations), **options})
            for model in denoisers(pipeline):
                _make_cacheable(model, stack)
                with quiet():
                    model.enable_cache(config)
                stack.callback(model.disable_cache)
                stack.enter_context(model.cache_context(_EVERY_CALL))
        yield


def _make_cacheable(model: Any, stack: ExitStack) -> None:
    """Give a model the methods that diffusers has for step caches, and that its class may lack."""
    from diffusers import CacheMixin

    cls = type(model)
    if not issubclass(cls, CacheMixin):
        model.__class__ = type(cls.__name__, (cls, CacheMixin), {})
        stack.callback(setattr, model, "__class__", cls)
