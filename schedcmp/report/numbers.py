"""Numbers for people, the same in every table, grid, plot and sentence; the page's own are in `assets/format.js`."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence

NONE = "–"


def seconds(value: float | None) -> str:
    """Three digits and a fitting unit: "1.23 s", "45.6 ms", "–" for None."""
    if value is None:
        return NONE
    rounded = float(f"{value:.3g}")
    if rounded >= 1000:
        return f"{value:.0f} s"
    size, unit = (1.0, "s") if rounded >= 1 else (1e-3, "ms") if rounded >= 1e-3 else (1e-6, "µs")
    return f"{value / size:.3g} {unit}"


def counted(count: int, word: str) -> str:
    """ "1 cell", "1,216 cells"."""
    return f"{count:,} {word}{'s' if count != 1 else ''}"


def mebibytes(value: int | None) -> str:
    return NONE if value is None else f"{value / 2**20:,.0f} MiB"


def markdown_table(head: Sequence[str], rows: Iterable[Sequence[str]], numbers: Collection[int] = ()) -> str:
    """A table in Markdown; `numbers`: which columns are flush right."""
    rules = ["---:" if i in numbers else "---" for i in range(len(head))]
    return "\n".join(f"| {' | '.join(line)} |" for line in (head, rules, *rows))
