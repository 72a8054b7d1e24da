"""The timing table for a paper: LaTeX with the booktabs package."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from schedcmp.report.tables import HEAD, TimingRow, readable, unusable

_SPECIAL = {
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    **{c: f"\\{c}" for c in "&%$#_{}"},
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    "×": r"$\times$",
    "µ": r"\textmu{}",
    "–": "--",
    "\n": " ",
}


def escaped(text: str) -> str:
    """Text that LaTeX sets as it stands, in a document of any UTF-8 engine."""
    return "".join(_SPECIAL.get(c, c) for c in text)


def timings_latex(rows: Sequence[TimingRow]) -> str:
    r"""A `tabular` to be put in with `\input`; it needs `\usepackage{booktabs}`."""
    head, *body = [HEAD, *readable(rows)]
    lines = [
        "% \\usepackage{booktabs}",
        f"\\begin{{tabular}}{{l{'r' * (len(HEAD) - 1)}}}",
        "\\toprule",
        _line(head),
        "\\midrule",
        *_apart(rows, map(_line, body)),
        "\\bottomrule",
        *[f"\\multicolumn{{{len(HEAD)}}}{{l}}{{{escaped(unusable(row.doubt))}}} \\\\" for row in rows[:1] if row.doubt],
        "\\end{tabular}",
    ]
    return "\n".join(lines) + "\n"


def _apart(rows: Sequence[TimingRow], lines: Iterable[str]) -> Iterator[str]:
    """A little space where another scheduler begins."""
    before = None
    for row, line in zip(rows, lines, strict=True):
        if before not in (None, row.scheduler):
            yield "\\addlinespace"
        before = row.scheduler
        yield line


def _line(cells: Sequence[str]) -> str:
    return " & ".join(map(escaped, cells)) + r" \\"
