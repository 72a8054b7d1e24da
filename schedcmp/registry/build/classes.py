"""Scheduler classes by name: what they take, and what may not be handed to them."""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Mapping
from functools import lru_cache
from importlib.util import find_spec
from types import MappingProxyType
from typing import Any

from schedcmp.errors import RegistryError
from schedcmp.guard.foreign import IMPORT_S, contained
from schedcmp.registry.entry import Entry
from schedcmp.registry.postpone import STATISTICS, postponed

MOST_TIMESTEPS = 10_000  # a table of noise levels for each step, and checkpoints have 1,000
MOST_ENTRIES = 100_000
_OURS = ("", "schedcmp")  # and diffusers', which has no module's name
_INSTALL = {"torchsde": 'pip install "schedcmp[sde]"', "scipy": "pip install scipy"}


class MissingExtraError(RegistryError):
    """The entry needs a package that is not installed."""


def load_class(path: str, origin: str = "schedcmp", *, flow: bool = False) -> type:
    """A scheduler class by its diffusers name or dotted path; for a sampler function's path the class that runs it,
    for flow matching if `flow`.

    Raises:
        RegistryError: there is nothing of that name, or it is neither.
    """
    module_name, _, name = path.rpartition(".")
    try:
        with contained(None if module_name.partition(".")[0] in _OURS else IMPORT_S), postponed(*STATISTICS):
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


@lru_cache(maxsize=512)
def constructor_defaults(cls: type) -> Mapping[str, Any]:
    """Every argument that the class takes, with its default (`inspect.Parameter.empty` where there is none)."""
    parameters = list(inspect.signature(cls).parameters.values())
    taken = (p for p in parameters if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY))
    return MappingProxyType({p.name: p.default for p in taken})


def require_extras(entry: Entry) -> None:
    """Raises MissingExtraError."""
    for package in (entry.needs, entry.sigmas.needs):
        if package and find_spec(package) is None:
            command = _INSTALL.get(package, f"pip install {package}")
            raise MissingExtraError(f"{entry.name} needs the package {package}, which is not installed: {command}")


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
