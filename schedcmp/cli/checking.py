"""`check` of a run: is everything what was stored?"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from schedcmp.cli.console import say, warn
from schedcmp.cli.places import place, reading
from schedcmp.cli.process import UNFINISHED
from schedcmp.errors import RunFolderError
from schedcmp.files import is_address
from schedcmp.report.numbers import counted
from schedcmp.store.folder import DATABASE
from schedcmp.store.integrity import Damage, damages, repaired
from schedcmp.store.rescue import damage, rescue
from schedcmp.store.several import labels_in, place_of
from schedcmp.store.store import Store

_SHOWN = 20


def check_run(run: str, *, repair: bool) -> int:
    """Say what of a run is damaged; returns the exit code: 1 if anything is, and is not repaired.

    Raises:
        RunFolderError: no run is there; or it is to be repaired while it is written.
    """
    if not is_address(run) and (labels := labels_in(Path(run))):
        places = [place_of(Path(run), label) for label in labels]
        return max((check_run(str(at), repair=repair) for at in places if (at / DATABASE).is_file()), default=0)
    if repair:
        _repair(run)
        return 0
    with reading(run) as folder:
        if (folder / DATABASE).is_file() and (broken := damage(folder / DATABASE)):
            warn(f"{DATABASE}: {broken}")
            found, cells = 1, ""
        else:
            with Store.open(folder) as store:
                found = _show(damages(store))
                cells = f"{counted(store.count(), 'cell')}, "
    if found:
        say(f"damaged: `schedcmp check {run} --repair` saves what can be saved; {_again(run)} makes the rest again")
        return UNFINISHED
    say(f"{run}: {cells}all is what was stored")
    return 0


def _repair(run: str) -> None:
    with place(run, new=False) as where:
        if not (where.folder / DATABASE).is_file():
            raise RunFolderError(f"{run}: has no {DATABASE}; give the folder of a run, such as outputs/quickstart")
        with Store.create(where.folder, mend=rescue) as store:
            if store.set_aside:
                cells = counted(store.count(), "cell")
                say(f"{DATABASE}: {cells} could be read; the damaged file is kept as {store.set_aside}")
            found = [*damages(store)]
            _show(found)
            count = repaired(store, found)
            missing = store.planned() - sum(1 for _ in store.cells())
    if missing:
        say(f"repaired: {count:,} cells are forgotten, {missing:,} are to be made: {_again(run)} makes them")
    else:
        say(f"{run}: all is what was stored")


def _again(run: str) -> str:
    return f"`schedcmp run {'SWEEP' if is_address(run) else f'{run}/sweep.yaml'} -o {run}`"


def _show(found: Iterable[Damage]) -> int:
    count = 0
    for count, one in enumerate(found, 1):
        if count <= _SHOWN:
            warn(f"{one.where}: {one.why}")
    if count > _SHOWN:
        warn(f"and {count - _SHOWN:,} more")
    return count
