"""From an entry to a fresh scheduler, built from the checkpoint's pristine config and nothing else.

diffusers' own `from_config(current.config)` carries the last scheduler's options into the next one and drops options
that the class does not know without a word (diffusers issues 5002, 7183). Here every scheduler starts from the
checkpoint's config, and an option that its class does not take is refused.
"""

from __future__ import annotations

import copy
import importlib
import inspect
import json
from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from difflib import get_close_matches
from functools import cached_property, lru_cache
from importlib.util import find_spec
from typing import Any

from schedcmp.errors import RegistryError
from schedcmp.foreign import IMPORT_S, TRIAL_S, contained
from schedcmp.registry.entry import DEFAULT_SIGMAS, Entry
from schedcmp.registry.flow import PIPELINE, flow_options, is_flow
from schedcmp.registry.postpone import STATISTICS, postponed

# What a scheduler was last set to do, which says nothing of what the model was trained for
_CHOICES = frozenset({
    "use_karras_sigmas", "use_exponential_sigmas", "use_beta_sigmas", "use_lu_lambdas", "interpolation_type",
    "final_sigmas_type", "algorithm_type", "solver_order", "solver_type", "solver_p", "lower_order_final",
    "euler_at_final", "predict_x0", "disable_corrector", "predictor_order", "corrector_order", "tau_func",
    "noise_sampler_seed", "stochastic_sampling",
})  # fmt: skip
MOST_TIMESTEPS = 10_000  # a table of noise levels for each step, and checkpoints have 1,000
MOST_ENTRIES = 100_000
_SIGMA_FLAGS = ("use_karras_sigmas", "use_exponential_sigmas", "use_beta_sigmas", "use_lu_lambdas", "use_flow_sigmas")
_FEW_STEPS = 4
_STEPS_PER_S = 50
_INSTALL = {"torchsde": 'pip install "schedcmp[sde]"', "scipy": "pip install scipy"}


class MissingExtraError(RegistryError):
    """The entry needs a package that is not installed."""


@dataclass(frozen=True, slots=True)
class Option:
    """One constructor argument of a resolved scheduler, and who decided it."""

    value: Any
    source: str  # "class default", "checkpoint", "registry", "entry", "karras sigmas"


