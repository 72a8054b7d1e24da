"""Which pipelines of diffusers load LoRAs."""

from __future__ import annotations

import ast

from schedcmp.pipelines.source import pipeline_source


def takes_adapters(pipeline: str) -> bool:
    """Whether a pipeline's class has a loader of LoRAs; one that is not diffusers' is taken to have one."""
    source = pipeline_source(pipeline)
    return source is None or any(ast.unparse(base).endswith("LoraLoaderMixin") for base in source.tree.bases)
