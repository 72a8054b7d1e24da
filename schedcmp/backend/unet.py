"""Stable Diffusion's denoiser, diffusers' UNet2DConditionModel, in JAX: a pure function of config, weights and inputs.

The weights are diffusers' state dict, nested by the dots in its names; how many layers there are, and which of them
attend, is read from what is there. Images lie as (B, h, w, C). Sums over many numbers (norms, attention, softmax)
are taken in float32 whatever the dtype, as `upcast_attention` of Stable Diffusion 2.1 asks for.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp

Array = jax.Array
Weights = Mapping[str, Any]  # arrays, or more of them by name
Norm = Callable[[Weights, Array], Array]

_TRANSFORMER_EPS = 1e-6  # of the group norm before a transformer, whatever norm_eps is
_LAYER_EPS = 1e-5


def nested(state: Mapping[str, Any]) -> dict[str, Any]:
    """A state dict as a tree: {"a.b.weight": x} → {"a": {"b": {"weight": x}}}.

    Convolutions (out, in, h, w) become (h, w, in, out): in a loop, XLA is 17 times slower on a CPU with torch's order.
    """
    tree: dict[str, Any] = {}
    for name, array in state.items():
        *path, leaf = name.split(".")
        node = tree
        for step in path:
            node = node.setdefault(step, {})
        node[leaf] = array.transpose(2, 3, 1, 0) if array.ndim == 4 else array
    return tree


def unet(
    config: Mapping[str, Any],
    weights: Weights,
    sample: Array,
    timesteps: Array,
    states: Array,
    condition: Array | None = None,
    added: Mapping[str, Array] | None = None,
) -> Array:
    """The denoiser's prediction.

    Args:
        config: of a UNet that `backend.support` does not refuse.
        weights: as `nested` gives them.
        sample: (B, h, w, in_channels); its dtype is what is computed in.
        timesteps: (B,), float32.
        states: (B, tokens, cross_attention_dim), of the prompt.
        condition: (B, time_cond_proj_dim), the guidance embedding of LCM.
        added: Stable Diffusion XL's text_embeds (B, D) and time_ids (B, 6).

    Returns:
        (B, h, w, out_channels)
    """
    norm = partial(_group_norm, groups=config["norm_num_groups"])
    resnet = partial(_resnet, norm=partial(norm, eps=config["norm_eps"]))
    emb = _time_embedding(config, weights, timesteps, condition, added, sample.dtype)

    def layers(block: Weights, x: Array, heads: int, skips: list[Array] | None = None) -> list[Array]:
        """A block's outputs, one per layer; going up, each takes a skip connection from the end of `skips`."""
        outputs, attentions = [], _items(block.get("attentions", {}))
        for i, layer in enumerate(_items(block["resnets"])):
            x = resnet(layer, jnp.concatenate([x, skips.pop()], -1) if skips else x, emb)
            if attentions:
                x = _transformer(attentions[i], x, states, heads, norm)
            outputs.append(x)
        return outputs

    heads = _heads(config)
    x = _conv(weights["conv_in"], sample)
    skips = [x]
    for block, n in zip(_items(weights["down_blocks"]), heads, strict=True):
        skips += layers(block, skips[-1], n)
        if "downsamplers" in block:
            skips.append(_conv(block["downsamplers"]["0"]["conv"], skips[-1], stride=2))
    x = skips[-1]
    if "mid_block" in weights:
        first, *rest = _items(weights["mid_block"]["resnets"])
        x = resnet(first, x, emb)
        for attention, layer in zip(_items(weights["mid_block"]["attentions"]), rest, strict=True):
            x = resnet(layer, _transformer(attention, x, states, heads[-1], norm), emb)
    for block, n in zip(_items(weights["up_blocks"]), reversed(heads), strict=True):
        x = layers(block, x, n, skips)[-1]
        if "upsamplers" in block:
            x = _conv(block["upsamplers"]["0"]["conv"], _doubled(x, skips[-1]))
    x = jax.nn.silu(norm(weights["conv_norm_out"], x, eps=config["norm_eps"]))
    return _conv(weights["conv_out"], x)


def _heads(config: Mapping[str, Any]) -> list[int]:
    """Attention heads per block: diffusers keeps their number under the name of their size (its issue 2011)."""
    heads = config["attention_head_dim"]
    return [heads] * len(config["down_block_types"]) if isinstance(heads, int) else list(heads)


def _time_embedding(
    config: Mapping[str, Any],
    weights: Weights,
    timesteps: Array,
    condition: Array | None,
    added: Mapping[str, Array] | None,
    dtype: Any,
) -> Array:
    """What every layer is told beside the prompt: the timestep; of XL, sizes and the pooled prompt too. (B, D)"""
    waves = partial(_waves, flip=config["flip_sin_to_cos"], shift=config["freq_shift"])
    x = waves(timesteps, config["block_out_channels"][0]).astype(dtype)
    if condition is not None:
        x = x + _linear(weights["time_embedding"]["cond_proj"], condition)
    emb = _perceptron(weights["time_embedding"], x)
    if added:
        ids = added["time_ids"]
        sizes = waves(ids.reshape(-1).astype(jnp.float32), config["addition_time_embed_dim"]).reshape(len(ids), -1)
        emb = emb + _perceptron(
            weights["add_embedding"], jnp.concatenate([added["text_embeds"], sizes], -1).astype(dtype)
        )
    return emb


