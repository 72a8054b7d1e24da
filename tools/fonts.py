"""Make the typefaces of the grids (schedcmp/report/fontdata) from their originals, with fonttools.

    python tools/fonts.py FOLDER     FOLDER holds Inter-Regular.otf, Inter-SemiBold.otf, unifont.otf, unifont_upper.otf

Both families are under the SIL Open Font License; see OFL.txt beside the results.
"""

from __future__ import annotations

import sys
from pathlib import Path

from fontTools import subset

TARGET = Path(__file__).parent.parent / "schedcmp" / "report" / "fontdata"
LATIN_GREEK_CYRILLIC = [
    (0x20, 0x24F), (0x2B0, 0x36F), (0x370, 0x52F), (0x1E00, 0x1EFF), (0x2000, 0x20CF),
    (0x2100, 0x214F), (0x2190, 0x22FF), (0xFFFD, 0xFFFD),
]  # fmt: skip
BASIC_PLANE = [(0x20, 0xFFFF)]
MATHS_AND_EMOJI = [(0x1D400, 0x1D7FF), (0x1F000, 0x1FAFF)]
SPACE_FACTOR = 1.18  # Inter's space is narrow at label sizes


def shrink(source: Path, name: str, ranges: list[tuple[int, int]], features: list[str]) -> None:
    """Keep the characters in `ranges` and write WOFF."""
    options = subset.Options(
        flavor="woff", hinting=False, name_IDs=["*"], notdef_outline=True, layout_features=features
    )
    font = subset.load_font(source, options)
    if name.startswith("Inter"):
        space, metrics = font.getBestCmap()[0x20], font["hmtx"].metrics
        metrics[space] = (round(metrics[space][0] * SPACE_FACTOR), metrics[space][1])
    subsetter = subset.Subsetter(options)
    subsetter.populate(unicodes=[code for first, last in ranges for code in range(first, last + 1)])
    subsetter.subset(font)
    subset.save_font(font, TARGET / f"{name}.woff", options)


def main(folder: Path) -> None:
    for weight in ("Regular", "SemiBold"):
        features = ["kern", "mark", "mkmk", "ccmp", "locl"]
        shrink(folder / f"Inter-{weight}.otf", f"Inter-{weight}", LATIN_GREEK_CYRILLIC, features)
    shrink(folder / "unifont.otf", "Unifont", BASIC_PLANE, [])
    shrink(folder / "unifont_upper.otf", "UnifontUpper", MATHS_AND_EMOJI, [])


if __name__ == "__main__":
    main(Path(sys.argv[1]))
