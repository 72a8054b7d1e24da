"""The lines of a program that give a pipeline its parts from elsewhere."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from schedcmp.checkpoint.kinds import GGUF, KINDS, SAFETENSORS


def parts(model: Mapping[str, Any], place: str, dtype: str) -> Iterator[str]:
    """Each part but the VAE, which a single file may lack so that it is handed to the constructor; then the words.

    Args:
        model: the sweep's.
        place: the checkpoint, as the program has it.
        dtype: an argument and its value.
    """
    for name in KINDS:
        path = model.get(name) if name != "vae" else None
        if path and path.endswith((SAFETENSORS, GGUF)):
            yield from _of_file(name, path, f'config={place}, subfolder="{name}", {dtype}', dtype.partition("=")[2])
        elif path:
            yield f"pipe.{name} = type(pipe.{name}).from_pretrained({path!r}, {dtype})"
    for name, method in (model.get("quantize") or {}).items():
        yield f"# the run had quantize: {{{name}: {method}}}"
    for word, path in (model.get("embeddings") or {}).items():
        yield f"pipe.load_textual_inversion({path!r}, token={word!r})"


def _of_file(name: str, path: str, options: str, dtype: str) -> Iterator[str]:
    if name.startswith("text_encoder"):
        yield f"pipe.{name}.load_state_dict(load_file({path!r}))"
        return
    if path.endswith(GGUF):
        options += f", quantization_config=GGUFQuantizationConfig(compute_dtype={dtype})"
    yield f"pipe.{name} = type(pipe.{name}).from_single_file({path!r}, {options})"
