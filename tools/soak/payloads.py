"""What would leave a trace if it were run."""

from __future__ import annotations

import pathlib


class Canary:
    """An object whose unpickling writes a file."""

    def __init__(self, path: pathlib.Path) -> None:
        self._path = path

    def __reduce__(self) -> tuple[object, tuple[object, ...]]:
        return pathlib.Path.write_text, (self._path, "code was run")


def module(path: pathlib.Path) -> str:
    """A module whose import writes a file, with the names that libraries look for in it."""
    names = ("Thing", "Model", "StableDiffusionPipeline", "UNet2DConditionModel", "CLIPTextModel", "CLIPTokenizer")
    classes = "".join(f"class {name}:\n    pass\n" for name in names)
    return f"import pathlib\npathlib.Path({str(path)!r}).write_text('code was run')\n{classes}"
