"""Grids: every image at its place, every label legible, every file within limits."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from PIL import Image, ImageChops, ImageDraw

from schedcmp.errors import RequestError
from schedcmp.records import Cell, CellResult, StoredCell, Timing
from schedcmp.report import bidi, fonts, layout, text
from schedcmp.report.axes import plan_pages
from schedcmp.report.grid import GridAxes, _stems, write_grids
from schedcmp.report.labels import caption, legend
from schedcmp.report.text import Style, draw_block, paragraph, text_width

STYLE = Style(14, "black")
CELL = Cell("0", 0, "ddim", "ddim", "default", 4, 0, "cat", "a cat", "", 4.0, None, None)


def make_cells(
    schedulers: Sequence[str] = ("euler",), steps: Sequence[int] = (4,), **axes: Sequence[Any]
) -> list[Cell]:
    """The product of the axes in a sweep's order. A scheduler's label is its base, or base-schedule."""
    cells = [CELL]
    for name, values in {"scheduler": schedulers, "steps": steps, **axes}.items():
        cells = [replace(cell, **{name: value}) for cell in cells for value in values]
    return [_numbered(cell, index) for index, cell in enumerate(cells)]


def _numbered(cell: Cell, index: int) -> Cell:
    base, _, schedule = cell.scheduler.partition("-")
    return replace(cell, id=f"id{index}", index=index, base=base, sigma_schedule=schedule or "default")


def store(folder: Path, cells: Sequence[Cell], size: tuple[int, int] = (64, 64)) -> list[StoredCell]:
    return [_store(folder, cell, size) for cell in cells]


def _store(folder: Path, cell: Cell, size: tuple[int, int]) -> StoredCell:
    path = f"images/{cell.id}.png"
    (folder / "images").mkdir(exist_ok=True)
    picture = Image.linear_gradient("L").resize(size).rotate(30 * cell.index)
    marked = Image.merge("RGB", (picture, picture, Image.new("L", size, cell.index * 37 % 256)))
    marked.save(folder / path)
    timing = Timing(0.41, 0.0, 0.4, 0.0, 0.01, ())
    return StoredCell(CellResult(cell, "ok", None, cell.steps, *size, timings=(timing,)), path)


def without_image(stored: StoredCell, error: str) -> StoredCell:
    return StoredCell(CellResult(stored.cell, "failed", error), None)


def read(path: Path) -> tuple[Image.Image, dict[str, Any]]:
    with Image.open(path) as image:
        image.load()
        return image.convert("RGB"), json.loads(image.info["schedcmp"])


def tile(image: Image.Image, cell: dict[str, Any]) -> Image.Image:
    left, top, width, height = cell["box"]
    return image.crop((left, top, left + width, top + height))


def same(first: Image.Image, second: Image.Image) -> bool:
    return first.size == second.size and ImageChops.difference(first, second).getbbox() is None


def colours(image: Image.Image) -> set[Any]:
    return {colour for _, colour in image.getcolors(1 << 24) or []}


@pytest.mark.parametrize(("size", "factor"), [((64, 64), 3), ((128, 96), 2), ((200, 200), 1)])
def test_tiles_are_the_images(tmp_path: Path, size: tuple[int, int], factor: int) -> None:
    cells = store(tmp_path, make_cells(["ddim", "euler", "heun"], [4, 8]), size)
    (path,) = write_grids(cells, tmp_path, GridAxes(), "a run")
    grid, told = read(path)
    assert [cell["id"] for cell in told["cells"]] == [stored.cell.id for stored in cells]
    for stored, cell in zip(cells, told["cells"], strict=True):
        with Image.open(tmp_path / str(stored.image_path)) as source:
            scaled = source.resize((size[0] * factor, size[1] * factor), Image.Resampling.NEAREST)
        assert same(tile(grid, cell), scaled)


def test_large_images_are_reduced(tmp_path: Path) -> None:
    cells = store(tmp_path, make_cells(), (1024, 1024))
    grid, told = read(write_grids(cells, tmp_path, GridAxes(), "a run")[0])
    assert told["cells"][0]["box"][2:] == [512, 512]
    with Image.open(tmp_path / str(cells[0].image_path)) as source:
        mean = source.resize((1, 1), Image.Resampling.BOX).getpixel((0, 0))
    reduced = tile(grid, told["cells"][0]).resize((1, 1), Image.Resampling.BOX).getpixel((0, 0))
    assert isinstance(mean, tuple)
    assert isinstance(reduced, tuple)
    assert all(abs(a - b) <= 1 for a, b in zip(mean, reduced, strict=True))


def test_rows_and_columns_keep_the_sweeps_order(tmp_path: Path) -> None:
    cells = store(tmp_path, make_cells(["unipc", "ddim"], [30, 4]))
    _, told = read(write_grids(cells[::-1], tmp_path, GridAxes(), "a run")[0])
    assert told["rows"] == [["unipc"], ["ddim"]]
    assert told["cols"] == [[30], [4]]
    places = [cell["box"][:2] for cell in told["cells"]]
    left, right, upper, lower = places[0][0], places[1][0], places[0][1], places[2][1]
    assert places == [[left, upper], [right, upper], [left, lower], [right, lower]]
    assert left < right
    assert upper < lower


def test_transposed_axes_transpose_the_tiles(tmp_path: Path) -> None:
    cells = store(tmp_path, make_cells(["ddim", "euler"], [4, 8, 15]))
    grid, told = read(write_grids(cells, tmp_path, GridAxes(), "a run")[0])
    turned, turned_told = read(write_grids(cells, tmp_path, GridAxes(("steps",), ("scheduler",)), "a run")[0])
    others = {cell["id"]: cell for cell in turned_told["cells"]}
    for cell in told["cells"]:
        other = others[cell["id"]]
        assert (cell["row"], cell["col"]) == (other["col"], other["row"])
        assert same(tile(grid, cell), tile(turned, other))


def test_axes_that_vary_become_pages(tmp_path: Path) -> None:
    cells = store(tmp_path, make_cells(["ddim"], [4, 8], prompt_name=["cat", "dog"], seed=[3, 12]))
    paths = write_grids(cells, tmp_path, GridAxes(), "a run")
    assert [path.name for path in paths] == [
        "grid_prompt-cat_seed-0003.png",
        "grid_prompt-cat_seed-0012.png",
        "grid_prompt-dog_seed-0003.png",
        "grid_prompt-dog_seed-0012.png",
    ]
    told = [read(path)[1] for path in paths]
    assert told[1]["page"] == {"prompt": "cat", "seed": 12}
    assert sorted(cell["id"] for page in told for cell in page["cells"]) == sorted(s.cell.id for s in cells)


def test_scheduler_is_the_base_where_its_schedule_is_an_axis(tmp_path: Path) -> None:
    cells = make_cells(["euler", "euler-karras", "mine"], [4])
    cells[2] = replace(cells[2], base="euler")
    pages = plan_pages(store(tmp_path, cells), GridAxes(("scheduler",), ("sigma_schedule",)))
    assert len(pages) == 1
    assert pages[0].rows == (("euler",), ("mine",))
    assert pages[0].cols == (("default",), ("karras",))
    assert len(pages[0].cells) == 3


AXES = ["seed", "prompt", "guidance", "steps", "scheduler"]


@given(st.lists(st.sampled_from(AXES), unique=True), st.data())
def test_every_cell_has_exactly_one_place(names: list[str], data: st.DataObject) -> None:
    cut = data.draw(st.tuples(*[st.integers(0, len(names))] * 2).map(sorted))
    axes = GridAxes(tuple(names[: cut[0]]), tuple(names[cut[0] : cut[1]]), tuple(names[cut[1] :]))
    cells = make_cells(["a", "b"], [4, 8], seed=[0, 1], guidance_scale=[1.0, 7.5], negative_prompt=["", "no"])
    kept = data.draw(st.lists(st.sampled_from(cells), min_size=1, unique_by=lambda cell: cell.id))
    kept += [replace(kept[0], id="twin", index=len(cells))]
    pages = plan_pages([StoredCell(CellResult(cell, "ok"), None) for cell in kept], axes)
    placed = [stored.cell.id for page in pages for stored in page.cells.values()]
    assert sorted(placed) == sorted(cell.id for cell in kept)
    assert len({*_stems(pages)}) == len(pages)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: GridAxes(("sede",)), "did you mean 'seed'"),
        (lambda: GridAxes(("seed",), ("seed",)), "more than once"),
        (lambda: GridAxes(("guidance",), ("guidance_scale",)), "more than once"),
    ],
)
def test_wrong_axes_are_refused(make: Callable[[], GridAxes], words: str) -> None:
    with pytest.raises(RequestError, match=words):
        make()


def test_guidance_is_a_synonym() -> None:
    assert GridAxes(cols=("guidance",)).cols == ("guidance_scale",)


def test_cells_that_are_not_there_are_blank(tmp_path: Path) -> None:
    cells = store(tmp_path, make_cells(["ddim", "euler"], [4, 8]))
    grid, told = read(write_grids(cells[:3], tmp_path, GridAxes(), "a run")[0])
    assert len(told["cells"]) == 3
    (_, top, width, height), left = told["cells"][2]["box"], told["cells"][1]["box"][0]
    blank = grid.crop((left, top, left + width, top + height))
    assert (255, 255, 255) in colours(blank)
    box = ImageChops.invert(blank).getbbox()
    assert box is not None, "a dash says that the cell is known to be absent"
    assert box[2] - box[0] < 20


def test_failed_tiles_tell_why(tmp_path: Path) -> None:
    cells = store(tmp_path, make_cells(["ddim", "euler"]))
    tiles = []
    for error in ("out of memory", "index 3 is out of bounds", "word " * 500, "x" * 5000, ""):
        broken = [cells[0], without_image(cells[1], error)]
        grid, told = read(write_grids(broken, tmp_path, GridAxes(), "a run")[0])
        tiles.append(tile(grid, told["cells"][1]))
    assert len({picture.tobytes() for picture in tiles}) == len(tiles)
    assert all(picture.size == (192, 192) for picture in tiles)
    dark = tiles[0].convert("L").point(lambda value: 255 * (value < 150))
    assert dark.getbbox() is not None, "the mark is dark, not only tinted"


def test_text_of_a_failed_tile_stays_inside(tmp_path: Path) -> None:
    cells = store(tmp_path, make_cells(["ddim", "euler"], [4, 8]))
    plain, told = read(write_grids([*cells[:2], cells[3]], tmp_path, GridAxes(), "a run")[0])
    failed = without_image(cells[2], "one two three " * 300)
    full, full_told = read(write_grids([*cells[:2], failed, cells[3]], tmp_path, GridAxes(), "a run")[0])
    changed = ImageChops.difference(plain, full).getbbox()
    left, top, width, height = next(cell["box"] for cell in full_told["cells"] if cell["id"] == "id2")
    assert changed is not None
    assert changed[0] >= left
    assert changed[1] >= top
    assert changed[2] <= left + width
    assert changed[3] <= top + height + 24  # its caption
    assert told["cells"][2]["box"] == full_told["cells"][3]["box"]


def test_flagged_images_are_shown_and_marked(tmp_path: Path) -> None:
    cells = store(tmp_path, make_cells(["ddim", "euler"]))
    plain, told = read(write_grids(cells, tmp_path, GridAxes(), "a run")[0])
    result = replace(cells[1].result, status="flagged", error="the image is flat")
    flagged = StoredCell(result, cells[1].image_path)
    marked, marked_told = read(write_grids([cells[0], flagged], tmp_path, GridAxes(), "a run")[0])
    assert same(tile(plain, told["cells"][1]), tile(marked, marked_told["cells"][1]))
    left, top, width, _ = marked_told["cells"][1]["box"]
    border = colours(marked.crop((left, top - 3, left + width, top - 1)))
    assert len(border) == 2, "dashed"
    assert marked.height > plain.height, "room for the reason"


@pytest.mark.parametrize("damage", [Path.unlink, lambda path: path.write_bytes(b"\x89PNG\r\n\x1a\nno")])
def test_broken_images_do_not_stop_a_grid(tmp_path: Path, damage: Callable[[Path], object]) -> None:
    cells = store(tmp_path, make_cells(["ddim", "euler"]))
    damage(tmp_path / str(cells[0].image_path))
    grid, told = read(write_grids(cells, tmp_path, GridAxes(), "a run")[0])
    assert len(told["cells"]) == 2
    assert (251, 240, 238) in colours(tile(grid, told["cells"][0]))


def test_transparent_images_lie_on_white(tmp_path: Path) -> None:
    cells = store(tmp_path, make_cells())
    Image.new("RGBA", (64, 64), (255, 0, 0, 0)).save(tmp_path / str(cells[0].image_path))
    grid, told = read(write_grids(cells, tmp_path, GridAxes(), "a run")[0])
    assert colours(tile(grid, told["cells"][0])) == {(255, 255, 255)}


def test_huge_grids_are_split_within_limits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(layout, "MAX_SIDE", 1500)
    monkeypatch.setattr(layout, "MAX_PIXELS", 1_500_000)
    cells = store(tmp_path, make_cells(["a", "b", "c", "d", "e", "f", "g"], range(2, 20, 2)))
    paths = write_grids(cells, tmp_path, GridAxes(), "a run")
    assert [path.name for path in paths] == [f"grid_part-{i}.png" for i in range(1, len(paths) + 1)]
    assert len(paths) > 2
    seen = []
    for number, path in enumerate(paths, 1):
        grid, told = read(path)
        assert max(grid.size) <= 1500
        assert grid.width * grid.height <= 1_500_000
        assert told["part"] == [number, len(paths)]
        seen += [cell["id"] for cell in told["cells"]]
    assert sorted(seen) == sorted(stored.cell.id for stored in cells)


@pytest.mark.parametrize(("side", "rows", "cols"), [(512, 30, 12), (1024, 200, 3), (64, 4, 300)])
def test_parts_of_real_sizes_are_within_limits(side: int, rows: int, cols: int) -> None:
    cells = make_cells([f"entry-{i}" for i in range(rows)], range(1, cols + 1))
    (page,) = plan_pages([StoredCell(CellResult(cell, "ok"), None) for cell in cells], GridAxes())
    plan = layout.lay_out(page, (side, side))
    parts = list(layout.split(page, plan))
    assert sum(len(part.cells) for part in parts) == rows * cols
    for part in parts:
        height = plan.tallest_head() + sum(plan.row_heights[row] for row in part.rows)
        assert max(plan.width(len(part.cols)), height) <= layout.MAX_SIDE
        assert plan.width(len(part.cols)) * height <= layout.MAX_PIXELS


@given(st.tuples(st.integers(1, 4096), st.integers(1, 4096)))
def test_tiles_are_large_enough_to_see_and_small_enough_to_send(native: tuple[int, int]) -> None:
    sizes = layout.tile_sizes(native)
    assert sizes == sorted(sizes, reverse=True)
    assert all(160 <= max(tile) <= 512 for tile in sizes)


@given(st.integers(1, 60), st.integers(1, 60))
def test_chunks_are_even(length: int, most: int) -> None:
    chunks = layout.even_chunks(range(length), most)
    assert [item for chunk in chunks for item in chunk] == [*range(length)]
    sizes = {len(chunk) for chunk in chunks}
    assert max(sizes) <= most
    assert max(sizes) - min(sizes) <= 1


@given(st.lists(st.text(max_size=80), unique=True, min_size=2, max_size=6))
def test_names_are_safe_and_unique(prompts: list[str]) -> None:
    cells = make_cells(prompt_name=prompts, guidance_scale=[1.0, 7.5])
    names = _stems(plan_pages([StoredCell(CellResult(cell, "ok"), None) for cell in cells], GridAxes()))
    assert len({name.lower() for name in names}) == 2 * len(prompts)
    assert all(re.fullmatch(r"grid(_[a-z0-9.+-]+)+", name) and len(name) < 100 for name in names)


def test_no_more_grids_are_drawn_than_anybody_looks_at(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """All prompts with the first seed before any with the second."""
    monkeypatch.setattr("schedcmp.report.grid.MOST_PAGES", 4)
    told: list[str] = []
    cells = store(tmp_path, make_cells(["ddim"], [4], prompt_name=["x", "y", "z"], seed=range(5)))
    paths = write_grids(cells, tmp_path, GridAxes(), "a run", told.append)
    assert [p.name for p in paths] == [
        f"grid_prompt-{prompt}_seed-000{seed}.png" for prompt, seed in (("x", 0), ("x", 1), ("y", 0), ("z", 0))
    ]
    assert told[0].startswith("4 of 15 grids are drawn")
    told.clear()
    write_grids(cells[:4], tmp_path, GridAxes(), "a run", told.append)
    assert not told


def test_stale_grids_go_and_nothing_else(tmp_path: Path) -> None:
    cells = store(tmp_path, make_cells(["ddim"], seed=[0, 1]))
    assert len(write_grids(cells, tmp_path, GridAxes(), "a run")) == 2
    others = {"grid notes.png", "figure-1.png", "grid_mine.png"}
    for name in others:
        (tmp_path / "grids" / name).touch()
    write_grids(cells[:1], tmp_path, GridAxes(), "a run")
    left = {path.name for path in (tmp_path / "grids").iterdir()}
    assert left == {"grid.png", ".written.json", *others}


def test_grids_are_drawn_again_where_they_would_differ_and_only_there(tmp_path: Path) -> None:
    cells = store(tmp_path, make_cells(["ddim"], seed=[0, 1, 2]))

    def redrawn(cells: Sequence[StoredCell], title: str = "a run") -> set[int]:
        before = {path: path.stat().st_ino for path in (tmp_path / "grids").glob("*.png")}
        return {i for i, p in enumerate(write_grids(cells, tmp_path, GridAxes(), title)) if before.get(p) != _inode(p)}

    assert redrawn(cells) == {0, 1, 2}
    assert redrawn(cells) == set()
    slower = replace(cells[1], result=replace(cells[1].result, nfe=77))
    assert redrawn([cells[0], slower, cells[2]]) == {1}
    assert redrawn(cells) == {1}
    (tmp_path / str(cells[2].image_path)).unlink()
    assert redrawn(cells) == {2}
    (tmp_path / "grids" / "grid_seed-0000.png").write_bytes(b"torn")
    assert redrawn(cells) == {0}
    assert redrawn(cells, "another title") == {0, 1, 2}


def _inode(path: Path) -> int:
    return path.stat().st_ino


def test_no_cells_no_grids(tmp_path: Path) -> None:
    assert write_grids([], tmp_path, GridAxes(), "a run") == []


def test_the_same_cells_make_the_same_bytes(tmp_path: Path) -> None:
    cells = store(tmp_path, make_cells(["ddim", "euler"], [4, 8], prompt=["红色圆圈 😀 שלום"]))
    first = [path.read_bytes() for path in write_grids(cells, tmp_path, GridAxes(), "a run")]
    shutil.rmtree(tmp_path / "grids")
    assert first == [path.read_bytes() for path in write_grids(cells, tmp_path, GridAxes(), "a run")]


def test_captions() -> None:
    timings = tuple(Timing(latency, 0, 0, 0, 0, ()) for latency in (0.41, 9.0, 0.2))
    assert caption(CellResult(CELL, "ok", nfe=19, timings=timings)) == "410 ms · 19 NFE"
    assert caption(CellResult(CELL, "ok", nfe=19)) == "19 NFE"
    assert caption(CellResult(CELL, "failed")) == "–"


def test_the_foot_explains_what_the_captions_have() -> None:
    def foot(**result: Any) -> str:
        (page,) = plan_pages([StoredCell(CellResult(CELL, "ok", **result), None)], GridAxes())
        return legend(page)

    assert foot() == ""
    assert foot(nfe=19) == "NFE: denoiser evaluations per image."
    assert foot(nfe=19, timings=(Timing(0.4, 0, 0, 0, 0, ()),)).startswith("Latency: median of solo runs. NFE")


SCRIPTS = ["红色圆蓝", "あいうカ", "한국어글", "بتثج", "אבגד", "हिन्दी", "กขคง", "ЖЩЫЮ", "ΣΩλψ", "😀🎨🚀🦊"]


def drawn(words: str, style: Style = STYLE) -> bytes:
    image = Image.new("L", (300, 40), "white")
    draw_block(ImageDraw.Draw(image), 4, 4, paragraph(words, style, 290, 1))
    return image.tobytes()


@pytest.fixture
def bare_machine(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A machine without a typeface of its own."""
    monkeypatch.setattr(fonts, "system_faces", lambda: ())
    for cache in (fonts._fallback, text._runs, text.text_width):
        cache.cache_clear()
    yield
    for cache in (fonts._fallback, text._runs, text.text_width):
        cache.cache_clear()


