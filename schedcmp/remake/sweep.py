"""A sweep that remakes an image, and varies its sampler and steps."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from schedcmp.errors import RequestError
from schedcmp.guard.texts import visible
from schedcmp.remake import a1111, comfyui, invokeai, own, swarmui
from schedcmp.remake.made import Made
from schedcmp.remake.reading import texts
from schedcmp.remake.schedulers import schedulers
from schedcmp.sweep.notation import foreign_notation

_READERS = (own.read, swarmui.read, invokeai.read, comfyui.read, a1111.read)  # the most certain first
_STEPS, _MODEL = 20, "builtin:tiny"


def made_by(path: Path) -> Made:
    """How the image of a file was made, by what it says of itself.

    Raises:
        RequestError: it cannot be read, or says nothing that is understood.
    """
    found = texts(path)
    try:
        made = next((made for read in _READERS for text in found if (made := read(text))), None)
    except RequestError as error:
        raise RequestError(f"{path}: {error}") from error
    if made is None:
        raise RequestError(
            f"{path}: says nothing of how it was made that is understood here: A1111, Forge, ComfyUI, InvokeAI, "
            "SwarmUI and schedcmp write that into PNG files, and what copies or edits an image may leave it out"
        )
    return made


def sweep_around(made: Made, name: str, model: str | None = None) -> str:
    """The text of a sweep; as comments, what it lacks.

    Args:
        name: of the image, for the comment.
        model: instead of the one that the image names, which is seldom a place.
    """
    keys = dict(_keys(made, model))
    made.lost.extend(foreign_notation({"the prompt": made.prompt, "the negative prompt": made.negative_prompt}))
    head = [f"What {name} says of itself ({made.program}), and other samplers and steps around it."]
    if made.lost:
        head += ["Not carried over:", *(f"  {text}" for text in made.lost)]
    comments = "".join(f"# {visible(line.replace(chr(10), ' '))}\n" for line in head)
    return comments + yaml.safe_dump(keys, sort_keys=False, allow_unicode=True, width=110)


def _keys(made: Made, model: str | None) -> Iterator[tuple[str, Any]]:
    if not model and not made.model:
        made.lose("the checkpoint", why=f"none is named; {_MODEL} stands for it, so give another one")
    elif not model and not made.model.startswith("builtin:"):
        made.lose("where the checkpoint is", made.model, "give its folder, file or hub id as `model`")
    yield "model", model or made.text(made.model) or _MODEL
    if not made.prompt:
        made.lose("the prompt", why="none is there")
    yield "prompt", {"image": made.prompt or "a photo"}
    if made.negative_prompt:
        yield "negative_prompt", made.negative_prompt
    if made.guidance is None:
        made.lose(
            "guidance_scale", why="none is there that can be read; what the pipeline takes by itself stands for it"
        )
    else:
        yield "guidance_scale", made.guidance
    if made.width and made.height:
        yield "size", f"{made.width}x{made.height}"
    yield "schedulers", schedulers(made)
    steps = _or(made, "steps", made.steps, _STEPS)
    yield "steps", sorted({max(1, steps // 2), steps, min(1000, steps + (steps + 1) // 2)})
    yield "seeds", [_or(made, "the seed", made.seed, 0)]
    yield from made.keys.items()


def _or(made: Made, what: str, value: Any, otherwise: Any) -> Any:
    if value is None:
        made.lose(what, why=f"none is there that can be read; {otherwise} stands for it")
        return otherwise
    return value
