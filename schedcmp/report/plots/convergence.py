"""Quality against cost: how each scheduler comes nearer with more evaluations."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from schedcmp.drawing import Line, line_figure, nfe_axis, quality_axis
from schedcmp.grouped import grouped
from schedcmp.readings import Reading
from schedcmp.registry.table import builtin_registry
from schedcmp.report.answer import Answer
from schedcmp.report.enough import enough, oracle_order, told_order
from schedcmp.report.numbers import NONE
from schedcmp.report.quality import Point

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


def convergence_data(found: Answer, orders: Mapping[str, Mapping[str, Any]] = MappingProxyType({})) -> list[Line]:
    """A line per scheduler that was run at two or more costs: the metric against NFE, with its interval.

    Args:
        orders: what the oracle says of schedulers, where the run has asked it; names tell the order found, and its.
    """
    lines: dict[str, list[Point]] = {}
    for point in sorted(found.measured, key=lambda p: p.nfe):
        for name in point.names:
            lines.setdefault(name, []).append(point)
    alike = grouped(lines, lambda name: tuple(map(id, lines[name])))
    distinct = [(" = ".join(names), lines[names[0]]) for names in alike.values()]
    told = dict(_told_orders(found, orders))
    return [_line(name + told.get(at[0].scheduler, ""), at) for name, at in distinct if len({p.nfe for p in at}) > 1]


def _told_orders(found: Answer, orders: Mapping[str, Mapping[str, Any]]) -> Iterator[tuple[str, str]]:
    for row in enough(found):
        if row.order and row.names[0] in orders:
            own = f", order {row.order.order:.1f}" if told_order(row.order) != NONE else ""
            yield row.names[0], f"{own}, oracle's order {oracle_order(orders[row.names[0]])}"


def draw_convergence(lines: Sequence[Line], metric: Reading, title: str) -> Figure:
    prepare = partial(_scales, values=[x for line in lines for x in line.x], metric=metric)
    return line_figure(lines, title, "denoiser evaluations (NFE)", metric.title, prepare)


def _line(name: str, at: Sequence[Point]) -> Line:
    qualities = [p.quality for p in at if p.quality]
    band = [q.ends for q in qualities if q.ends]
    return Line(
        name,
        builtin_registry().family(at[0].base),
        [p.nfe for p in at],
        [q.value for q in qualities],
        band if len(band) == len(qualities) else None,
    )


def _scales(ax: Axes, *, values: Sequence[float], metric: Reading) -> None:
    nfe_axis(ax, values)
    quality_axis(ax, metric)
