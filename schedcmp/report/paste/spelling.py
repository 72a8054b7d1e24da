"""What a program may leave unsaid of the classes that it names: kept with a run, since a report loads none of them."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

from schedcmp.axes import OPTIONAL
from schedcmp.files import to_json
from schedcmp.pipelines.arguments import called_by, tuples
from schedcmp.pipelines.arithmetic import Configs
from schedcmp.pipelines.guidance import guidance_names
from schedcmp.pipelines.inputs import argument_names
from schedcmp.pipelines.source import pipeline_source
from schedcmp.registry.build import constructor_defaults

_ARGUMENTS = [axis.argument for axis in OPTIONAL if axis.argument]


def spelling(pipeline: str, classes: Iterable[type], configs: Configs = lambda part: {}) -> dict[str, Any]:
    """
    Args:
        pipeline: the class's name.
        classes: of schedulers, of diffusers.
        configs: of the pipeline's parts, where they are known.

    Returns:
        `defaults` by the class's name, what is no number of JSON's as a text; whether the call is `sized`, its
        argument for each of the sweep's `images`, those that are its `guidance`, what it has `called` otherwise, and
        those that are `tuples`.
    """
    source = pipeline_source(pipeline)
    return {
        "defaults": {cls.__name__: json.loads(to_json(dict(constructor_defaults(cls)))) for cls in classes},
        "sized": not (source and "width" not in source.arguments),
        "images": argument_names(pipeline),
        "guidance": guidance_names(pipeline, configs),
        "called": {name: own for name in _ARGUMENTS for own in called_by(pipeline, {name: None}) if own != name},
        "tuples": tuples(pipeline),
    }
