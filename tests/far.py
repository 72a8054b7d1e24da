"""A device that is not there: tensors that say they live on it, compute on the CPU, and tell when a host would wait.

A GPU computes on its own; the host waits for it where it reads a value, where the shape of an answer depends on values,
and where it copies without being told not to wait. `Watcher` notes each of these, with the place in the code.
"""

from __future__ import annotations

import traceback
from collections import Counter
from typing import Any

import torch
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map_only

DEVICE = torch.device("meta")  # one that every build of torch knows
# Operators that read values of their first argument
_READS = ("_local_scalar_dense", "nonzero", "masked_select", "_unique2", "equal", "is_nonzero", "_linalg_check_errors")
_OURS = ("/torch/", "/far.py")


class Far(torch.Tensor):
    """A tensor on the device."""

    near: torch.Tensor

    @staticmethod
    def __new__(cls, near: torch.Tensor) -> Far:
        far = torch.Tensor._make_wrapper_subclass(
            cls,
            near.shape,
            dtype=near.dtype,
            device=DEVICE,
            strides=near.stride(),
            storage_offset=near.storage_offset(),
        )
        far.near = near
        return far

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        raise RuntimeError(f"{func} was called without a Watcher")


class _Unseen(TorchFunctionMode):
    """What a dispatch mode does not see: `tolist`, and that `torch.tensor` copies to a device."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = dict(kwargs or {})
        if func is torch.Tensor.tolist and isinstance(args[0], Far):
            return args[0].cpu().tolist()
        if func in (torch.tensor, torch.as_tensor) and _is_far(kwargs.get("device")):
            device = kwargs.pop("device")
            return func(*args, **kwargs).to(device)
        return func(*args, **kwargs)


class Watcher(TorchDispatchMode):
    """While open, tensors can be `Far`; `waits` counts what the host would wait for, by operator and place."""

    def __init__(self) -> None:
        super().__init__()
        self.waits: Counter[str] = Counter()
        self._unseen = _Unseen()

    def __enter__(self) -> Watcher:
        self._unseen.__enter__()
        super().__enter__()
        return self

    def __exit__(self, *error: Any) -> None:
        super().__exit__(*error)
        self._unseen.__exit__(*error)

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = dict(kwargs or {})
        asked, leaves = kwargs.get("device"), tree_leaves((args, kwargs))
        any_far = any(isinstance(leaf, Far) for leaf in leaves)
        to_far = _is_far(asked) if asked is not None else any_far
        name = func._schema.name.removeprefix("aten::")
        if _waits(name, args, kwargs, any_far, to_far):
            self.waits[f"{name} at {_place()}"] += 1
        if asked is not None:
            kwargs["device"] = torch.device("cpu")
        near = func(*_unwrapped(args), **_unwrapped(kwargs))
        if func._schema.is_mutable and args and isinstance(args[0], Far):
            return args[0]
        return tree_map_only(torch.Tensor, Far, near) if to_far else near


def _waits(name: str, args: Any, kwargs: Any, any_far: bool, to_far: bool) -> bool:
    if name in ("_to_copy", "copy_"):
        far = [isinstance(arg, Far) for arg in args if isinstance(arg, torch.Tensor)]
        moves = far[0] != (far[1] if name == "copy_" else to_far)
        return moves and not (kwargs.get("non_blocking") or (name == "copy_" and args[2:3] == (True,)))
    if name == "index":
        indices = [index for index in args[1] if index is not None]
        apart = any(isinstance(index, Far) != isinstance(args[0], Far) for index in indices)
        return apart or (any_far and any(index.dtype is torch.bool for index in indices))
    return any_far and name in _READS


def _unwrapped(values: Any) -> Any:
    return tree_map_only(Far, lambda far: far.near, values)


def _is_far(device: Any) -> bool:
    return device is not None and torch.device(device).type == DEVICE.type


def _place() -> str:
    frames = [f for f in traceback.extract_stack() if not any(part in f.filename for part in _OURS)]
    return f"{frames[-1].filename.rpartition('/')[2]}:{frames[-1].name}"
