"""A UNet that torch calls and JAX computes, on all JAX devices: weights on each of them, the batch's rows divided."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import torch
from diffusers.models.unets.unet_2d_condition import UNet2DConditionOutput
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from schedcmp.backend.runtime import devices

Network = Callable[..., jax.Array]  # weights, then arrays of rows


class OnAllDevices:
    """A function of weights and rows, compiled for all JAX devices; takes and gives torch tensors.

    It is compiled once for each number of rows, which is filled up to one that the devices divide. Each device computes
    its own rows: they need nothing of each other.
    """

    def __init__(self, weights: Mapping[str, Any], function: Network, *, tf32: bool = False) -> None:
        mesh = Mesh(np.array(devices()), ("rows",))
        self._count = mesh.size
        self._shared = NamedSharding(mesh, PartitionSpec())  # type: ignore[no-untyped-call]
        self._divided = NamedSharding(mesh, PartitionSpec("rows"))  # type: ignore[no-untyped-call]
        self._weights = jax.device_put(weights, self._shared)
        self._function = jax.jit(function, out_shardings=self._divided)
        self._precision = "high" if tf32 else "highest"  # else float32 is TF32 on a GPU, bfloat16 on a TPU

    def __call__(self, rows: Mapping[str, Any], *shared: Any) -> torch.Tensor:
        """The answer to `rows`, on the device of the first; it is there when this returns.

        Args:
            rows: tensors (B, ...) by the function's argument names, None, or mappings of them.
            shared: numbers for all rows.
        """
        like = next(iter(rows.values()))
        with jax.default_matmul_precision(self._precision):
            answer = self._function(self._weights, *shared, **self._placed(rows, len(like)))
        return to_torch(np.asarray(answer)[: len(like)]).to(like.device)

    def _placed(self, rows: Any, count: int) -> Any:
        missing = -count % self._count

        def padded(tensor: torch.Tensor) -> Any:
            array = to_numpy(tensor)
            return np.concatenate([array, np.repeat(array[-1:], missing, 0)]) if missing else array

        return jax.device_put(jax.tree.map(padded, rows), self._divided)


class Denoiser:
    """Stands in for `UNet2DConditionModel.forward`."""

    def __init__(self, on_devices: OnAllDevices) -> None:
        self._on_devices = on_devices

    def __call__(
        self,
        sample: torch.Tensor,
        timestep: torch.Tensor | float,
        encoder_hidden_states: torch.Tensor,
        timestep_cond: torch.Tensor | None = None,
        added_cond_kwargs: Mapping[str, torch.Tensor] | None = None,
        return_dict: bool = True,
        **others: Any,
    ) -> UNet2DConditionOutput | tuple[torch.Tensor]:
        """As diffusers': sample (B, C, h, w), a timestep or (B,), encoder_hidden_states (B, tokens, D).

        Raises:
            TypeError: an argument that would change the answer and that JAX's UNet does not know.
        """
        refuse_others(others)
        timesteps = torch.as_tensor(timestep, device=sample.device).float().expand(len(sample))
        rows = {
            "sample": sample,
            "timesteps": timesteps,
            "states": encoder_hidden_states,
            "condition": timestep_cond,
            "added": added_cond_kwargs,
        }
        answer = self._on_devices(rows)
        return UNet2DConditionOutput(sample=answer) if return_dict else (answer,)


def refuse_others(others: Mapping[str, Any]) -> None:
    """Raises TypeError for arguments of the UNet that are given and not known here."""
    given = [name for name, value in others.items() if value is not None and value != {}]
    if given:
        raise TypeError(f"the JAX UNet takes no {', '.join(given)}; use backend: torch")


def evaluated(network: Network, weights: Any, *, sample: jax.Array, **rows: Any) -> jax.Array:
    """One evaluation; sample and answer are (B, C, h, w)."""
    return jnp.moveaxis(network(weights, jnp.moveaxis(sample, 1, -1), **rows), -1, 1)


def to_numpy(tensor: torch.Tensor) -> Any:
    """The same memory, where it is the CPU's."""
    tensor = tensor.detach().cpu()
    if tensor.dtype is torch.bfloat16:
        return tensor.view(torch.int16).numpy().view(ml_dtypes.bfloat16)
    return tensor.numpy()


def to_torch(array: Any) -> torch.Tensor:
    """A copy: JAX's own memory must not be written to."""
    if array.dtype == ml_dtypes.bfloat16:
        return torch.from_numpy(array.view(np.int16).copy()).view(torch.bfloat16)
    return torch.from_numpy(array.copy())
