"""The page's parts put into one file that may load nothing but images beside it."""

from __future__ import annotations

import re
from base64 import b64encode
from collections.abc import Mapping
from functools import cache
from hashlib import sha256
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from schedcmp.files import to_json
from schedcmp.report.fonts import FONT_FOLDER

ASSETS = Path(__file__).parent / "assets"

_IMPORT = re.compile(r'^import \{[^}]*\} from "\./(\w+)\.js";\n', re.MULTILINE)
_EXPORT = re.compile(r"^export (?=async |function |const |let )", re.MULTILINE)
STYLES = ("base", "images", "lightbox", "pages", "small")  # later rules win
_FACES = (("Inter-Regular", 400), ("Inter-SemiBold", 600))
_UNSAFE = {ord(mark): f"\\u{ord(mark):04x}" for mark in "<>&\u2028\u2029"}  # in a script element, or in a script


def render(data: Mapping[str, Any]) -> str:
    """The page of `data`, see `page_data`."""
    environment = Environment(
        loader=FileSystemLoader(ASSETS), autoescape=True, undefined=StrictUndefined, trim_blocks=True
    )
    return environment.get_template("page.html.jinja").render(
        data=data,
        json=to_json(data).translate(_UNSAFE),
        style=_style(),
        script=script(),
        policy=_policy(),
    )


def _policy() -> str:
    """A content security policy for this style and this script, and images beside the page (`file:` for Firefox)."""
    return (
        f"default-src 'none'; img-src 'self' file: data:; font-src data:; style-src {_digest(_style())}; "
        f"script-src {_digest(script())}; base-uri 'none'; form-action 'none'"
    )


def _digest(text: str) -> str:
    return f"'sha256-{b64encode(sha256(text.encode()).digest()).decode()}'"


@cache
def script(entry: str = "main") -> str:
    """A module and all that it imports as one script, which opens from disk: each after its imports, as a browser runs
    them. No two of them declare the same name."""
    sources: dict[str, str] = {}

    def visit(name: str) -> None:
        if name not in sources:
            sources[name] = (ASSETS / f"{name}.js").read_text(encoding="utf-8")
            for other in _IMPORT.findall(sources[name]):
                visit(other)
            sources[name] = sources.pop(name)  # behind them

    visit(entry)
    return "\n" + "\n".join(_EXPORT.sub("", _IMPORT.sub("", source)) for source in sources.values())


@cache
def _style() -> str:
    faces = "".join(
        f"\n@font-face {{ font-family: Inter; font-weight: {weight}; "
        f"src: url(data:font/woff;base64,{b64encode((FONT_FOLDER / f'{name}.woff').read_bytes()).decode()}); }}"
        for name, weight in _FACES
    )
    return "\n".join([faces, *((ASSETS / f"{name}.css").read_text(encoding="utf-8") for name in STYLES)])
