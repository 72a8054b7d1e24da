"""From an entry to a fresh scheduler, built from the checkpoint's pristine config and nothing else.

diffusers' own `from_config(current.config)` carries the last scheduler's options into the next one and drops options
that the class does not know without a word (diffusers issues 5002, 7183). Here every scheduler starts from the
checkpoint's config, and an option that its class does not take is refused.
"""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from importlib.util import find_spec
from typing import Any

from schedcmp.errors import RegistryError
from schedcmp.registry.entry import Entry

_INSTALL = {"torchsde": 'pip install "schedcmp[sde]"', "scipy": "pip install scipy"}


class MissingExtraError(RegistryError):
    """The entry needs a package that is not installed."""


@dataclass(frozen=True, slots=True)
class Option:
    """One constructor argument of a resolved scheduler, and who decided it."""

    value: Any
    source: str  # "class default", "checkpoint", "registry", "entry", "karras sigmas"


@dataclass(frozen=True, slots=True)
class Recipe:
    """An entry resolved against a checkpoint: a class with all of its arguments."""

    entry: Entry
    cls: type
    options: Mapping[str, Option]

    @property
    def config(self) -> dict[str, Any]:
        """The resolved config, restricted to what the class really takes."""
        return {name: option.value for name, option in self.options.items()}

    def build(self, seed: int = 0) -> Any:
        """A fresh scheduler; `seed` reaches the classes that draw their own noise.

        Raises:
            RegistryError: the class refuses this combination of options.
        """
        seeded = {self.entry.seed: seed} if self.entry.seed else {}
        try:
            return self.cls(**self.config | seeded)
        except Exception as error:  # third-party constructors raise what they like
            raise RegistryError(f"{self.entry.name}: {self.cls.__name__} refuses its options: {error}") from error


def resolve(entry: Entry, scheduler_config: Mapping[str, Any]) -> Recipe:
    """Resolve an entry against a checkpoint's scheduler config (as in its scheduler_config.json).

    Later wins: class default, the entry's `unless`, the checkpoint, the sigma schedule's `where_taken`, the entry's
    options, the sigma schedule's options.

    Raises:
        MissingExtraError: a package is not installed; the message has the command that installs it.
        RegistryError: no such class, or an option that the class does not take.
    """
    _require_extras(entry)
    cls = load_class(entry.cls, entry.origin)
    takes = constructor_defaults(cls)
    _check_options(entry, cls, takes)
    layers: list[tuple[str, Mapping[str, Any]]] = [
        ("class default", takes),
        ("registry", entry.unless),
        ("checkpoint", scheduler_config),
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
    return Recipe(entry, cls, options)


def load_class(path: str, origin: str = "schedcmp") -> type:
    """A scheduler class by its diffusers name or dotted path. Raises RegistryError."""
    module_name, _, name = path.rpartition(".")
    try:
        module = importlib.import_module(module_name or "diffusers")
        cls = getattr(module, name)
    except (Exception, SystemExit) as error:  # importing runs somebody's code
        where = module_name or f"diffusers {importlib.import_module('diffusers').__version__}"
        reason = str(error).partition("\n")[0] or type(error).__name__
        raise RegistryError(f"{origin}: there is no scheduler class {name!r} in {where} ({reason})") from error
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
            raise RegistryError(
                f"{entry.name}: {cls.__name__} cannot use {entry.sigmas.name} sigmas (it takes no {name})"
            )
        near = get_close_matches(name, takes, n=1)
        hint = f"; did you mean {near[0]!r}?" if near else f"; it takes: {', '.join(takes)}"
        raise RegistryError(f"{entry.name}: {cls.__name__} takes no option {name!r}{hint}")


def mended(scheduler_config: Mapping[str, Any], pipeline_class: str) -> dict[str, Any]:
    """The config as the pipeline's constructor leaves it.

    Stable Diffusion 1 and 2 pipelines of diffusers set `steps_offset` to 1 and `clip_sample` to false whatever the
    checkpoint says (old checkpoints lack the keys), so a comparison with diffusers must start from there too.
    """
    config = dict(scheduler_config)
    newer = pipeline_class.startswith(("StableDiffusionXL", "StableDiffusion3"))
    if newer or not pipeline_class.startswith("StableDiffusion") or "_class_name" not in config:
        return config
    full = constructor_defaults(load_class(config["_class_name"])) | config
    if full.get("steps_offset", 1) != 1:
        config["steps_offset"] = 1
    if full.get("clip_sample") is True:
        config["clip_sample"] = False
    return config