@dataclass(frozen=True)
class Recipe:
    """An entry resolved against a checkpoint: a class with all of its arguments."""

    entry: Entry
    cls: type
    options: Mapping[str, Option]
    pipeline: str = ""  # the class name of the checkpoint's pipeline, where it is known

    @property
    def config(self) -> dict[str, Any]:
        """The resolved config, restricted to what the class really takes."""
        return {name: option.value for name, option in self.options.items()}

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
        levels = self.entry.sigmas.levels
        return {
            "_class_name": self.cls.__name__ if own else self.entry.cls,
            **({"_levels": levels} if levels else {}),
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
        try:
            with contained(self.patience()), self.alike():
                scheduler = _hasty(self.cls)(**{**self.config, **more})
            scheduler.__class__ = self.cls
            if self.entry.sigmas.levels:
                from schedcmp.registry.levels import listed

                scheduler._convert_to_karras = listed(self.entry.sigmas.levels, scheduler)
            return scheduler
        except Exception as error:  # third-party constructors raise what they like
            raise RegistryError(f"{self.entry.name}: {self.cls.__name__} refuses its options: {error}") from error


@lru_cache
def _hasty(cls: Any) -> Any:
    """A class of diffusers whose constructor makes a schedule of a few steps where it would make one of all training
    timesteps: KDPM2's takes 0.2 s, and the first `set_timesteps` throws it away."""
    if not cls.__module__.startswith("diffusers."):
        return cls

    def set_timesteps(scheduler: Any, steps: int, *others: Any, **named: Any) -> None:
        cls.set_timesteps(scheduler, min(steps, _FEW_STEPS), *others, **named)

    return type(cls.__name__, (cls,), {"set_timesteps": set_timesteps})


def resolve(entry: Entry, scheduler_config: Mapping[str, Any]) -> Recipe:
    """Resolve an entry against a checkpoint's scheduler config (as in its scheduler_config.json).

    Later wins: class default, the entry's `unless`, what the checkpoint's config says of the model, what flow matching
    asks for, the sigma schedule's `where_taken`, the entry's options, the sigma schedule's options.

    Raises:
        MissingExtraError: a package is not installed; the message has the command that installs it.
        RegistryError: no such class, or an option that the class does not take.
    """
    pipeline = str(scheduler_config.get(PIPELINE, ""))
    entry = _for_pipeline(entry, pipeline)
    _require_extras(entry)
    cls = load_class(entry.cls, entry.origin, flow=is_flow(scheduler_config))
    takes = constructor_defaults(cls)
    _check_options(entry, cls, takes)
    _check_sigmas(entry, cls, takes, scheduler_config)
    layers: list[tuple[str, Mapping[str, Any]]] = [
        ("class default", takes),
        ("registry", entry.unless),
        ("checkpoint", {name: value for name, value in scheduler_config.items() if name not in _CHOICES}),
        ("flow matching", flow_options(takes, scheduler_config)),
        (f"{entry.sigmas.name} sigmas", entry.sigmas.where_taken),
        ("entry", entry.options),
        (f"{entry.sigmas.name} sigmas", entry.sigmas.options),
    ]
    options = {
        name: Option(value, source)
        for source, layer in layers
        for name, value in layer.items()
        if name in takes and value is not inspect.Parameter.empty
    }
    return Recipe(entry, cls, options, pipeline)


def refuse_huge(name: str, options: Mapping[str, Any]) -> None:
    """Constructors make tables of as many entries as a number or a list says; a seed may be any number.

    Raises:
        RegistryError: one that is beyond `MOST_TIMESTEPS` or `MOST_ENTRIES`.
    """
    for option, value in options.items():
        trained = option == "num_train_timesteps"
        most = MOST_TIMESTEPS if trained else MOST_ENTRIES
        if isinstance(value, list | tuple) and len(value) > most:
            raise RegistryError(f"{name}: {option} may have at most {most:,} values")
        sizes = int | float if trained else int
        if isinstance(value, sizes) and "seed" not in option and abs(value) > most:
            raise RegistryError(f"{name}: {option} may be at most {most:,}")


def load_class(path: str, origin: str = "schedcmp", *, flow: bool = False) -> type:
    """A scheduler class by its diffusers name or dotted path; for a sampler function's path the class that runs it,
    for flow matching if `flow`.

    Raises:
        RegistryError: there is nothing of that name, or it is neither.
    """
    module_name, _, name = path.rpartition(".")
    try:
        with contained(IMPORT_S if module_name else None), postponed(*STATISTICS):
            module = importlib.import_module(module_name or "diffusers")
            cls = getattr(module, name)
    except Exception as error:  # importing runs somebody's code
        where = module_name or f"diffusers {importlib.import_module('diffusers').__version__}"
        reason = str(error).partition("\n")[0] or type(error).__name__
        raise RegistryError(f"{origin}: there is no scheduler class {name!r} in {where} ({reason})") from error
    if inspect.isfunction(cls):
        from schedcmp.samplers.adapter import scheduler_class

        return scheduler_class(cls, flow)
    if not (isinstance(cls, type) and hasattr(cls, "set_timesteps") and hasattr(cls, "step")):
        raise RegistryError(f"{origin}: {path} is not a scheduler class (no set_timesteps and step)")
    return cls


def constructor_defaults(cls: type) -> dict[str, Any]:
    """Every argument that the class takes, with its default (`inspect.Parameter.empty` where there is none)."""
    parameters = list(inspect.signature(cls).parameters.values())
    return {p.name: p.default for p in parameters if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)}


def _require_extras(entry: Entry) -> None:
    for package in (entry.needs, entry.sigmas.needs):
        if package and find_spec(package) is None:
            command = _INSTALL.get(package, f"pip install {package}")
            raise MissingExtraError(f"{entry.name} needs the package {package}, which is not installed: {command}")


def _check_options(entry: Entry, cls: type, takes: Mapping[str, Any]) -> None:
    for name in {**entry.options, **entry.sigmas.options}:
        if name in takes:
            continue
        if name in entry.sigmas.options:
            hint = f"; {entry.other_sigmas}-{entry.sigmas.name} can" if entry.other_sigmas else ""
            lacks = "has no place for a list of noise levels" if entry.sigmas.levels else f"takes no {name}"
            raise RegistryError(
                f"{entry.name}: {cls.__name__} cannot use {entry.sigmas.name} sigmas (it {lacks}){hint}"
            )
        near = get_close_matches(name, takes, n=1)
        if name in ("sigmas", "timesteps"):
            raise RegistryError(
                f"{entry.name}: {name} are no option of {cls.__name__}; an entry may have its own list of noise levels,"
                " as in {name: mine, base: euler, sigmas: [14.6, 6.5, 2.7, 1.0]}"
            )
        hint = f"; did you mean {near[0]!r}?" if near else f"; it takes: {', '.join(takes)}"
        raise RegistryError(f"{entry.name}: {cls.__name__} takes no option {name!r}{hint}")


