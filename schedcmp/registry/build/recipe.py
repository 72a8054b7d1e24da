"""A recipe: a scheduler class with all of its arguments, and the schedulers that are made of it."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from typing import Any

from schedcmp.errors import RegistryError, raised_as
from schedcmp.guard.foreign import TRIAL_S, contained
from schedcmp.guard.private import answer_with_levels
from schedcmp.registry.build.classes import refuse_huge
from schedcmp.registry.entry import Entry
from schedcmp.spacing.flow import FlowSpacing

_FEW_STEPS = 4
_STEPS_PER_S = 50


@dataclass(frozen=True, slots=True)
class Option:
    """One constructor argument of a resolved scheduler, and who decided it."""

    value: Any
    source: str  # "class default", "checkpoint", "registry", "entry", "karras sigmas"


@dataclass(frozen=True)
class Recipe:
    """An entry resolved against a checkpoint: a class with all of its arguments."""

    entry: Entry  # with the implementation that was chosen
    cls: type
    options: Mapping[str, Option]
    pipeline: str = ""  # the class name of the checkpoint's pipeline, where it is known
    spacing: FlowSpacing | None = None  # where its noise levels on flow matching come from, if not from the class
    told: Mapping[str, Any] = field(default_factory=dict)  # what pipelines read of the config beside the options

    @property
    def config(self) -> dict[str, Any]:
        """The resolved config, restricted to what the class really takes."""
        return {name: option.value for name, option in self.options.items()}

    @property
    def levels(self) -> str:
        """The list of noise levels that it is made to visit, by name; empty where the class decides."""
        return self.spacing.name if self.spacing else self.entry.sigmas.levels

    @property
    def work(self) -> str:
        """What it does, whatever it is called: equal for two recipes that make the same images."""
        where = self.spacing.options if self.spacing else None
        return repr((self.cls.__module__, self.cls.__qualname__, sorted(self.config.items()), self.levels, where))

    @property
    def foreign(self) -> bool:
        """Whether its class or sampler function is neither diffusers' nor ours."""
        return self.cls.__module__.partition(".")[0] not in ("diffusers", "schedcmp")

    def patience(self, steps: int = 0) -> float | None:
        """CPU seconds for a trial of so many steps on tiny latents; None: any, where the class is not foreign."""
        return TRIAL_S + steps / _STEPS_PER_S if self.foreign else None

    def as_run(self, config: Mapping[str, Any]) -> dict[str, Any]:
        """What ran, by the config of a scheduler of this recipe after its run: diffusers changes options by itself.

        With the class, and the list of noise levels, where that is why it has Karras' option.
        """
        own = self.cls.__module__.startswith("diffusers.")
        return {
            "_class_name": self.cls.__name__ if own else self.entry.cls,
            **({"_levels": self.levels} if self.levels else {}),
            **{name: config.get(name, value) for name, value in self.config.items()},
        }

    def build(self, seed: int = 0) -> Any:
        """A fresh scheduler; `seed` reaches the classes that draw their own noise.

        Raises:
            RegistryError: the class refuses this combination of options.
        """
        if self.entry.seed:
            return self._construct({self.entry.seed: seed})
        return copy.deepcopy(self._unused)

    @cached_property
    def _unused(self) -> Any:
        """Never used, only copied: some constructors take milliseconds."""
        return self._construct({})

    def alike(self) -> AbstractContextManager[None]:
        """While open, code from elsewhere draws the same global random numbers every time, and leaves them alone."""
        if not self.foreign:
            return nullcontext()
        import torch

        from schedcmp.samplers.global_random import Own, sources

        return Own(sources(torch.device("cpu")), 0).in_charge()

    def _construct(self, more: Mapping[str, Any]) -> Any:
        refuse_huge(self.entry.name, self.config)
        told = f"{self.entry.name}: {self.cls.__name__} refuses its options"
        with raised_as(RegistryError, told, Exception):  # third-party constructors raise what they like
            with contained(self.patience()), self.alike():
                scheduler = _hasty(self.cls)(**{**self.config, **more})
            scheduler.__class__ = self.cls
            if self.told:
                scheduler.register_to_config(**self.told)
            return self._spaced(scheduler)

    def _spaced(self, scheduler: Any) -> Any:
        """The scheduler, visiting the noise levels that the recipe has for it."""
        if self.spacing:
            from schedcmp.spacing.placed import placed

            return placed(scheduler, self.spacing)
        if self.entry.sigmas.levels:
            from schedcmp.spacing.levels import listed

            answer_with_levels(scheduler, listed(self.entry.sigmas.levels, scheduler))
        return scheduler


@lru_cache
def _hasty(cls: Any) -> Any:
    """A class of diffusers whose constructor makes a schedule of a few steps where it would make one of all training
    timesteps: KDPM2's takes 0.2 s, and the first `set_timesteps` throws it away."""
    if not cls.__module__.startswith("diffusers."):
        return cls

    def set_timesteps(scheduler: Any, steps: int, *others: Any, **named: Any) -> None:
        cls.set_timesteps(scheduler, min(steps, _FEW_STEPS), *others, **named)

    return type(cls.__name__, (cls,), {"set_timesteps": set_timesteps})
