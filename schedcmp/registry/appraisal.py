"""What the registry says of entries on one checkpoint, each question answered once."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import Any

from schedcmp.errors import RegistryError
from schedcmp.guard.foreign import OvertimeError
from schedcmp.registry.build import Recipe, resolve
from schedcmp.registry.compat import judge
from schedcmp.registry.entry import Entry
from schedcmp.registry.preflight import Trajectory, preflight
from schedcmp.registry.table import class_entry
from schedcmp.spacing.flow import shifted

_TOO_FEW = 2  # some solvers refuse so few steps, none refuses more for being few


class Appraisal:
    """Entries are known by their names, which are unique within a sweep."""

    def __init__(
        self,
        scheduler_config: Mapping[str, Any],
        suited: Collection[str] = (),
        strengths: Sequence[float | None] = (None,),
        in_the_middle: Callable[[Recipe], str] = lambda recipe: "",
        evaluations: int = 1,
    ) -> None:
        """
        Args:
            suited: as `compat.judge` takes it.
            strengths: how much of an image is noised away before it begins; None: it begins with noise alone.
            in_the_middle: why what is begun in the middle of the steps is wrong, see `truth.beginning`.
            evaluations: calls of the denoiser at each timestep.
        """
        self._config, self._suited = scheduler_config, suited
        self._strengths = strengths
        self._in_the_middle = in_the_middle
        self._evaluations = evaluations
        self._judged: dict[str, tuple[str, str]] = {}
        self._recipes: dict[str, Recipe] = {}
        self._trajectories: dict[tuple[str, int, float | None], Trajectory | RegistryError] = {}
        self._stuck: dict[str, RegistryError] = {}  # at no other number of steps is it waited for again

    def unlisted(self, known: Iterable[Entry]) -> list[Entry]:
        """The checkpoint's own scheduler, where none of the known entries is of its class."""
        name = str(self._config.get("_class_name", ""))
        there = not name or name in {entry.class_name for entry in known}
        return [] if there else [class_entry(name)]

    def judge(self, entry: Entry) -> tuple[str, str]:
        """Status and reason, as `compat.judge`."""
        if entry.name not in self._judged:
            status, reason = judge(entry, self._config, lambda e, _: self.recipe(e), self._suited)
            self._judged[entry.name] = self._begun(entry) or (status, reason) if status == "ok" else (status, reason)
        return self._judged[entry.name]

    def _begun(self, entry: Entry) -> tuple[str, str] | None:
        """Status and reason of an entry that cannot begin in the middle of its steps, where it has to."""
        if not any(strength and strength < 1 for strength in self._strengths):
            return None
        try:
            why = self._in_the_middle(self.recipe(entry))
        except RegistryError as error:
            return "unsupported", str(error)
        return ("wrong", why) if why else None

    def shift_refusal(self, shift: str) -> str:
        """Why the checkpoint cannot have this shift; empty if it can."""
        try:
            shifted(self._config, shift)
        except ValueError as error:
            return str(error)
        return ""

    def work(self, entry: Entry) -> str:
        """Equal for entries that make the same images, see `Recipe.work`. Raises RegistryError."""
        return self.recipe(entry).work

    def recipe(self, entry: Entry) -> Recipe:
        """The entry resolved against the checkpoint. Raises RegistryError."""
        if entry.name not in self._recipes:
            self._recipes[entry.name] = resolve(entry, self._config)
        return self._recipes[entry.name]

    def trajectory(self, entry: Entry, steps: int, strength: float | None = None) -> Trajectory:
        """What it does for so many steps, as `preflight`. Raises RegistryError."""
        key = (entry.name, steps, strength)
        if entry.name in self._stuck:
            raise self._stuck[entry.name]
        if key not in self._trajectories:
            try:
                self._trajectories[key] = preflight(self.recipe(entry), steps, strength)
            except RegistryError as error:
                self._trajectories[key] = error
                if isinstance(error.__cause__, OvertimeError):
                    self._stuck[entry.name] = error
        found = self._trajectories[key]
        if isinstance(found, RegistryError):
            raise found
        return found

    def most_steps(self, entry: Entry, nfe: int) -> int:
        """The most steps that cost no more than `nfe` denoiser evaluations; 0 if none do.

        Evaluations grow with steps, so halving finds it, whatever the entry makes of its steps. A sampler function that
        chooses its own steps keeps to no budget.
        """
        if getattr(getattr(self.recipe(entry).cls, "contract", None), "adaptive", False):
            return 0
        low, high = 0, int((nfe + 1) / min(strength or 1.0 for strength in self._strengths))
        while low < high:
            middle = (low + high + 1) // 2
            low, high = (middle, high) if self._cost(entry, middle) <= nfe else (low, middle - 1)
        return low if low and 0 < self._cost(entry, low) < math.inf else 0

    def _cost(self, entry: Entry, steps: int) -> float:
        try:
            most = max(self.trajectory(entry, steps, strength).nfe for strength in self._strengths)
            return self._evaluations * most
        except RegistryError:
            return 0 if steps <= _TOO_FEW else math.inf
