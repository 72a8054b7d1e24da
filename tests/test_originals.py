"""A1111's and ComfyUI's samplers, a few lines each from their papers, against `a1111:NAME` and `comfyui:NAME`.

`python tests/test_originals.py` rewrites the table in docs/names.md.
"""

# ruff: noqa: N803, N806 (capitals as in the papers)

from __future__ import annotations

import inspect
import json
import math
import re
from collections.abc import Callable, Iterator
from importlib.resources import files
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scipy.integrate import quad

from schedcmp.errors import RegistryError
from schedcmp.registry.build import mended, resolve
from schedcmp.registry.compat import judge
from schedcmp.registry.table import builtin_registry
from schedcmp.truth.drive import Oracle, loop
from schedcmp.truth.measure import DATA
from schedcmp.truth.mixture import Mixture
from schedcmp.truth.noise import noise_schedule

Tensor = torch.Tensor
Denoiser = Callable[[Tensor, float], Tensor]
Noise = Callable[[], Tensor]

STEPS, SCALE, CLOSE = 20, 1.4, 1e-4
PAGE = Path(__file__).parent.parent / "docs" / "names.md"
REGISTRY = builtin_registry()
CONFIG = mended(
    json.loads(files("schedcmp").joinpath("builtin/tiny/scheduler/scheduler_config.json").read_text()),
    "StableDiffusionPipeline",
)
OTHER = Mixture((0.5, 0.5), (-0.9, 0.9), (0.6, 0.3))  # what the model makes without the prompt
BETAS = np.linspace(0.00085**0.5, 0.012**0.5, 1000) ** 2
SIGMAS = np.sqrt(1 / np.cumprod(1 - BETAS) - 1)
LOW, HIGH = float(SIGMAS[0]), float(SIGMAS[-1])
START = torch.randn(2, 4, 8, 8, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


class Network:
    """Predicts the noise, with guidance where a sampler needs it; keeps what it predicted without."""

    def __init__(self, guided: bool) -> None:
        schedule, self._scale = noise_schedule(CONFIG), SCALE if guided else 1.0
        self._with, self._without = Oracle(DATA, schedule), Oracle(OTHER, schedule)
        self.alone = START

    def __call__(self, x: Tensor, t: float) -> Tensor:
        self.alone = self._without(x, t)
        return self.alone + self._scale * (self._with(x, t) - self.alone)


class Model:
    """The denoised estimate as a program has it: of x0 + sigma noise, at the timestep that it takes sigma for."""

    def __init__(self, timestep: Callable[[float], float], guided: bool) -> None:
        self._network, self._timestep = Network(guided), timestep
        self.alone = START

    def __call__(self, x: Tensor, s: float) -> Tensor:
        noise = self._network(x / math.sqrt(1 + s * s), self._timestep(s))
        self.alone = x - s * self._network.alone
        return x - s * noise


def ours(name: str, sigmas: str, guided: bool) -> Tensor:
    """The last latents of schedcmp's entry, in the pipeline's loop."""
    scheduler = resolve(REGISTRY.entry(name, sigmas), CONFIG).build()
    network, generator = Network(guided), torch.Generator().manual_seed(0)
    scheduler.set_timesteps(STEPS)
    scheduler.unconditional_output = lambda _: network.alone
    x = START * float(scheduler.init_noise_sigma)
    takes = inspect.signature(scheduler.step).parameters
    extra = {"generator": generator} if "generator" in takes else {}
    for t in scheduler.timesteps:
        output = network(scheduler.scale_model_input(x, t), float(t))
        x = scheduler.step(output, t, x, **extra, return_dict=False)[0]
    return x


def fractional(s: float) -> float:
    return float(np.interp(math.log(s), np.log(SIGMAS), np.arange(1000)))


def whole(s: float) -> float:
    return float(np.abs(math.log(s) - np.log(SIGMAS)).argmin())


def at(timesteps: Any) -> list[float]:
    return list(np.exp(np.interp(timesteps, np.arange(1000), np.log(SIGMAS))))


# levels of n steps, the last above 0 included -------------------------------------------------------------------------


def karras(n: int) -> list[float]:
    return list(np.linspace(HIGH ** (1 / 7), LOW ** (1 / 7), n) ** 7)


def exponential(n: int) -> list[float]:
    return list(np.geomspace(HIGH, LOW, n))


def normal(n: int) -> list[float]:
    return at(np.linspace(999, 0, n))


def discarded(levels: Callable[[int], list[float]]) -> Callable[[int], list[float]]:
    return lambda n: levels(n + 1)[:-1]


def down_to_one(n: int) -> list[float]:
    return [float(SIGMAS[t]) for t in range(1, 1000, 1000 // n)][::-1]


# samplers: D denoises, S are the levels, z draws ------------------------------------------------------------------


def ancestral(a: float, b: float, eta: float = 1.0) -> tuple[float, float]:
    up = min(b, eta * math.sqrt(b**2 * (a**2 - b**2) / a**2))
    return math.sqrt(b**2 - up**2), up


def add(x: Tensor, up: float, z: Noise) -> Tensor:
    return x + up * z() if up else x


def euler(D: Model, x: Tensor, S: list[float], z: Noise, eta: float = 0.0, cfgpp: bool = False) -> Tensor:
    for a, b in pairwise(S):
        down, up = ancestral(a, b, eta)
        d = D(x, a)
        x = add(d + down * (x - (D.alone if cfgpp else d)) / a, up, z)
    return x


def heun(D: Model, x: Tensor, S: list[float], z: Noise) -> Tensor:
    for a, b in pairwise(S):
        k = (x - D(x, a)) / a
        y = x + (b - a) * k
        x = x + (b - a) * (k + (y - D(y, b)) / b) / 2 if b else y
    return x


def dpm2(D: Model, x: Tensor, S: list[float], z: Noise, eta: float = 0.0) -> Tensor:
    for a, b in pairwise(S):
        down, up = ancestral(a, b, eta)
        k = (x - D(x, a)) / a
        if down:
            c = math.exp((math.log(a) + math.log(down)) / 2)
            y = x + (c - a) * k
            k = (y - D(y, c)) / c
        x = add(x + (down - a) * k, up, z)
    return x


def integral(nodes: list[float], j: int, a: float, b: float, weight: Callable[[float], float] = lambda s: 1.0) -> float:
    """Of the j-th Lagrange polynomial, times a weight."""

    def value(s: float) -> float:
        return weight(s) * math.prod((s - n) / (nodes[j] - n) for k, n in enumerate(nodes) if k != j)

    return float(quad(value, a, b, epsabs=1e-13, epsrel=1e-11)[0])


def multistep(
    D: Model, x: Tensor, S: list[float], z: Noise, order: int = 4, to_the_end: bool = False, time: Any = None
) -> Tensor:
    """Adams-Bashforth in sigma; with `time` of polynomials in another variable."""
    K: list[Tensor] = []
    for i, (a, b) in enumerate(pairwise(S)):
        d = D(x, a)
        K = [(x - d) / a, *K][:order]
        nodes = S[i::-1][: len(K)]
        if not b and not to_the_end:
            x = d
        elif time is None:
            x = x + sum(integral(nodes, j, a, b) * k for j, k in enumerate(K))
        else:
            middles = a + (b - a) * (np.arange(20000) + 0.5) / 20000
            ts, now = [time(n) for n in nodes], time(middles)
            for j, k in enumerate(K):
                basis = math.prod(((now - t) / (ts[j] - t) for i, t in enumerate(ts) if i != j), start=np.ones(20000))
                x = x + (b - a) * float(basis.mean()) * k
    return x


def vp_time(sigma: Any) -> Any:
    """Of the process with beta from b0 on rising by b1, for which sigma is 0.002 at 0.001 and 80 at 1."""
    b1 = 2 * (np.log(1 + 0.002**2) / 1e-3 - np.log(1 + 80.0**2)) / (1e-3 - 1)
    b0 = np.log(1 + 80.0**2) - b1 / 2
    return (np.sqrt(b0**2 + 2 * b1 * np.log(1 + sigma**2)) - b0) / b1


def exponential_step(x: Tensor, d: Tensor, a: float, b: float) -> Tensor:
    return b / a * x + (1 - b / a) * d


def dpmpp_2m(D: Model, x: Tensor, S: list[float], z: Noise, cfgpp: bool = False) -> Tensor:
    old, last = None, 0.0
    for a, b in pairwise(S):
        d = D(x, a)
        base = x + d - D.alone if cfgpp else x
        x = exponential_step(base, d, a, b)
        if old is not None and b:
            x = x + (1 - b / a) * math.log(a / b) / (2 * last) * (d - old)
        old, last = (D.alone if cfgpp else d), math.log(a / b) if b else 0.0
    return x


def sde_multistep(D: Model, x: Tensor, S: list[float], z: Noise, kind: str) -> Tensor:
    """SDE-DPM-Solver++ with eta 1, as k-diffusion weighs it."""
    past: list[tuple[Tensor, float]] = []
    for a, b in pairwise(S):
        d = D(x, a)
        if not b:
            return d
        h = math.log(a / b)
        x = math.exp(-2 * h) * x + (1 - math.exp(-2 * h)) * d
        phi2 = (math.exp(-2 * h) - 1) / (2 * h) + 1
        if past:
            d1 = (d - past[0][0]) / (past[0][1] / h)
            if kind == "3m" and len(past) > 1:
                r0, r1 = past[0][1] / h, past[1][1] / h
                e = (past[0][0] - past[1][0]) / r1
                x = x + phi2 * (d1 + (d1 - e) * r0 / (r0 + r1)) - (phi2 / (2 * h) - 0.5) * (d1 - e) / (r0 + r1)
            else:
                x = x + ((1 - math.exp(-2 * h)) / 2 if kind == "midpoint" else phi2) * d1
        x = x + b * math.sqrt(1 - math.exp(-2 * h)) * z()
        past = [(d, h), *past[:1]]
    return x


def dpmpp_sde(D: Model, x: Tensor, S: list[float], z: Noise) -> Tensor:
    for a, b in pairwise(S):
        d = D(x, a)
        if not b:
            return d
        c = math.sqrt(a * b)
        first = z()
        down, up = ancestral(a, c)
        d2 = D(exponential_step(x, d, a, down) + up * first, c)
        whole_step = (math.sqrt(a - c) * first + math.sqrt(c - b) * z()) / math.sqrt(a - b)
        down, up = ancestral(a, b)
        x = exponential_step(x, d2, a, down) + up * whole_step
    return x


def dpmpp_2s(D: Model, x: Tensor, S: list[float], z: Noise, cfgpp: bool = False) -> Tensor:
    """With `cfgpp` as ComfyUI has it."""
    for a, b in pairwise(S):
        d, alone = D(x, a), D.alone
        down, up = ancestral(a, b)
        if down:
            c = math.sqrt(a * down)
            d2 = D(exponential_step(x + d - alone if cfgpp else x, d, a, c), c)
            x = exponential_step(x + d - D.alone if cfgpp else x, d2, a, down)
        else:
            x = d
        x = add(x, up, z)
    return x


def authors_2s(D: Model, x: Tensor, S: list[float], z: Noise) -> Tensor:
    """DPM-Solver++(2S) with ancestral noise and CFG++, by CFG++'s authors."""
    for a, b in pairwise(S):
        d, alone = D(x, a), D.alone
        down, up = ancestral(a, b)
        if down:
            c = math.sqrt(a * down)
            d = D(c / a * x + (1 - c / a) * alone, c)
        x = add(d + down / a * (x - D.alone), up, z)
    return x


def seeds(D: Model, x: Tensor, S: list[float], z: Noise, places: tuple[float, ...], eta: float, exact: bool) -> Tensor:
    """SEEDS-2 or -3, with the noise of each stage a part of the next one's."""
    for a, b in pairwise(S):
        d = D(x, a)
        if not b:
            return d
        h, w = math.log(a / b), (1 + eta) * math.log(a / b)
        noise, before, change = torch.zeros_like(x), 0.0, torch.zeros_like(x)
        for r in [*places, 1.0]:
            if eta and r > before:
                noise = noise * math.exp(-(r - before) * eta * h)
                noise = noise + math.sqrt(1 - math.exp(-2 * (r - before) * eta * h)) * z()
            gone = 1 - math.exp(-r * w)
            weight = 0.0 if not before else r / before * (1 - gone / (r * w)) if exact else gone / (2 * before)
            y = (1 - gone) * x + gone * d + a * math.exp(-r * h) * noise + weight * change
            if r == before and eta:
                z()  # which has no weight
            if (r, before) == (1.0, places[-1]):
                break
            change, before = D(y, a * math.exp(-r * h)) - d, r
        x = y
    return x


def res(D: Model, x: Tensor, S: list[float], z: Noise, eta: float = 0.0, cfgpp: bool = False) -> Tensor:
    """RES multistep of order 2; with `cfgpp` as ComfyUI has it."""
    old, last = None, 0.0
    for a, b in pairwise(S):
        d = D(x, a)
        down, up = ancestral(a, b, eta)
        if not down or old is None:
            x = d + down / a * (x - (D.alone if cfgpp else d))
        else:
            h = math.log(a / down)
            x, f = (x + d - D.alone, D.alone) if cfgpp else (x, d)
            phi2 = integral([0.0, -last], 1, 0.0, h, lambda s, h=h: math.exp(s - h))  # type: ignore[misc]
            x = exponential_step(x, f, a, down) + phi2 * (old - f)
        x = add(x, up, z)
        old, last = (D.alone if cfgpp else d), math.log(a / down) if down else math.inf
    return x


def gradient_estimation(D: Model, x: Tensor, S: list[float], z: Noise, cfgpp: bool = False) -> Tensor:
    old = None
    for a, b in pairwise(S):
        d = D(x, a)
        if not b:
            return d
        k = (x - (D.alone if cfgpp else d)) / a
        x = (d + b * k if cfgpp else x + (b - a) * k) + (0 if old is None else (b - a) * (k - old))
        old = k
    return x


def heunpp2(D: Model, x: Tensor, S: list[float], z: Noise) -> Tensor:
    for i, (a, b) in enumerate(pairwise(S)):
        k1 = (x - D(x, a)) / a
        y = x + (b - a) * k1
        if not b:
            return y
        k2 = (y - D(y, b)) / b
        c = S[i + 2]
        if not c:
            x = x + (b - a) * (k1 + b / (2 * S[0]) * (k2 - k1))
        else:
            y = y + (c - b) * k2
            k3 = (y - D(y, c)) / c
            x = x + (b - a) * (k1 + b / (3 * S[0]) * (k2 - k1) + c / (3 * S[0]) * (k3 - k1))
    return x


def ipndm(D: Model, x: Tensor, S: list[float], z: Noise) -> Tensor:
    weights = [[1], [3 / 2, -1 / 2], [23 / 12, -16 / 12, 5 / 12], [55 / 24, -59 / 24, 37 / 24, -9 / 24]]
    K: list[Tensor] = []
    for a, b in pairwise(S):
        d = D(x, a)
        K = [(x - d) / a, *K][:4]
        x = x + (b - a) * sum(w * k for w, k in zip(weights[len(K) - 1], K, strict=True)) if b else d
    return x


def ipndm_v(D: Model, x: Tensor, S: list[float], z: Noise) -> Tensor:
    """Adams-Bashforth in divided differences, with the slips of its authors' code in the terms of orders 3 and 4."""
    K: list[Tensor] = []
    for i, (a, b) in enumerate(pairwise(S)):
        d = D(x, a)
        K = [(x - d) / a, *K][:4]
        if not b:
            return d
        h, nodes = b - a, S[i::-1][:4]
        step = K[0]
        if i > 0:
            u, v = h, nodes[0] - nodes[1]
            step = step + u / (2 * v) * (K[0] - K[1])
        if i > 1:
            w = nodes[1] - nodes[2]
            second = (K[0] - K[1]) - v / w * (K[1] - K[2])
            step = step + (1 - u * u / (3 * v * (v + w))) / 2 * second
        if i > 2:
            q = nodes[2] - nodes[3]
            p = v * (v + w) / (w * (w + q))
            third = second - p * (K[1] - K[2]) + p * (w / q * K[2] - v / w * K[3])
            size = (1 - u / (3 * (u + v))) / 2 + (1 - u / (2 * (u + v))) * u / (6 * (u + v + w))
            step = step + size * u * (u + v) * (u + v + w) / (v * (v + w) * (v + w + q)) * third
        x = x + h * step
    return x


def er_sde(D: Model, x: Tensor, S: list[float], z: Noise) -> Tensor:
    def phi(s: Any) -> Any:
        return s * (np.exp(s**0.3) + 10)

    past: list[tuple[float, Tensor, Any]] = []
    for a, b in pairwise(S):
        d = D(x, a)
        if not b:
            return d
        r, slope = phi(b) / phi(a), None
        points, width = b + np.arange(200) * (a - b) / 200, (a - b) / 200
        x = r * x + (1 - r) * d
        if past:
            slope = (d - past[0][1]) / (a - past[0][0])
            x = x + (b - a + phi(b) * float(np.sum(width / phi(points)))) * slope
        if past and past[0][2] is not None:
            bend = (slope - past[0][2]) / ((a - past[1][0]) / 2)
            x = x + ((b - a) ** 2 / 2 + phi(b) * float(np.sum(width * (points - a) / phi(points)))) * bend
        x = x + math.sqrt(b**2 - (a * r) ** 2) * z()
        past = [(a, d, slope), *past[:1]]
    return x


def sa_solver(D: Model, x: Tensor, S: list[float], z: Noise, pece: bool = False) -> Tensor:
    start, end = (float(np.exp(np.interp(t, np.arange(1000), np.log(SIGMAS)))) for t in (799.2, 199.8))
    N = len(S) - 1
    past: list[tuple[float, Tensor]] = []
    ahead, before = x, None

    def adams(x: Tensor, a: float, b: float, tau2: float, points: list[tuple[float, Tensor]]) -> Tensor:
        g, la, lb = 1 + tau2, -math.log(a), -math.log(b)
        nodes = [p for p, _ in points]
        weights = [integral(nodes, j, la, lb, lambda s: g * math.exp(g * (s - lb))) for j in range(len(nodes))]
        return math.exp(-g * (lb - la)) * x + sum(w * d for w, (_, d) in zip(weights, points, strict=True))

    for i, (a, b) in enumerate(pairwise(S)):
        past = [(-math.log(a), D(ahead, a)), *past][:4]
        x = ahead
        if before and (b or pece):
            x = adams(*before[:4], past[: min(4, N - i)]) + before[4]  # type: ignore[arg-type]
            past[0] = (past[0][0], D(x, a)) if pece else past[0]
        if not b:
            return past[0][1]
        tau2 = 1.0 if start >= b > end else 0.0
        ahead = adams(x, a, b, tau2, past[: min(3, N - 1 - i)])
        noise = b * math.sqrt(1 - (b / a) ** (2 * tau2)) * z() if tau2 else 0.0
        ahead, before = ahead + noise, (x, a, b, tau2, noise)
    return x


def unipc(D: Model, x: Tensor, S: list[float], z: Noise, bh1: bool = False, end: float = 0.001) -> Tensor:
    """The last level is `end` where S has 0. Beyond the simplest cases B(h) cancels, and polynomials are integrated."""
    S = [*S[:-1], S[-1] or end]
    N, past = len(S) - 1, [(-math.log(S[0]), D(x, S[0]))]
    for i in range(1, N + 1):
        a, b = S[i - 1], S[i]
        h, lb = math.log(a / b), -math.log(b)
        B = h if bh1 else 1 - math.exp(-h)
        p = min(i, 3, N + 1 - i)
        base, kept, used = exponential_step(x, past[0][1], a, b), b / a * x, past[:p]

        def exact(points: list[tuple[float, Tensor]], lb: float = lb, h: float = h, kept: Tensor = kept) -> Tensor:
            nodes = [q for q, _ in points]
            weights = [integral(nodes, j, lb - h, lb, lambda s: math.exp(s - lb)) for j in range(len(nodes))]
            return kept + sum(w * d for w, (_, d) in zip(weights, points, strict=True))

        ahead = exact(used)
        if p == 2:
            ahead = base + B / 2 * (used[1][1] - used[0][1]) / ((used[1][0] - used[0][0]) / h)
        if i == N:
            return ahead
        d = D(ahead, b)
        x = exact([(lb, d), *used]) if p > 1 else base + B / 2 * (d - past[0][1])
        past = [(lb, d), *past][:3]
    return x


def cfgpp_ud10_ab(D: Model, x: Tensor, S: list[float], z: Noise) -> Tensor:
    K: list[Tensor] = []
    E: list[Tensor] = []
    DD: list[Tensor] = []
    for i, (a, b) in enumerate(pairwise(S)):
        DD = [D(x, a), *DD]
        E = [(x - D.alone) / a, *E]
        e = E[0] + (0.1 * (b - a) / (a - S[i - 1]) * (E[0] - E[1]) if i else 0)
        plain = DD[0] + b * e - x
        K = [plain / (b - a), *K][:2]
        adams = sum(integral(S[i::-1][:2], j, a, b) * k for j, k in enumerate(K)) if i else plain
        x = x + 0.75 * plain + 0.25 * adams
        if not b and i:
            x = DD[0] - a * (DD[0] - DD[1]) / (a - S[i - 1])
    return x


def solve(D: Model, x: Tensor, t: float, to: float, order: int, r1: float = 0.0) -> Tensor:
    """A step of DPM-Solver from t to `to` in -log sigma (arXiv:2206.00927, algorithms 1 and 2)."""
    h, s = to - t, lambda u: math.exp(-u)
    e = (x - D(x, s(t))) / s(t)
    x1 = x - s(to) * math.expm1(h) * e
    if order == 1:
        return x1
    r1 = r1 or 1 / order
    u = x - s(t + r1 * h) * math.expm1(r1 * h) * e
    e1 = (u - D(u, s(t + r1 * h))) / s(t + r1 * h)
    if order == 2:
        return x1 - s(to) / (2 * r1) * math.expm1(h) * (e1 - e)
    r2, m = 2 / 3, t + 2 / 3 * h
    u = x - s(m) * math.expm1(r2 * h) * e - s(m) * r2 / r1 * (math.expm1(r2 * h) / (r2 * h) - 1) * (e1 - e)
    e2 = (u - D(u, s(m))) / s(m)
    return x1 - s(to) / r2 * (math.expm1(h) / h - 1) * (e2 - e)


def dpm_fast(D: Model, x: Tensor, S: list[float], z: Noise) -> Tensor:
    n = len(S) - 1
    m = n // 3 + 1
    orders = [3] * (m - 2) + [2, 1] if n % 3 == 0 else [3] * (m - 1) + [n % 3]
    times = np.linspace(-math.log(S[0]), -math.log(S[-2]), m + 1)
    for order, (t, to) in zip(orders, pairwise(times), strict=True):
        x = solve(D, x, t, to, order)
    return x


def dpm_adaptive(D: Model, x: Tensor, S: list[float], z: Noise) -> Tensor:
    t, end, h, last = -math.log(S[0]), -math.log(S[-2]), 0.05, x
    while t < end - 1e-5:
        to = min(end, t + h)
        low, high = solve(D, x, t, to, 2, r1=1 / 3), solve(D, x, t, to, 3)
        tolerance = torch.maximum(torch.tensor(0.0078), 0.05 * torch.maximum(low.abs(), last.abs()))
        error = float(((low - high) / tolerance).square().mean().sqrt())
        factor = 1 + math.atan((1 / (error + 1e-8)) ** (1 / 3) - 1)
        if factor >= 0.81:
            x, last, t = high, low, to
        h *= factor
    return x


def restart(D: Model, x: Tensor, S: list[float], z: Noise) -> Tensor:
    """Of 20 steps 9 are one restart from the level nearest to 2 to that nearest to 0.1 (arXiv:2306.14878)."""
    outer = karras(len(S) - 10)
    low, high = (min(outer, key=lambda s: abs(s - aim)) for aim in (0.1, 2.0))
    ramp = list(np.linspace(high ** (1 / 7), low ** (1 / 7), 10) ** 7)
    i = outer.index(low)
    x = heun(D, x, outer[: i + 1], z)
    x = x + math.sqrt(high**2 - low**2) * z()
    x = heun(D, x, ramp, z)
    return heun(D, x, [*outer[i:], 0.0], z)


def lcm(D: Model, x: Tensor, S: list[float], z: Noise) -> Tensor:
    for a, b in pairwise(S):
        x = add(D(x, a), b, z)
    return x


def to_timestep_one(sampler: Callable[..., Tensor], **options: Any) -> Callable[..., Tensor]:
    """A sampler of A1111's timestep kind: N - 1 steps, in variance-preserving coordinates."""

    def run(D: Model, x: Tensor, S: list[float], z: Noise) -> Tensor:
        return sampler(D, x, S[:-1], z, **options) / math.sqrt(1 + S[-2] ** 2)

    return run


def plms(D: Model, x: Tensor, S: list[float], z: Noise) -> Tensor:
    first = heun(D, x, S[:2], z)
    k = (x - D(x, S[0])) / S[0]
    weights = [[3 / 2, -1 / 2], [23 / 12, -16 / 12, 5 / 12], [55 / 24, -59 / 24, 37 / 24, -9 / 24]]
    x, K = first, [k]
    for a, b in pairwise(S[1:]):
        K = [(x - D(x, a)) / a, *K][:4]
        x = x + (b - a) * sum(w * k for w, k in zip(weights[len(K) - 2], K, strict=True))
    return x


def having(sampler: Callable[..., Tensor], **options: Any) -> Callable[..., Tensor]:
    return lambda D, x, S, z: sampler(D, x, S, z, **options)


UNIT = {"a1111": fractional, "comfyui": whole}
A1111: dict[str, tuple[Callable[..., Tensor], str, Callable[[int], list[float]], bool]] = {
    # its sampler, the schedule that it chooses, that schedule's levels, and whether it starts from unit variance
    "DPM++ 2M": (dpmpp_2m, "karras", karras, False),
    "DPM++ SDE": (dpmpp_sde, "karras", karras, False),
    "DPM++ 2M SDE": (having(sde_multistep, kind="midpoint"), "exponential", exponential, False),
    "DPM++ 2M SDE Heun": (having(sde_multistep, kind="heun"), "exponential", exponential, False),
    "DPM++ 2S a": (dpmpp_2s, "karras", karras, False),
    "DPM++ 3M SDE": (having(sde_multistep, kind="3m"), "exponential", discarded(exponential), False),
    "Euler a": (having(euler, eta=1.0), "normal", normal, False),
    "Euler": (euler, "normal", normal, False),
    "LMS": (having(multistep, to_the_end=True), "normal", normal, False),
    "Heun": (heun, "normal", normal, False),
    "DPM2": (dpm2, "karras", discarded(karras), False),
    "DPM2 a": (having(dpm2, eta=1.0), "karras", discarded(karras), False),
    "DPM fast": (dpm_fast, "default", normal, False),
    "DPM adaptive": (dpm_adaptive, "default", normal, False),
    "Restart": (restart, "karras", karras, False),
    "DDIM": (to_timestep_one(euler), "ddim-uniform", down_to_one, True),
    "DDIM CFG++": (to_timestep_one(euler, cfgpp=True), "ddim-uniform", down_to_one, True),
    "PLMS": (to_timestep_one(plms), "ddim-uniform", down_to_one, True),
    "UniPC": (having(unipc, bh1=True, end=LOW), "normal", discarded(normal), True),
    "LCM": (
        lcm,
        "lcm-grid",
        lambda n: list(np.exp(np.interp(np.linspace(999, 19, n), np.arange(19, 1000, 20), np.log(SIGMAS[19::20])))),
        False,
    ),
}
COMFYUI: dict[str, Callable[..., Tensor]] = {
    "euler": euler,
    "euler_cfg_pp": having(euler, cfgpp=True),
    "euler_ancestral": having(euler, eta=1.0),
    "euler_ancestral_cfg_pp": having(euler, eta=1.0, cfgpp=True),
    "heun": heun,
    "heunpp2": heunpp2,
    "exp_heun_2_x0": having(seeds, places=(1.0,), eta=0.0, exact=True),
    "exp_heun_2_x0_sde": having(seeds, places=(1.0,), eta=1.0, exact=True),
    "dpm_2": dpm2,
    "dpm_2_ancestral": having(dpm2, eta=1.0),
    "lms": multistep,
    "dpm_fast": dpm_fast,
    "dpm_adaptive": dpm_adaptive,
    "dpmpp_2s_ancestral": dpmpp_2s,
    "dpmpp_2s_ancestral_cfg_pp": having(dpmpp_2s, cfgpp=True),
    "dpmpp_sde": dpmpp_sde,
    "dpmpp_sde_gpu": dpmpp_sde,
    "dpmpp_2m": dpmpp_2m,
    "dpmpp_2m_cfg_pp": having(dpmpp_2m, cfgpp=True),
    "dpmpp_2m_sde": having(sde_multistep, kind="midpoint"),
    "dpmpp_2m_sde_gpu": having(sde_multistep, kind="midpoint"),
    "dpmpp_2m_sde_heun": having(sde_multistep, kind="heun"),
    "dpmpp_2m_sde_heun_gpu": having(sde_multistep, kind="heun"),
    "dpmpp_3m_sde": having(sde_multistep, kind="3m"),
    "dpmpp_3m_sde_gpu": having(sde_multistep, kind="3m"),
    "ddpm": having(euler, eta=1.0),
    "lcm": lcm,
    "ipndm": ipndm,
    "ipndm_v": ipndm_v,
    "deis": having(multistep, order=3, time=vp_time),
    "cfgpp_ud10_ab": cfgpp_ud10_ab,
    "res_multistep": res,
    "res_multistep_cfg_pp": having(res, cfgpp=True),
    "res_multistep_ancestral": having(res, eta=1.0),
    "res_multistep_ancestral_cfg_pp": having(res, eta=1.0, cfgpp=True),
    "gradient_estimation": gradient_estimation,
    "gradient_estimation_cfg_pp": having(gradient_estimation, cfgpp=True),
    "er_sde": er_sde,
    "seeds_2": having(seeds, places=(0.5,), eta=1.0, exact=False),
    "seeds_3": having(seeds, places=(1 / 3, 2 / 3), eta=1.0, exact=True),
    "sa_solver": sa_solver,
    "sa_solver_pece": having(sa_solver, pece=True),
    "ddim": euler,
    "uni_pc": having(unipc, bh1=True),
    "uni_pc_bh2": unipc,
}
OTHER_DRAWS = ("DPM++ SDE", "dpmpp_sde", "exp_heun_2_x0_sde", "sa_solver", "LCM", "lcm")  # than the names alone
DISCARDING = ("dpm_2", "dpm_2_ancestral", "uni_pc", "uni_pc_bh2")


def theirs(place: str, name: str) -> tuple[Tensor, str]:
    """The last latents as the program makes them, and on which schedule."""
    if place == "a1111":
        sampler, schedule, levels, unit = A1111[name]
        timestep = (lambda s: 20.0 * round((fractional(s) - 19) / 20) + 19) if name == "LCM" else fractional
    else:
        schedule = "default" if name in ("dpm_fast", "dpm_adaptive") else "karras"  # whose levels are their own
        sampler, unit, timestep = COMFYUI[name], True, whole
        levels = discarded(karras) if name in DISCARDING else karras
    S, generator = [*levels(STEPS), 0.0], torch.Generator().manual_seed(0)
    x = START * (math.sqrt(1 + S[0] ** 2) if unit else S[0])
    z = lambda: torch.randn(START.shape, generator=generator, dtype=START.dtype)  # noqa: E731
    return sampler(Model(timestep, is_guided(name)), x, S, z), schedule


def is_guided(name: str) -> bool:
    return "CFG++" in name or "cfg" in name


def difference(a: Tensor, b: Tensor) -> float:
    return float((a - b).abs().max() / b.abs().max())


NAMES = [("a1111", name) for name in A1111] + [("comfyui", name) for name in COMFYUI]


def alone(name: str, schedule: str, expected: Tensor) -> float:
    """The difference of the name without its program; nan where it does not run, or draws otherwise."""
    entry = REGISTRY.entry(name)
    if name.partition("_gpu")[0] in OTHER_DRAWS:
        return math.nan
    try:
        return difference(ours(entry.name, schedule, is_guided(name)), expected)
    except RegistryError:
        return math.nan


@pytest.mark.parametrize(("place", "name"), NAMES)
def test_a_programs_sampler_gives_what_the_program_gives(place: str, name: str) -> None:
    expected, schedule = theirs(place, name)
    found = difference(ours(f"{place}:{name}", schedule, is_guided(name)), expected)
    assert found < (CLOSE if name != "dpm_adaptive" else 10 * CLOSE)  # which stops anywhere, and timesteps are whole
    bound, plain = PUBLISHED[place, name]
    assert found <= 10.0 ** int(bound)
    assert alone(name, schedule, expected) == pytest.approx(plain, rel=0.3, nan_ok=True)


FLOW = mended(
    {"_class_name": "FlowMatchEulerDiscreteScheduler", "num_train_timesteps": 1000, "shift": 3.0},
    "StableDiffusion3Pipeline",
)
SOLVERS = (
    "euler", "heun", "heunpp2", "dpm_2", "lms", "dpmpp_2m", "ipndm", "ipndm_v", "deis", "res_multistep",
    "gradient_estimation", "ddim", "uni_pc", "uni_pc_bh2",
)  # fmt: skip


def simple_on_flow(n: int) -> list[float]:
    shifted = [3 * t / (1 + 2 * t) for t in np.arange(1, 1001) / 1000]
    return [float(shifted[-1 - int(i * 1000 / n)]) for i in range(n)]


@pytest.mark.parametrize("name", SOLVERS)
def test_on_flow_matching_a_solver_of_comfyuis_is_the_same(name: str) -> None:
    oracle = Oracle(DATA, noise_schedule(FLOW))
    levels = discarded(simple_on_flow) if name in DISCARDING else simple_on_flow
    expected = COMFYUI[name](lambda x, s: x - s * oracle(x, 1000 * s), START, [*levels(STEPS), 0.0], None)
    found, _ = loop(resolve(REGISTRY.entry(f"comfyui:{name} simple"), FLOW), oracle, START, STEPS, flow=True)
    assert difference(found, expected) < CLOSE


EXPLODING = (
    "er_sde", "seeds_2", "seeds_3", "dpmpp_2m_sde", "dpmpp_2m_sde_heun", "dpmpp_3m_sde", "dpmpp_sde", "exp_heun_2_x0",
    "exp_heun_2_x0_sde", "lcm",
)  # fmt: skip


@pytest.mark.parametrize("name", EXPLODING)
def test_on_flow_matching_comfyuis_samplers_that_step_in_log_snr_are_the_same(name: str) -> None:
    """They divide by 1 - s, and begin at the timestep 0.9999 instead of 1."""
    oracle, generator = Oracle(DATA, noise_schedule(FLOW)), torch.Generator().manual_seed(0)
    levels = simple_on_flow(STEPS)
    levels[0] = levels[0] if name == "lcm" else 3 * 0.9999 / (1 + 2 * 0.9999)

    def denoised(x: Tensor, sigma: float) -> Tensor:
        s = sigma / (1 + sigma)
        return (1 - s) * x - s * oracle((1 - s) * x, 1000 * s)

    first = 1 - levels[0] if levels[0] < 1 else 1e-12
    S = [s / max(1 - s, 1e-12) for s in levels] + [0.0]
    z = lambda: torch.randn(START.shape, generator=generator, dtype=START.dtype)  # noqa: E731
    expected = COMFYUI[name](denoised, START / first, S, z)
    found, _ = loop(resolve(REGISTRY.entry(f"comfyui:{name} simple"), FLOW), oracle, START, STEPS, flow=True)
    assert difference(found, expected) < CLOSE


def renoised(D: Callable[..., Tensor], x: Tensor, S: list[float], z: Noise, kind: str) -> Tensor:
    """Ancestral sampling that keeps x = (1 - s) x0 + s noise."""
    for a, b in pairwise(S):
        d, down = D(x, a), b * b / a
        if not b:
            return d
        if kind == "dpm_2_ancestral":
            c = math.exp((math.log(a) + math.log(down)) / 2)
            y = x + (c - a) / a * (x - d)
            x = x + (down - a) / c * (y - D(y, c))
        else:
            log_snr = (math.log((1 - a) / a) + math.log((1 - down) / down)) / 2 if a < 1 else math.inf
            c = 1 / (1 + math.exp(log_snr)) if a < 1 else 0.9999
            d = D(c / a * x + (1 - c / a) * d, c) if kind == "dpmpp_2s_ancestral" else d
            x = down / a * x + (1 - down / a) * d
        kept = (1 - b) / (1 - down)
        x = kept * x + math.sqrt(b**2 - (down * kept) ** 2) * z()
    return x


@pytest.mark.parametrize("name", ["euler_ancestral", "dpm_2_ancestral", "dpmpp_2s_ancestral"])
def test_on_flow_matching_comfyuis_ancestral_samplers_are_the_same(name: str) -> None:
    oracle, generator = Oracle(DATA, noise_schedule(FLOW)), torch.Generator().manual_seed(0)
    levels = (discarded(simple_on_flow) if name in DISCARDING else simple_on_flow)(STEPS)
    z = lambda: torch.randn(START.shape, generator=generator, dtype=START.dtype)  # noqa: E731
    expected = renoised(lambda x, s: x - s * oracle(x, 1000 * s), START, [*levels, 0.0], z, name)
    found, _ = loop(resolve(REGISTRY.entry(f"comfyui:{name} simple"), FLOW), oracle, START, STEPS, flow=True)
    assert difference(found, expected) < CLOSE


def test_all_of_comfyuis_names_run_on_flow_matching() -> None:
    found = {name: judge(REGISTRY.entry(f"comfyui:{name}"), FLOW) for name in COMFYUI}
    assert {name: why for name, (status, why) in found.items() if status != "ok"} == {}


@pytest.mark.parametrize(
    ("name", "sampler"),
    [
        ("euler-cfgpp", having(euler, cfgpp=True)),
        ("euler-a-cfgpp", having(euler, cfgpp=True, eta=1.0)),
        ("dpmpp-2m-cfgpp", having(dpmpp_2m, cfgpp=True)),
        ("dpmpp-2s-a-cfgpp", authors_2s),
    ],
)
def test_cfg_pp_is_as_its_authors_have_it(name: str, sampler: Callable[..., Tensor]) -> None:
    S, generator = [*karras(STEPS), 0.0], torch.Generator().manual_seed(0)
    z = lambda: torch.randn(START.shape, generator=generator, dtype=START.dtype)  # noqa: E731
    expected = sampler(Model(fractional, guided=True), START * S[0], S, z)
    assert difference(ours(name, "karras", guided=True), expected) < 10 * CLOSE  # levels are float32 there


def test_every_name_of_a_program_has_its_own_row() -> None:
    assert {place: len(rows) for place, rows in REGISTRY.originals.items()} == {
        "a1111": len(A1111),
        "comfyui": len(COMFYUI),
    }


# docs/names.md ------------------------------------------------------------------------------------------------------

HEAD = "| program | name | difference below | of the name alone |\n| --- | --- | --- | --- |"
START_MARK, END_MARK = "<!-- originals -->\n", "<!-- end of originals -->"


def rows() -> Iterator[str]:
    for place, name in NAMES:
        expected, schedule = theirs(place, name)
        found = difference(ours(f"{place}:{name}", schedule, is_guided(name)), expected)
        plain = alone(name, schedule, expected)
        bound = math.ceil(math.log10(max(found * 1.5, 1e-9)))
        yield f"| {place} | {name} | 1e{bound} | {'–' if math.isnan(plain) else f'{plain:.1e}'} |"


def published() -> dict[tuple[str, str], tuple[str, float]]:
    table = PAGE.read_text(encoding="utf-8").partition(START_MARK)[2].partition(END_MARK)[0]
    found = (re.fullmatch(r"\| (\w+) \| (.+?) \| 1e(-\d+) \| (\S+) \|", line) for line in table.splitlines())
    return {(m[1], m[2]): (m[3], math.nan if m[4] == "–" else float(m[4])) for m in found if m}


PUBLISHED = published()

if __name__ == "__main__":
    before, _, rest = PAGE.read_text(encoding="utf-8").partition(START_MARK)
    PAGE.write_text(
        "".join([before, START_MARK, "\n".join([HEAD, *rows(), ""]), END_MARK, rest.partition(END_MARK)[2]]),
        encoding="utf-8",
    )
