"""Step caches: transformers that reuse what they computed in earlier steps, by diffusers' `CacheMixin`."""

from __future__ import annotations

import ast
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


@dataclass(frozen=True, slots=True)
class _Method:
    """A row of the table."""

    config: str  # diffusers' class
    given: Callable[[Any, int], Options] = lambda pipeline, evaluations: {}  # unless the sweep says otherwise


def _timestep(pipeline: Any) -> Options:
    return {"current_timestep_callback": lambda: pipeline.current_timestep}


METHODS: Mapping[str, _Method] = {
    "first_block": _Method("FirstBlockCacheConfig"),
    "taylorseer": _Method("TaylorSeerCacheConfig", lambda pipeline, n: {"taylor_factors_dtype": pipeline.dtype}),
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


def refuse_cache(checkpoint: Checkpoint) -> None:
    """Raises PartError where a checkpoint's model or pipeline has no step caches, or such a cache not these options."""
    import diffusers

    for method, options in checkpoint.cache.items():
        _refuse_options(method, options)
        names = [str(checkpoint.config(part).get("_class_name")) for part in DENOISERS if checkpoint.config(part)]
        for name in names:
            if not hasattr(getattr(diffusers, name, None), "enable_cache"):
                raise PartError(_KEY, f"diffusers has no step caches for {name}; leave it out.")
        source = pipeline_source(checkpoint.pipeline_class)
        nodes = ast.walk(source.tree) if source else ()
        if not any(isinstance(node, ast.Attribute) and node.attr == "cache_context" for node in nodes):
            raise PartError(
                _KEY, f"{checkpoint.pipeline_class} of diffusers tells no step cache where it is; leave it out."
            )


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
                with quiet():
                    model.enable_cache(config)
                stack.callback(model.disable_cache)
        yield
