"""The size of images that a checkpoint makes, by its configs."""

from __future__ import annotations

from pathlib import Path

from schedcmp.checkpoint.json_files import read_json


def image_size(folder: Path) -> tuple[int | None, int | None]:
    """The checkpoint's own (width, height) in pixels, where its configs tell: the denoiser's
    sample_size times the VAE's factor, as diffusers' pipelines compute it."""
    for denoiser in ("unet", "transformer"):
        path = folder / denoiser / "config.json"
        size = read_json(path).get("sample_size") if path.is_file() else None
        factor = _vae_factor(folder)
        if isinstance(size, int) and factor:
            return size * factor, size * factor
        if isinstance(size, list) and len(size) == 2 and factor:
            return size[1] * factor, size[0] * factor
    return None, None


def _vae_factor(folder: Path) -> int | None:
    vae = next((path for name in ("vae", "vqvae") if (path := folder / name / "config.json").is_file()), None)
    if vae is None:
        return 1
    blocks = read_json(vae).get("block_out_channels")
    return 2 ** (len(blocks) - 1) if isinstance(blocks, list) and blocks else None
