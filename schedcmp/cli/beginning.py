"""`init` and `schema`."""

from __future__ import annotations

import json
from importlib.resources import files
from pathlib import Path

from schedcmp.cli.console import say, warn, write
from schedcmp.errors import RunFolderError
from schedcmp.sweep.document import Sweep


def write_starter(path: Path) -> None:
    """Raises RunFolderError when the file is there already or cannot be written."""
    _write_new(path, files("schedcmp.sweep").joinpath("starter.yaml").read_bytes())


def write_remake(path: Path, image: Path, model: str | None) -> None:
    """A sweep around an image. Raises RequestError, also where the image says nothing of itself."""
    from schedcmp.remake.sweep import made_by, sweep_around

    made = made_by(image)
    text = sweep_around(made, image.name, model)
    _write_new(path, text.encode())
    for lost in made.lost:
        warn(f"not carried over: {lost}")


def _write_new(path: Path, data: bytes) -> None:
    if path.exists():
        raise RunFolderError(f"{path}: is there already; choose another name, as in `schedcmp init my-sweep.yaml`")
    write(path, data)
    say(f"{path} is written; next: schedcmp check {path}, then schedcmp run {path}")


def print_schema() -> None:
    schema = {"$schema": "https://json-schema.org/draft/2020-12/schema", **Sweep.model_json_schema()}
    say(json.dumps(schema, indent=2))
