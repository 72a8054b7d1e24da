"""Which schedulers make the host wait for the device, seen on a device that is not there."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from far import DEVICE, Far, Watcher

from schedcmp.engine.guarded import seeded
from schedcmp.engine.hosted import hosted
from schedcmp.registry.build import Recipe, resolve
from schedcmp.registry.compat import judge
from schedcmp.registry.table import builtin_registry

BETAS = {
    "_class_name": "PNDMScheduler", "beta_schedule": "scaled_linear", "beta_start": 0.00085, "beta_end": 0.012,
    "skip_prk_steps": True, "steps_offset": 1,
}  # fmt: skip
FLOW = {"_class_name": "FlowMatchEulerDiscreteScheduler", "shift": 3.0}
NOISE = "_to_copy at torch_utils.py:randn_tensor"  # drawn on the host, so that it is the same on every device
SYSTEM = "its coefficients are the solution of a system of equations, set up and solved on the device"
REASONS = {
    "unipc": SYSTEM,
    "unipc-bh1": SYSTEM,
    "FlowMatchHeunDiscreteScheduler": "it asks at each step whether its noise level, on the device, is within bounds",
    "dpm-adaptive": "the length of its next step depends on the error of the last one",
}


def recipes(config: dict[str, Any]) -> dict[str, Recipe]:
    found = {}
    for entry in builtin_registry().entries.values():
        if judge(entry, config)[0] == "ok":
            found[entry.name] = resolve(entry, config)
    return found


RECIPES = {"betas": recipes(BETAS), "flow": recipes(FLOW)}
CASES = [(kind, name) for kind, found in RECIPES.items() for name in found]


def waits(recipe: Recipe, *, on_host: bool = True) -> dict[str, int]:
    """Of all steps but the first, with what `randn_tensor` copies left out."""
    generator = torch.Generator().manual_seed(0)
    scheduler = seeded(recipe.build(0), generator)
    if on_host:
        hosted(scheduler, DEVICE)
    with torch.no_grad(), Watcher() as watcher:
        scheduler.set_timesteps(4, device=DEVICE)
        x = Far(torch.randn(1, 4, 8, 8, generator=generator) * float(getattr(scheduler, "init_noise_sigma", 1.0)))
        for i, t in enumerate(scheduler.timesteps):
            if hasattr(scheduler, "scale_model_input"):
                scheduler.scale_model_input(x, t)
            x = scheduler.step(x * 0.5, t, x, return_dict=False)[0]
            if not i:
                watcher.waits.clear()
    return {place: n for place, n in watcher.waits.items() if place != NOISE}


@pytest.fixture(autouse=True)
def generators_on_the_host(monkeypatch: pytest.MonkeyPatch) -> None:
    """torchsde's tree has generators where its noise is; a device that is not there has none."""
    generator = torch.Generator
    monkeypatch.setattr(torch, "Generator", lambda device="cpu": generator("cpu"))


@pytest.mark.parametrize(("kind", "name"), CASES, ids=[f"{name}-{kind}" for kind, name in CASES])
def test_no_step_makes_the_host_wait(kind: str, name: str) -> None:
    recipe = RECIPES[kind][name]
    found = waits(recipe)
    assert bool(found) == (name in REASONS or recipe.cls.__name__ in REASONS), found


@pytest.mark.parametrize("name", ["ddim", "ddpm", "pndm"])
def test_the_watcher_sees_what_schedulers_do_with_timesteps_on_the_device(name: str) -> None:
    assert waits(RECIPES["betas"][name], on_host=False)


@pytest.mark.parametrize(("name", "sigmas"), [("euler", "cpu"), ("flow-euler", DEVICE.type)])
def test_timesteps_live_on_the_host_and_noise_levels_where_the_class_keeps_them(name: str, sigmas: str) -> None:
    recipe = RECIPES["flow" if name.startswith("flow") else "betas"][name]
    scheduler, plain = hosted(recipe.build(), DEVICE), recipe.build()
    with Watcher():
        scheduler.set_timesteps(5, device=DEVICE)
        plain.set_timesteps(5, device=DEVICE)
        assert (scheduler.timesteps.device.type, scheduler.sigmas.device.type) == ("cpu", sigmas)
        assert plain.sigmas.device.type == sigmas
        assert torch.equal(scheduler.timesteps, plain.timesteps.cpu())
        assert torch.equal(scheduler.sigmas.cpu(), plain.sigmas.cpu())
