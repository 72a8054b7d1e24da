"""A GGUF file, as llama.cpp and ComfyUI keep quantised models: its header, read by the gguf package."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

from schedcmp.errors import CheckpointError, one_line


def gguf_shapes(path: Path) -> dict[str, tuple[int, ...]]:
    """Names and shapes of a file's tensors, in torch's order of dimensions.

    Raises:
        CheckpointError: the package is missing, or the file is truncated, corrupt or something else.
    """
    if find_spec("gguf") is None:
        raise CheckpointError(f'{path} needs the package gguf, which is not installed: pip install "schedcmp[gguf]"')
    from gguf import GGUFReader

    try:
        return {t.name: tuple(int(n) for n in reversed(t.shape)) for t in GGUFReader(path).tensors}
    except Exception as error:  # it checks little, and numpy raises what it likes
        raise CheckpointError(f"{path} is truncated or no GGUF file ({one_line(error)}); fetch it again.") from error