@pytest.mark.usefixtures("bare_machine")
@pytest.mark.parametrize("letters", SCRIPTS)
def test_every_script_has_glyphs_without_system_fonts(letters: str) -> None:
    tofu = drawn("\U0010ffff")
    pictures = [drawn(letter) for letter in letters if not bidi.is_mark(letter)]
    assert len({*pictures, tofu, drawn(" ")}) == len(pictures) + 2


@pytest.mark.usefixtures("bare_machine")
def test_joiners_and_selectors_leave_no_boxes() -> None:
    assert drawn("❤\ufe0f") == drawn("❤")
    assert drawn("👩\u200d🚀") == drawn("👩🚀")
    assert drawn("e\u0301") == drawn("é")


@pytest.mark.usefixtures("bare_machine")
def test_right_to_left_runs_stand_in_visual_order() -> None:
    def shown(words: str) -> str:
        base = bidi.base_level(words)
        runs = text._runs(words, False, base)
        return "".join(runs[i].drawn()[0] for i in bidi.visual_order([run.level for run in runs]))

    assert shown("abc") == "abc"
    assert shown("a אבג b") == "a גבא b"
    assert shown("אב 1.5 גד") == "דג 1.5 בא"
    assert shown("אב (גד) x") == "x (דג) בא"
    assert shown("x אב (גד)") == "x (דג) בא"
    assert shown("אב Stable Diffusion 2 גד") == "דג Stable Diffusion 2 בא"


