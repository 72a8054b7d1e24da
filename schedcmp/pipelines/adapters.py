"""Which pipelines of diffusers load LoRAs and IP-Adapters."""

from __future__ import annotations

import ast

from schedcmp.pipelines.source import PipelineSource, pipeline_source

_UNETS = "IPAdapterMixin"


def takes_adapters(pipeline: str) -> bool:
    """Whether a pipeline's class has a loader of LoRAs; one that is not diffusers' is taken to have one."""
    source = pipeline_source(pipeline)
    return source is None or any(name.endswith("LoraLoaderMixin") for name in _bases(source))


def no_ip_adapter(pipeline: str) -> str:
    """Why a pipeline's class loads no IP-Adapter for a UNet; empty if it does, or is not diffusers'."""
    source = pipeline_source(pipeline)
    bases = _bases(source) if source else [_UNETS]
    if _UNETS in bases:
        return ""
    if other := next((name for name in bases if name.endswith(_UNETS)), ""):
        return f"{pipeline} loads ones of another kind ({other}), which are not taken here"
    return f"{pipeline} loads none in diffusers"


def _bases(source: PipelineSource) -> list[str]:
    return [ast.unparse(base) for base in source.tree.bases]
