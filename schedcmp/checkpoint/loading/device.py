"""Devices and dtypes by the names that a sweep has for them."""

from __future__ import annotations

import torch

from schedcmp.errors import RequestError

_DTYPES = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}


def resolve_device(device: str) -> str:
    """A device that is there: "auto" is the first of cuda, mps and cpu.

    Raises:
        RequestError: this machine has no such device.
    """
    there = {
        "cuda": torch.cuda.device_count() if torch.cuda.is_available() else 0,
        "mps": int(torch.backends.mps.is_available()),
        "xpu": torch.xpu.device_count() if torch.xpu.is_available() else 0,
        "cpu": 1,
    }
    if device == "auto":
        return next(name for name in ("cuda", "mps", "cpu") if there[name])
    kind, _, index = device.partition(":")
    if kind in there and (index or "0").isdecimal() and int(index or 0) < there[kind]:
        return device
    seen = ", ".join(f"{name}:{i}" if count > 1 else name for name, count in there.items() for i in range(count))
    raise RequestError(f"device {device!r} is not there (torch {torch.__version__} sees {seen}); use 'auto'.")


def resolve_dtype(dtype: str, device: str) -> torch.dtype:
    """ "auto" is fp16 on a GPU (cuda, mps, xpu) and fp32 on a CPU.

    Raises:
        RequestError: no such dtype.
    """
    if dtype == "auto":
        return torch.float32 if device.startswith("cpu") else torch.float16
    if dtype not in _DTYPES:
        raise RequestError(f"dtype {dtype!r} is unknown; use auto, {', '.join(_DTYPES)}.")
    return _DTYPES[dtype]