def test_arabic_letters_join() -> None:
    assert bidi.shape("بيت") == "\ufe96\ufef4\ufe91"  # final, medial, initial: read from the right
    assert bidi.shape("دار") == "\ufead\ufe8d\ufea9"  # three letters that join only to the right
    assert bidi.shape("لا") == "\ufefb"  # the ligature
    assert bidi.shape("ب\u200cب").replace("\u200c", "") == "\ufe8f\ufe8f"  # kept apart by a non-joiner


@example("0000 :", 40, 2, "end")
@given(st.text(max_size=60), st.integers(40, 400), st.integers(1, 4), st.sampled_from(["end", "middle"]))
def test_paragraphs_fit(words: str, width: int, lines: int, cut: Any) -> None:
    block = paragraph(words, STYLE, width, lines, cut)
    assert len(block) <= lines
    assert all(text_width(line.text, STYLE) <= width for line in block)
    if "".join(line.text for line in block) != words and not any("…" in line.text for line in block):
        kept = "".join("".join(line.text for line in block).split())
        assert kept == "".join(text.clean(words).split()), "nothing is lost without an ellipsis"


def test_long_labels_lose_their_middle() -> None:
    block = paragraph("mine-" * 30 + "karras", STYLE, 150, 2, "middle")
    joined = "".join(line.text for line in block)
    assert joined.startswith("mine-")
    assert joined.endswith("karras")
    assert "…" in joined


def test_ideographs_wrap_without_spaces() -> None:
    block = paragraph("红色圆圈在蓝色背景上，油画风格", STYLE, 100, 9)
    assert len(block) > 1
    assert not any(line.text.startswith("，") for line in block)


def test_a_bold_label_is_wider() -> None:
    assert text_width("dpmpp-2m-karras", Style(14, "black", bold=True)) > text_width("dpmpp-2m-karras", STYLE)


def test_the_licence_lies_beside_the_fonts() -> None:
    names = {path.name for path in fonts.FONT_FOLDER.iterdir()}
    licence = (fonts.FONT_FOLDER / "OFL.txt").read_text(encoding="utf-8")
    assert "SIL OPEN FONT LICENSE Version 1.1" in licence
    assert all(name in licence for name in names - {"OFL.txt"})
