"""A run's results, to look at and to compute with."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields, replace
from functools import cached_property
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any

from schedcmp.errors import RequestError, RunFolderError
from schedcmp.records import Cell, StoredCell
from schedcmp.report.numbers import counted
from schedcmp.store.several import opened

if TYPE_CHECKING:
    from PIL.Image import Image

    from schedcmp.report.answer import Answer
    from schedcmp.report.tables import TimingRow

Axes = str | Sequence[str]


def open_run(folder: str | PathLike[str]) -> Run:
    """The results in a run's folder. Raises RunFolderError."""
    return Run(Path(folder).expanduser())


class Run:
    """What a run's folder held when it was opened.

    Attributes:
        folder: where everything is: tables, grids, plots, and report.html.
        cells: the finished images with their settings, timings and metrics, in the sweep's order.
    """

    def __init__(self, folder: Path) -> None:
        """Raises RunFolderError."""
        self.folder = folder
        with opened(self.folder) as results:
            self.sweep = results.sweep()
            self.cells = tuple(results.cells())

    def __repr__(self) -> str:
        return f"<schedcmp.Run {self.folder}: {counted(len(self.cells), 'image')}>"

    def _repr_html_(self) -> str:
        from schedcmp.face.html import described

        facts = {"count": len(self.cells), "troubled": len(self.troubled), "folder": self.folder}
        grid = self.grid() if self.cells else None
        return described(grid, self.answer.splitlines(), self.timings, **facts)

    @property
    def troubled(self) -> tuple[StoredCell, ...]:
        """The cells that failed, or whose images are flagged; they count in no answer."""
        return tuple(cell for cell in self.cells if cell.result.status in ("failed", "flagged"))

    @cached_property
    def timings(self) -> tuple[TimingRow, ...]:
        """Latency by scheduler and steps, seconds."""
        from schedcmp.report.tables import timing_rows

        return tuple(timing_rows(self.cells))

    @property
    def answer(self) -> str:
        """Which scheduler to take, and how sure that is, a sentence a line."""
        from schedcmp.report.across import across
        from schedcmp.report.words.across import told
        from schedcmp.report.words.plain import from_plain
        from schedcmp.report.words.sentences import under_headings

        answers = self.recommend()
        with opened(self.folder) as results:
            first = told(across(self.cells, results.readings()), answers)
        return "\n".join([*first, *from_plain(self.cells), *under_headings(answers)])

    def recommend(
        self,
        *,
        budget_s: float | None = None,
        budget_nfe: int | None = None,
        metric: str | None = None,
        limit: float | None = None,
    ) -> list[Answer]:
        """Which scheduler to take: an answer for each setting, `fastest.scheduler` and `fastest.steps` in it.

        Args:
            budget_s: at most so many seconds an image.
            budget_nfe: at most so many denoiser evaluations an image.
            metric: what decides; by default the distance from the converged image.
            limit: near enough to converged, in standard deviations of the latents.

        Raises:
            RequestError: two budgets, or a metric that the run does not have.
        """
        from schedcmp.report.answer import CONVERGED, Budget, answer

        with opened(self.folder) as results:
            references, known = results.references().values(), results.readings()
        budget = Budget.of(budget_s, budget_nfe)
        near = CONVERGED if limit is None else limit
        return answer(self.cells, references, metric=metric, budget=budget, limit=near, known=known)

    def code(self, cell: Cell | StoredCell | None = None, form: str = "diffusers") -> str:
        """What to paste to make a cell's image elsewhere, by default the recommended one's.

        Args:
            form: "diffusers" (a program), "a1111", "comfyui", "comfyui-workflow" or "invokeai".

        Raises:
            RequestError: nothing is recommended, or that program has nothing like it.
        """
        from schedcmp.report.across import recommended_cell
        from schedcmp.report.paste import paste
        from schedcmp.report.paste.subject import subject

        with opened(self.folder) as results:
            if cell is None:
                taken = recommended_cell(self.cells, self.recommend(), results.readings())
                chosen = taken and taken[0]
            else:
                wanted = cell.id if isinstance(cell, Cell) else cell.cell.id
                chosen = next((c for c in self.cells if c.cell.id == wanted), None)
            if chosen is None:
                raise RequestError(f"{self.folder}: has no such cell, or recommends none")
            return paste(subject(results, chosen), form)

    def image(self, cell: Cell | StoredCell) -> Image:
        """A cell's image; of a video a contact sheet. Raises RunFolderError if it has none."""
        from schedcmp.pictures.video import contact_sheet
        from schedcmp.report.tiles import on_white

        return on_white(contact_sheet(self.frames(cell)))

    def frames(self, cell: Cell | StoredCell) -> list[Image]:
        """The frames of a cell's video; an image is one. Raises RunFolderError if it has none."""
        from schedcmp.store.images import read_frames

        id_ = cell.id if isinstance(cell, Cell) else cell.cell.id
        path = next((found.image_path for found in self.cells if found.cell.id == id_), None)
        try:
            return read_frames(self.folder, path)
        except OSError as error:
            raise RunFolderError(f"{self.folder}: cell {id_} has no image ({error})") from error

    def grid(self, rows: Axes | None = None, cols: Axes | None = None, page: Axes | None = None, **where: Any) -> Image:
        """The first of `grids`."""
        return self.grids(rows, cols, page, **where)[0]

    def grids(
        self, rows: Axes | None = None, cols: Axes | None = None, page: Axes | None = None, **where: Any
    ) -> list[Image]:
        """Labelled grids of images, one per value of every axis that is neither rows nor columns.

        Args:
            rows, cols, page: axes ("scheduler", "steps", "seed", ...), one or several; by default the sweep's.
            **where: the cells to show, by their attributes: `seed=0`, `scheduler=["euler", "ddim"]`.

        Raises:
            RequestError: there is no such axis, or no such cell.
        """
        from schedcmp.report.grid import GridAxes, draw_grids
        from schedcmp.report.tables import with_group_timings

        given = {"rows": rows, "cols": cols, "page": page}
        own = {n: (axes,) if isinstance(axes, str) else tuple(axes) for n, axes in given.items() if axes is not None}
        shown = with_group_timings(_those(self.cells, where))
        axes = replace(GridAxes.asked(self.sweep["grid"], self.cells), **own)
        return draw_grids(shown, self.folder, axes, self.sweep["name"])

    def to_dicts(self) -> list[dict[str, Any]]:
        """One for each cell, as results.csv has them: unrounded, units in the names."""
        from schedcmp.report.tables import result_rows

        with opened(self.folder) as results:
            return result_rows(self.cells, results.trajectories())

    def to_pandas(self) -> Any:
        """`to_dicts` as a pandas.DataFrame. Raises ImportError without pandas."""
        import pandas

        return pandas.DataFrame(self.to_dicts())


def _those(cells: Sequence[StoredCell], where: dict[str, Any]) -> list[StoredCell]:
    """The cells with these attributes. Raises RequestError."""
    known = [field.name for field in fields(Cell)]
    for name in where.keys() - set(known):
        raise RequestError(f"grid: cells have no {name!r}; they have {', '.join(known)}")
    wanted = {k: v if isinstance(v, list | tuple | set | range) else [v] for k, v in where.items()}
    found = [c for c in cells if all(getattr(c.cell, name) in values for name, values in wanted.items())]
    if not found:
        told = ", ".join(f"{k} {v!r}" for k, v in where.items()) or "any value"
        raise RequestError(f"grid: no finished image has {told}")
    return found
