"""What a program may leave unsaid of the classes that it names: kept with a run, since a report loads none of them."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

from schedcmp.files import to_json
from schedcmp.pipelines.arithmetic import Configs
from schedcmp.pipelines.guidance import guidance_names
from schedcmp.pipelines.source import pipeline_source
from schedcmp.pipelines.tasks import argument_names
from schedcmp.registry.build import constructor_defaults


def spelling(pipeline: str, classes: Iterable[type], configs: Configs = lambda part: {}) -> dict[str, Any]:
    """
    Args:
        pipeline: the class's name.
        classes: of schedulers, of diffusers.
        configs: of the pipeline's parts, where they are known.

    Returns:
        `defaults` by the class's name, what is no number of JSON's as a text; whether the call is `sized`, its
        argument for each of the sweep's `images`, and those that are its `guidance`.
    """
    source = pipeline_source(pipeline)
    return {
        "defaults": {cls.__name__: json.loads(to_json(dict(constructor_defaults(cls)))) for cls in classes},
        "sized": not (source and "width" not in source.arguments),
        "images": argument_names(pipeline),
        "guidance": guidance_names(pipeline, configs),
    }
