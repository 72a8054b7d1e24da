"""The parts of the documentation that the code says itself: keys, commands, names, and how many there are.

python -m tools.pages        # writes them anew, between the marks of docs/*.md, and the numbers in README.md
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import typer
import yaml
from pydantic_core import PydanticUndefined
from typer.cli import get_docs_for_click

from schedcmp.cli import app
from schedcmp.sweep.document import Sweep
from schedcmp.sweep.keys import Exclude, OfRun
from schedcmp.sweep.parts.adapters import AdapterSpec
from schedcmp.sweep.parts.entries import EntrySpec
from schedcmp.sweep.parts.fields import Part
from schedcmp.sweep.parts.grid import Grid
from schedcmp.sweep.parts.making import Executor, Jax, Optimize, Ray
from schedcmp.sweep.parts.measuring import MetricSpec, Timing
from schedcmp.sweep.parts.model import IpAdapter, Model
from schedcmp.sweep.parts.steps import Auto
from tools import names

PARTS: dict[str, type[Part]] = {
    "model": Model,
    "image: {run: ...}": OfRun,
    "ip_adapter": IpAdapter,
    "lora": AdapterSpec,
    "schedulers": EntrySpec,
    "steps: {auto: ...}": Auto,
    "exclude": Exclude,
    "timing": Timing,
    "metrics": MetricSpec,
    "grid": Grid,
    "optimize": Optimize,
    "jax": Jax,
    "executor: {ray: ...}": Ray,
}


def keys() -> str:
    """A table of the sweep's keys, and one of the keys of each of its parts."""
    parts = [f"\n## `{key}`\n\n{_first_line(part)}\n\n{_table(part)}" for key, part in PARTS.items()]
    return "\n".join([_table(Sweep), *parts])


def commands() -> str:
    """What `--help` says of each command, as typer writes it."""
    command = typer.main.get_command(app)
    with typer.Context(command, info_name="schedcmp") as context:
        text = get_docs_for_click(obj=command, ctx=context, name="schedcmp", title="Each command")
    return re.sub(
        r"^\$ .*$", lambda usage: re.sub(r" +|[{}]", lambda m: m[0][:1].strip("{}"), usage[0]), text, flags=re.MULTILINE
    )


ROOT = Path(__file__).parents[1]
# By page: its parts, by the name of their marks
PAGES: dict[str, dict[str, Callable[[], str]]] = {
    "docs/sweep.md": {"keys": keys},
    "docs/commands.md": {"commands": commands},
    "docs/names.md": {"samplers": names.samplers, "schedules": names.schedules, "absent": names.absent},
    "README.md": {},
}


def written(name: str) -> str:
    """A page as it should be. Its own text stands outside of the marks."""
    text = _read(name)
    for part, made in PAGES[name].items():
        head, rest = text.split(f"<!-- {part} -->\n")
        foot = rest.split(f"<!-- end of {part} -->")[1]
        text = f"{head}<!-- {part} -->\n{made().strip()}\n<!-- end of {part} -->{foot}"
    return _counted(text) if name == "README.md" else text


def _counted(text: str) -> str:
    """With as many of what it counts as other pages have rows."""
    images, _, videos = _read("docs/pipelines.md").partition("\n## Videos\n")
    rows = {
        "text-to-image classes": images.count("\n| `"),
        "kinds of text-to-video": videos.count("\n| `"),
        "methods": _read("docs/samplers.md").partition("\n## The methods\n")[2].partition("\n## ")[0].count("\n| `"),
        "pitfalls": len(re.findall(r"^\| \d+ \|", _read("docs/pitfalls.md"), re.MULTILINE)),
    }
    for what, count in rows.items():
        text = re.sub(rf"\b\d+ {what}\b", f"{count} {what}", text)
    return text


def _read(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


def _first_line(part: type[Part]) -> str:
    return next(cls.__doc__ for cls in part.__mro__ if cls.__doc__).partition("\n")[0]


def _table(part: type[Part]) -> str:
    return "\n".join(["| key | meaning | default |", "|---|---|---|", *_rows(part)])


def _rows(part: type[Part]) -> Iterator[str]:
    for name, field in part.model_fields.items():
        default = field.get_default(call_default_factory=True, validated_data={})
        meaning = (field.description or "").replace("|", "\\|")
        yield f"| `{field.alias or name}` | {meaning} | {_said(default)} |"


def _said(default: Any) -> str:
    """A default as one would write it; nothing where there is none or the meaning says it."""
    plain = default[0] if isinstance(default, tuple) and len(default) == 1 else default
    if plain is PydanticUndefined or isinstance(plain, Part) or plain in (None, (), {}, ""):
        return "`local`" if isinstance(plain, Executor) else ""
    return f"`{yaml.safe_dump(plain).partition('...')[0].strip()}`"


def main() -> int:
    for name in PAGES:
        (ROOT / name).write_text(written(name), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