def _for_pipeline(entry: Entry, pipeline: str) -> Entry:
    """The entry with the sigma schedule that is meant for the checkpoint's kind. Raises RegistryError."""
    choices = entry.sigmas.by_pipeline
    chosen = next((s for start, s in choices.items() if pipeline.startswith(start)), None)
    if choices and chosen is None:
        names = ", ".join(s.name for s in choices.values())
        what = pipeline or "a checkpoint without a pipeline"
        raise RegistryError(f"{entry.name}: {entry.sigmas.name} does not say which of {names} is for {what}")
    return replace(entry, sigmas=chosen) if chosen else entry


def _check_sigmas(entry: Entry, cls: Any, takes: Mapping[str, Any], scheduler_config: Mapping[str, Any]) -> None:
    """Refuses sigma schedules that would change nothing, or have no meaning here. Raises RegistryError."""
    sigmas = entry.sigmas
    flags = [flag for flag in _SIGMA_FLAGS if entry.options.get(flag) and not sigmas.options.get(flag)]
    if len(flags) > 1 or (flags and sigmas.options):
        both = " and ".join([*flags, *([f"{sigmas.name} sigmas"] if sigmas.options else [])])
        raise RegistryError(f"{entry.name}: asks for {both}, and a scheduler has one sigma schedule; keep one")
    for name, value in sigmas.options.items():
        if entry.options.get(name, value) != value:
            raise RegistryError(
                f"{entry.name}: has {name}: {entry.options[name]}, but {sigmas.name} sigmas set it to {value}; leave it"
                f" out, or {sigmas.name}"
            )
    if sigmas.name == DEFAULT_SIGMAS:
        return
    if hasattr(cls, "contract") and "sigmas" not in cls.contract.takes:
        raise RegistryError(
            f"{entry.name}: {entry.base} chooses its noise levels itself and takes no {sigmas.name} sigmas"
        )
    if not is_flow(scheduler_config):
        return
    if "use_flow_sigmas" in takes:
        raise RegistryError(
            f"{entry.name}: {entry.class_name} takes {sigmas.name} sigmas from betas, also where it integrates a flow"
        )
    if sigmas.levels and not sigmas.flow:
        raise RegistryError(f"{entry.name}: {sigmas.name} sigmas are not defined for flow matching")


def left_out(scheduler_config: Mapping[str, Any]) -> dict[str, Any]:
    """What the checkpoint's own scheduler was set to do beyond its class's defaults, and no entry inherits."""
    name = str(scheduler_config.get("_class_name", ""))
    defaults = constructor_defaults(load_class(name)) if name else {}
    chosen = ((name, scheduler_config[name]) for name in sorted(_CHOICES & scheduler_config.keys() & defaults.keys()))
    return {name: value for name, value in chosen if value != defaults[name]}


def told_left_out(scheduler_config: Mapping[str, Any]) -> str:
    """A sentence on it, with how to run the scheduler as the checkpoint has it; empty where there is nothing to say."""
    options = left_out(scheduler_config)
    if not options:
        return ""
    listed = ", ".join(f"{name}: {json.dumps(value)}" for name, value in options.items())
    own = f"{{name: own, class: {scheduler_config['_class_name']}, options: {{{listed}}}}}"
    return (
        f"the checkpoint's scheduler config has {listed}; names mean what they say here, so no scheduler inherits that."
        f" To run it as saved, name {own}"
    )


def mended(scheduler_config: Mapping[str, Any], pipeline_class: str) -> dict[str, Any]:
    """The config as the pipeline's constructor leaves it, and the pipeline's class name under `PIPELINE`.

    Stable Diffusion 1 and 2 pipelines of diffusers set `steps_offset` to 1 and `clip_sample` to false whatever the
    checkpoint says (old checkpoints lack the keys), so a comparison with diffusers must start from there too.

    Raises:
        RegistryError: no such class, or numbers beyond all bounds.
    """
    refuse_huge("the checkpoint's scheduler config", scheduler_config)
    config = {**scheduler_config, PIPELINE: pipeline_class}
    newer = pipeline_class.startswith(("StableDiffusionXL", "StableDiffusion3"))
    if newer or not pipeline_class.startswith("StableDiffusion") or "_class_name" not in config:
        return config
    full = constructor_defaults(load_class(config["_class_name"])) | config
    if full.get("steps_offset", 1) != 1:
        config["steps_offset"] = 1
    if full.get("clip_sample") is True:
        config["clip_sample"] = False
    return config
