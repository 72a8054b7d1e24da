"""One case of an attack: its random numbers, its folders, and what it says went wrong."""

from __future__ import annotations

import os
import random
import shutil
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path


class Failed(Exception):  # noqa: N818
    """What was promised did not hold."""


@dataclass(frozen=True)
class Grounds:
    """What all cases share, made once; not to be changed."""

    folder: Path
    seconds: Mapping[str, float] = field(default_factory=dict)  # that the runs took, by their sweeps'

    @property
    def checkpoint(self) -> Path:
        return self.folder / "sd1"

    def sweep(self, name: str) -> Path:
        return self.folder / f"{name}.yaml"

    def run(self, name: str) -> Path:
        """The finished run of a sweep, which nothing interrupted."""
        return self.folder / name


@dataclass
class Case:
    """`Case(attack, seed, number, ...)` is the same attack each time."""

    attack: str
    seed: int
    number: int
    grounds: Grounds
    folder: Path
    seen: Counter[str] = field(default_factory=Counter)
    done: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.random = random.Random(f"{self.attack} {self.seed} {self.number}")
        shutil.rmtree(self.folder, ignore_errors=True)
        self.folder.mkdir(parents=True)
        os.chdir(self.folder)  # what is written where a command was called is seen

    def say(self, what: str) -> None:
        """Note what is done, for whoever repeats it."""
        self.done.append(what)

    def copy(self, name: str) -> Path:
        """A copy of a finished run, to break; its sweep is beside it. Files keep their times."""
        shutil.copy2(self.grounds.sweep(name), self.folder / "sweep.yaml")
        return Path(shutil.copytree(self.grounds.run(name), self.folder / "run", symlinks=True))

    @property
    def sweep(self) -> Path:
        return self.folder / "sweep.yaml"