def _waves(numbers: Array, width: int, *, flip: bool, shift: float) -> Array:
    """Sinusoidal embedding (Vaswani et al. 2017, section 3.5). (N,) → (N, width)"""
    half = width // 2
    frequencies = jnp.exp(-math.log(10_000) * jnp.arange(half, dtype=jnp.float32) / (half - shift))
    angles = numbers[:, None] * frequencies
    sin, cos = jnp.sin(angles), jnp.cos(angles)
    return jnp.concatenate([cos, sin] if flip else [sin, cos], -1)


def _perceptron(w: Weights, x: Array) -> Array:
    return _linear(w["linear_2"], jax.nn.silu(_linear(w["linear_1"], x)))


def _resnet(w: Weights, x: Array, emb: Array, norm: Norm) -> Array:
    h = _conv(w["conv1"], jax.nn.silu(norm(w["norm1"], x)))
    h = h + _linear(w["time_emb_proj"], jax.nn.silu(emb))[:, None, None]
    h = _conv(w["conv2"], jax.nn.silu(norm(w["norm2"], h)))
    return h + (_conv(w["conv_shortcut"], x) if "conv_shortcut" in w else x)


def _transformer(w: Weights, x: Array, states: Array, heads: int, norm: Callable[..., Array]) -> Array:
    b, height, width, channels = x.shape
    h = norm(w["norm"], x, eps=_TRANSFORMER_EPS).reshape(b, height * width, channels)
    h = _linear(w["proj_in"], h)
    for block in _items(w["transformer_blocks"]):
        own = _layer_norm(block["norm1"], h)
        h = h + _attention(block["attn1"], own, own, heads)
        h = h + _attention(block["attn2"], _layer_norm(block["norm2"], h), states, heads)
        value, gate = jnp.split(_linear(block["ff"]["net"]["0"]["proj"], _layer_norm(block["norm3"], h)), 2, -1)
        h = h + _linear(block["ff"]["net"]["2"], value * jax.nn.gelu(gate, approximate=False))  # GEGLU
    return x + _linear(w["proj_out"], h).reshape(x.shape)


def _attention(w: Weights, x: Array, states: Array, heads: int) -> Array:
    """x: (B, pixels, C); states: (B, tokens, D)"""
    q, k, v = (_linear(w[f"to_{name}"], s) for name, s in (("q", x), ("k", states), ("v", states)))
    q, k, v = (a.reshape(*a.shape[:2], heads, -1) for a in (q, k, v))
    if x.dtype == jnp.float16 and jax.default_backend() == "cpu":  # XLA has no products of float16 in float32 there
        q, k, v = (a.astype(jnp.float32) for a in (q, k, v))
    found = jax.nn.dot_product_attention(q, k, v).astype(x.dtype)
    return _linear(w["to_out"]["0"], found.reshape(*x.shape[:2], -1))


def _group_norm(w: Weights, x: Array, groups: int, eps: float) -> Array:
    b, height, width, channels = x.shape
    grouped = x.reshape(b, height * width, groups, channels // groups)
    return _affine(w, _normal(grouped, (1, 3), eps).reshape(x.shape), x.dtype)


def _layer_norm(w: Weights, x: Array) -> Array:
    return _affine(w, _normal(x, -1, _LAYER_EPS), x.dtype)


def _normal(x: Array, axes: Any, eps: float) -> Array:
    x = x.astype(jnp.float32)
    centred = x - x.mean(axes, keepdims=True)
    return centred * jax.lax.rsqrt((centred**2).mean(axes, keepdims=True) + eps)


def _affine(w: Weights, x: Array, dtype: Any) -> Array:
    y: Array = x * w["weight"].astype(jnp.float32) + w["bias"].astype(jnp.float32)
    return y.astype(dtype)


def _linear(w: Weights, x: Array) -> Array:
    """Also a convolution of one pixel, on what lies as (..., C)."""
    weight = w["weight"]
    y: Array = x @ (weight[0, 0] if weight.ndim == 4 else weight.T)
    return y + w["bias"] if "bias" in w else y


def _conv(w: Weights, x: Array, stride: int = 1) -> Array:
    weight: Array = w["weight"]
    pad = [((size - 1) // 2,) * 2 for size in weight.shape[:2]]
    y = jax.lax.conv_general_dilated(x, weight, (stride, stride), pad, dimension_numbers=("NHWC", "HWIO", "NHWC"))
    bias: Array = w["bias"]
    return y + bias


def _doubled(x: Array, like: Array) -> Array:
    """Nearest neighbours, twice as large; cut to the next skip connection, which is a pixel smaller if it was odd."""
    big = x.repeat(2, axis=1).repeat(2, axis=2)
    return big[:, : like.shape[1], : like.shape[2]]


def _items(children: Weights) -> list[Any]:
    """A torch ModuleList's modules, in order."""
    return [children[str(i)] for i in range(len(children))]
