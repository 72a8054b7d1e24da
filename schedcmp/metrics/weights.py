"""Where a metric's weights lie."""

from __future__ import annotations

from pathlib import Path

from schedcmp.checkpoint.weights import tensor_shapes
from schedcmp.errors import CheckpointError, raised_as
from schedcmp.files import user_path


def weights_file(model: str, called: str) -> tuple[Path, dict[str, tuple[int, ...]]]:
    """A safetensors file, and its tensors' shapes by name.

    Args:
        model: the file, a folder with a model.safetensors, or a hub id, which is fetched into the hub's cache.
        called: the metric that wants it.

    Raises:
        CheckpointError: there is none, it cannot be had, or is damaged or pickled.
    """
    path = user_path(model)
    if path.is_dir():
        path /= "model.safetensors"
    with raised_as(CheckpointError, called, CheckpointError, OSError):
        if not path.is_file():
            from schedcmp.checkpoint.hub import fetch_model

            path = fetch_model(model) / "model.safetensors"
        return path, tensor_shapes(path)


def origin_of(path: Path, called: Path | None = None) -> str:
    """What tells one file's content from another's."""
    stat = path.stat()
    return f"{(called or path).resolve()} {stat.st_size} {stat.st_mtime_ns}"
