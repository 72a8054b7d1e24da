"""A sweep over several checkpoints: a sweep each, prepared; each becomes an ordinary run, see `store.several`."""

from __future__ import annotations

import gc
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import yaml

from schedcmp.checkpoint import Checkpoint
from schedcmp.errors import RequestError, SweepError
from schedcmp.files import is_address, slug
from schedcmp.prepare import Prepared, prepare_sweep
from schedcmp.store.several import place_of, write_labels
from schedcmp.sweep.document import checked, dump
from schedcmp.sweep.models import joined, members
from schedcmp.sweep.source import Source, read


@dataclass(frozen=True, slots=True)
class Several:
    """The checkpoints of a sweep, by label in its order."""

    name: str
    members: dict[str, Prepared]

    @property
    def folder(self) -> Path:
        """Where the run goes unless the user says otherwise."""
        return Path("outputs") / self.name

    @property
    def text(self) -> str:
        """The sweep over all of them, repeatable from any folder."""
        plain = {label: yaml.safe_load(dump(one.portable_sweep)) for label, one in self.members.items()}
        return joined(self.name, plain)

    def begin(self, output: str | None) -> Path:
        """Make a folder that of these checkpoints.

        Raises:
            RunFolderError: it is another run's, or holds something else.
            RequestError: it is an address.
            RunError: it cannot be written.
        """
        if output and is_address(output):
            raise RequestError(
                f"-o {output}: runs of several checkpoints need a folder on this host; or run each alone, by"
                " --set model=ID"
            )
        folder = Path(output) if output else self.folder
        write_labels(folder, self.members, self.text)
        return folder

    def each(self, folder: Path) -> Iterator[tuple[Path, Prepared]]:
        """Each checkpoint and the place of its run. What it has loaded is forgotten before the next one comes.

        One that an earlier entry has unchanged, neither quantised nor with a step cache, is compared with that.
        """
        plain: dict[tuple[object, ...], Path] = {}
        for label in [*self.members]:
            place, model = place_of(folder, label), self.members[label].sweep.model
            same = (model.id, model.python, repr(model.options))
            before = plain.get(same)
            if not (model.quantize or model.cache):
                plain.setdefault(same, place)
            yield place, self.members.pop(label).beside(before)
            _forget_weights()


def prepared(
    source: Source, name: str, *, progress: bool = False, checkpoint: Checkpoint | None = None
) -> Prepared | Several:
    """A document, checked against its checkpoint or each of them; only a sweep's own code may load weights.

    Args:
        name: of the sweep, where it has none.
        checkpoint: instead of the one that the sweep names.

    Raises:
        RequestError: whatever is wrong with the request.
    """
    documents = members(source, name)
    if not documents:
        sweep = checked(source)
        named = sweep if sweep.name else sweep.model_copy(update={"name": name})
        return prepare_sweep(named, source, progress=progress, checkpoint=checkpoint)
    sweeps = {label: checked(document) for label, document in documents.items()}
    found = {}
    for label, sweep in sweeps.items():
        try:
            found[label] = prepare_sweep(sweep, documents[label], progress=progress)
        except RequestError as error:
            raise SweepError(f"{error} (of the checkpoint {label})") from error
    return Several(str(source.data.get("name") or name), found)


def prepare_all(path: Path, overrides: tuple[str, ...] = (), *, progress: bool = False) -> Prepared | Several:
    """A sweep file, read and checked as far as that takes no weights. Raises RequestError."""
    return prepared(read(path, overrides), slug(path.stem), progress=progress)


def _forget_weights() -> None:
    gc.collect()
    torch = sys.modules.get("torch")
    if torch and torch.cuda.is_available():
        torch.cuda.empty_cache()
