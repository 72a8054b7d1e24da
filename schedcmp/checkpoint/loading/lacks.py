"""What is not there: packages that a part needs, and weights that would be filled with random numbers."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch

from schedcmp.checkpoint import layout
from schedcmp.checkpoint.json_files import read_json
from schedcmp.checkpoint.source import Checkpoint
from schedcmp.errors import CheckpointError
from schedcmp.pipelines.packages import install

_PROCESSOR = re.compile(r'"([A-Z]\w*Processor)"')  # the name of a class of transformers in a config


def refuse_missing_packages(checkpoint: Checkpoint) -> None:
    """Raises CheckpointError where transformers has but a placeholder of a processor's class, or of a part of it."""
    import transformers

    index = read_json(checkpoint.config_folder / layout.MODEL_INDEX)
    for part in layout.components(index, (), str(checkpoint.path)):
        folder = checkpoint.config_folder / part.name
        texts = [path.read_text(encoding="utf-8") for path in sorted(folder.glob("*processor_config.json"))]
        classes = [getattr(transformers, name, None) for name in dict.fromkeys(_PROCESSOR.findall("".join(texts)))]
        if missing := sorted({package for cls in classes for package in getattr(cls, "_backends", ())}):
            needs = f"its {part.name} needs {', '.join(missing)}: {install(missing)}"
            raise CheckpointError(f"{checkpoint.name}: {needs}")


def refuse_gaps(checkpoint: Checkpoint, messages: list[str], gaps: list[str]) -> None:
    # diffusers and transformers fill missing weights with random numbers and only log it.
    logged = [text for text in messages if "newly initialized" in text]
    if gaps or logged:
        detail = ", ".join(gaps[:3]) or " ".join(logged[0].split())
        raise CheckpointError(f"{checkpoint.path} lacks weights that its configs name: {detail}; fetch it again.")


@contextmanager
def recorded_gaps() -> Iterator[list[str]]:
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
