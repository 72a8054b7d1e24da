"""Typefaces for grids, chosen per character, so that any prompt is legible on a machine without fonts.

Inter (bundled) comes first, then a typeface of the system that has the character, and last GNU Unifont
(bundled), which has the whole Basic Multilingual Plane and emoji. Their licence: `fontdata/OFL.txt`.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from PIL import ImageFont, features

FONT_FOLDER = Path(__file__).parent / "fontdata"
PIXELS = 16  # Unifont's outlines are squares on a grid of 16: crisp at 16 and 32 px, fair at 24, poor between

# Pillow looks these up in the usual folders of Linux, macOS and Windows.
SYSTEM_FONTS = (
    "NotoSans-Regular.ttf", "DejaVuSans.ttf", "Helvetica.ttc", "segoeui.ttf",
    "NotoSansCJK-Regular.ttc", "NotoSansCJKsc-Regular.otf", "SourceHanSans-Regular.ttc", "wqy-microhei.ttc",
    "wqy-zenhei.ttc", "DroidSansFallbackFull.ttf", "PingFang.ttc", "Hiragino Sans GB.ttc",
    "AppleSDGothicNeo.ttc", "msyh.ttc", "YuGothR.ttc", "malgun.ttf",
    "NotoSansArabic-Regular.ttf", "NotoSansHebrew-Regular.ttf", "NotoSansDevanagari-Regular.ttf",
    "NotoSansBengali-Regular.ttf", "NotoSansTamil-Regular.ttf", "NotoSansTelugu-Regular.ttf",
    "NotoSansThai-Regular.ttf", "GeezaPro.ttc", "Kohinoor.ttc", "Thonburi.ttc", "Nirmala.ttf", "leelawui.ttf",
    "Arial Unicode.ttf",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Face:
    """A typeface file. `shaped`: Raqm lays it out (joined Arabic, Indic clusters)."""

    path: str
    shaped: bool = False
    grid: int = 1  # sizes are multiples of it, px
    least: int = 1  # px

    def at(self, size: int) -> ImageFont.FreeTypeFont:
        """The face at about `size` px: at the nearest size that it is good at."""
        return _load(self.path, max(self.least, self.grid * round(size / self.grid)), self.shaped)


def _bundled(name: str, grid: int = 1, least: int = 1) -> Face:
    return Face(str(FONT_FOLDER / f"{name}.woff"), grid=grid, least=least)


REGULAR = _bundled("Inter-Regular")
SEMIBOLD = _bundled("Inter-SemiBold")
UNIFONT = _bundled("Unifont", PIXELS // 2, PIXELS)
UNIFONT_UPPER = _bundled("UnifontUpper", PIXELS // 2, PIXELS)


def face_for(character: str, bold: bool) -> Face:
    """The first typeface that has `character`."""
    inter = SEMIBOLD if bold else REGULAR
    return inter if covers(inter, character) else _fallback(character)


@lru_cache(maxsize=4096)
def covers(face: Face, character: str) -> bool:
    """Whether `face` has a glyph for `character`: Pillow tells only by what a missing one looks like."""
    return _picture(face, character) != _missing(face)


@lru_cache(maxsize=4096)
def _fallback(character: str) -> Face:
    candidates = UNIFONT_UPPER, *system_faces(), UNIFONT
    return next((face for face in candidates if covers(face, character)), UNIFONT)


@lru_cache(maxsize=1)
def system_faces() -> tuple[Face, ...]:
    """The typefaces of `SYSTEM_FONTS` that this machine has, in that order."""
    shaped = bool(features.check_feature("raqm"))
    return tuple(Face(path, shaped) for name in SYSTEM_FONTS if (path := _find(name)))


def _find(name: str) -> str | None:
    try:
        return str(ImageFont.truetype(name, 16).path)
    except OSError:
        return None


@lru_cache(maxsize=128)
def _load(path: str, size: int, shaped: bool) -> ImageFont.FreeTypeFont:
    engine = ImageFont.Layout.RAQM if shaped else ImageFont.Layout.BASIC
    return ImageFont.truetype(path, size, layout_engine=engine)


@lru_cache(maxsize=64)
def _missing(face: Face) -> tuple[object, ...]:
    return _picture(face, "\U0010ffff")  # a noncharacter: no font has it


def _picture(face: Face, character: str) -> tuple[object, ...]:
    font = _load(face.path, 16, shaped=False)  # a shaper would put a dotted circle beside a missing mark
    mask = font.getmask(character)
    return mask.size, bytes(mask), font.getlength(character)
