"""How images are made, and by whom: what trades set-up time, memory or the last digits for speed, and the workers."""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Field, model_serializer

from schedcmp.errors import shown
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


def _address(text: str) -> str:
    if text.startswith("ray://"):
        raise ValueError(f"{text} is for Ray's client; start schedcmp on a node of the cluster, and give auto")
    if not re.fullmatch(r"auto|local|[\w.-]+:\d+|\[[\da-fA-F:]+\]:\d+", text):
        raise ValueError(f"expected auto, local or host:port, got {shown(text)}")
    return text


def _as_workers(value: Any) -> Any:
    if value == "all" or (isinstance(value, int) and not isinstance(value, bool) and value > 0):
        return value
    raise ValueError(f"expected all, or a whole number of at least 1, got {shown(value)}")


class Ray(Part):
    """Workers of a Ray cluster."""

    address: Annotated[str, AfterValidator(_address)] = Field(
        "auto",
        description="host:port; local starts one here; auto: RAY_ADDRESS, or the cluster of this host, or local",
    )
    workers: Annotated[int | Literal["all"], BeforeValidator(_as_workers)] = Field(
        "all", description="how many; all that the cluster has room for"
    )
    gpus_per_worker: Annotated[int, Field(strict=True, ge=0, le=1)] | None = Field(
        None, description="0 or 1; by default 1 where the cluster has GPUs"
    )
    cpus_per_worker: Annotated[int, Field(strict=True, ge=1, le=1024)] | None = Field(
        None, description="cores and threads; by default a GPU's share of its node's, or all of a node without GPUs"
    )
    mixed: bool = Field(
        False, description="take workers with another model of GPU, driver or library version than most"
    )


class Executor(Part):
    """Who makes the images: this process, or workers."""

    ray: Ray | None = Field(None, description="the cluster and its workers")

    @model_serializer(mode="wrap")
    def _as_written(self, handler: Any) -> Any:
        return handler(self) if self.ray else "local"


def _as_executor(value: Any) -> Any:
    """`local`, `ray`, or `{ray: {...}}`."""
    if value in ("local", "ray"):
        return {} if value == "local" else {"ray": {}}
    if isinstance(value, dict) and isinstance(value.get("ray"), dict | Ray | None):
        return {"ray": {}} if value == {"ray": None} else value
    if isinstance(value, Executor):
        return value
    raise ValueError(f"expected local, ray or {{ray: {{...}}}}, got {shown(value)}")


Executors = Annotated[
    Executor, BeforeValidator(_as_executor, json_schema_input_type=Literal["local", "ray"] | Executor)
]
