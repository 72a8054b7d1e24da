"""How images are made: what trades set-up time, memory or the last digits for speed."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field

from schedcmp.sweep.parts.fields import Part


class Optimize(Part):
    """What trades set-up time, memory or the last digits for speed. All off by default."""

    compile: Annotated[
        Literal["default", "regional", "reduce-overhead", "max-autotune", "max-autotune-no-cudagraphs"] | None,
        BeforeValidator(lambda v: {True: "default", False: None}.get(v, v) if isinstance(v, bool) else v),
    ] = Field(
        None,
        description="torch.compile of the denoiser; regional: of its repeated blocks; reduce-overhead: CUDA graphs",
    )
    channels_last: bool = Field(False, description="the memory format of convolutions")
    tf32: bool = Field(False, description="fp32 products in TF32, where the hardware has it")
    attention: str | None = Field(None, description="an attention backend of diffusers, such as flash or sage")
    vae_slicing: bool = Field(False, description="decode images one by one, for less memory")
    vae_tiling: bool = Field(False, description="decode images in tiles, for less memory; seams may show")
    offload: bool = Field(False, description="models wait in main memory; needs accelerate")

    @property
    def enabled(self) -> dict[str, Any]:
        return {name: value for name, value in self.model_dump().items() if value}


class Jax(Part):
    """How `backend: jax` solves."""

    solve: Literal["steps", "scan"] = Field(
        "steps", description="scan: each image's whole solve is one program, for deterministic linear schedulers"
    )
