"""One tile: an image, or what stands in its place."""

from __future__ import annotations

from pathlib import Path

from PIL import Image, ImageDraw

from schedcmp.pictures.video import contact_sheet
from schedcmp.records import StoredCell
from schedcmp.report.labels import caption
from schedcmp.report.layout import FAINT, INK, Look
from schedcmp.report.numbers import NONE
from schedcmp.report.text import Style, block_height, draw_block, paragraph, text_width
from schedcmp.store.images import read_frames

FAILED_FILL, FAILED_EDGE, FAILED_INK = "#fbf0ee", "#d8a39b", "#8c2f22"
LEFT_OUT_FILL, LEFT_OUT_EDGE, LEFT_OUT_INK = "#f6f7f8", "#d3d7dc", "#5b626b"
FLAG_INK = "#8a5a00"

Box = tuple[int, int, int, int]  # left, top, width, height; px


def draw_tile(sheet: Image.Image, left: int, top: int, stored: StoredCell | None, folder: Path, look: Look) -> Box:
    """Draw a cell's tile and caption with its corner at (`left`, `top`). Returns the place of its picture."""
    draw = ImageDraw.Draw(sheet)
    if stored is None:
        return _draw_blank(draw, left, top, look)
    box = _draw_picture(sheet, left, top, stored, folder, look)
    below = top + look.tile[1] + look.px(4)
    draw_block(draw, left, below, paragraph(caption(stored.result), look.quiet, look.column, 1))
    if stored.result.status == "flagged":
        _draw_flag(draw, box, below + look.quiet.line_height, stored.result.error or "no reason given", look)
    return box


def scaled(picture: Image.Image, tile: tuple[int, int]) -> Image.Image:
    """The picture within `tile` (width, height; px): pixels repeated a whole number of times, or reduced."""
    factor = min(tile[0] / picture.width, tile[1] / picture.height)
    if factor >= 1:
        return picture.resize((picture.width * int(factor), picture.height * int(factor)), Image.Resampling.NEAREST)
    size = max(1, round(picture.width * factor)), max(1, round(picture.height * factor))
    return picture.resize(size, Image.Resampling.LANCZOS, reducing_gap=3.0)


def open_picture(folder: Path, name: object) -> Image.Image:
    """An image of a run's folder as RGB, on white where it is transparent; of a video the contact sheet. OSError if
    there is none."""
    return on_white(contact_sheet(read_frames(folder, name)))


def on_white(picture: Image.Image) -> Image.Image:
    if not picture.has_transparency_data:
        return picture.convert("RGB")
    opaque = Image.new("RGBA", picture.size, "white")
    opaque.alpha_composite(picture.convert("RGBA"))
    return opaque.convert("RGB")


def _draw_picture(sheet: Image.Image, left: int, top: int, stored: StoredCell, folder: Path, look: Look) -> Box:
    if stored.image_path is None:
        return _draw_message(sheet, left, top, stored.result.status, stored.result.error or "no image", look)
    try:
        picture = scaled(open_picture(folder, stored.image_path), look.tile)
    except OSError as error:
        reason = "not there" if isinstance(error, FileNotFoundError) else "not readable"
        return _draw_message(sheet, left, top, f"image {reason}", stored.image_path, look)
    sheet.paste(picture, (left, top))
    return left, top, *picture.size


def _draw_message(sheet: Image.Image, left: int, top: int, title: str, text: str, look: Look) -> Box:
    """A tinted tile with a title and the text below; a cross beside the title where something went wrong."""
    draw, width, height = ImageDraw.Draw(sheet), look.column, look.tile[1]
    wrong = title != "unsupported"
    fill, edge, ink = (FAILED_FILL, FAILED_EDGE, FAILED_INK) if wrong else (LEFT_OUT_FILL, LEFT_OUT_EDGE, LEFT_OUT_INK)
    pad, head = look.px(10), look.style(13, ink, bold=True)
    draw.rectangle((left, top, left + width - 1, top + height - 1), fill, edge, look.px(1))
    if wrong:
        _draw_cross(draw, left + pad, top + pad, head, look)
    mark = head.size + look.px(2) if wrong else 0
    draw_block(draw, left + pad + mark, top + pad, paragraph(title, head, width - 2 * pad - mark, 1))
    body = look.style(12, INK)
    below = top + pad + head.line_height + look.px(4)
    lines = max(1, (top + height - pad - below) // body.line_height)
    draw_block(draw, left + pad, below, paragraph(text, body, width - 2 * pad, lines))
    return left, top, width, height


def _draw_cross(draw: ImageDraw.ImageDraw, left: int, top: int, head: Style, look: Look) -> None:
    arm = round(head.size * 0.62)
    upper = top + (head.line_height - arm) // 2
    for ends in ((left, upper, left + arm, upper + arm), (left, upper + arm, left + arm, upper)):
        draw.line(ends, FAILED_INK, look.px(2))


def _draw_flag(draw: ImageDraw.ImageDraw, box: Box, below: int, reason: str, look: Look) -> None:
    """A dashed border around the picture, and below its caption a warning sign and the reason."""
    left, top, width, height = box
    away, line = look.px(3), look.px(2)
    _draw_dashed(draw, (left - away, top - away, left + width + away - 1, top + height + away - 1), line, look)
    style = look.style(12, FLAG_INK)
    _draw_warning_sign(draw, left, below, style, look)
    indent = style.size + look.px(5)
    draw_block(draw, left + indent, below, paragraph(f"flagged: {reason}", style, look.column - indent, 2))


def _draw_warning_sign(draw: ImageDraw.ImageDraw, left: int, top: int, style: Style, look: Look) -> None:
    half, height = style.size // 2, round(style.size * 0.87)
    foot = top + (style.line_height + height) // 2
    middle, line = left + half, look.px(1)
    corners = [(left, foot), (left + 2 * half, foot), (middle, foot - height)]
    draw.polygon(corners, outline=FLAG_INK, width=line)
    draw.line((middle, foot - round(height * 0.62), middle, foot - round(height * 0.36)), FLAG_INK, line)
    draw.rectangle((middle - line // 2, foot - round(height * 0.22), middle, foot - round(height * 0.2)), FLAG_INK)


def _draw_dashed(draw: ImageDraw.ImageDraw, edges: Box, line: int, look: Look) -> None:
    x0, y0, x1, y1 = edges
    dash = look.px(6)
    for x in range(x0, x1, 2 * dash):
        for y in (y0, y1 - line + 1):
            draw.rectangle((x, y, min(x + dash, x1), y + line - 1), FLAG_INK)
    for y in range(y0, y1, 2 * dash):
        for x in (x0, x1 - line + 1):
            draw.rectangle((x, y, x + line - 1, min(y + dash, y1)), FLAG_INK)


def _draw_blank(draw: ImageDraw.ImageDraw, left: int, top: int, look: Look) -> Box:
    width, height = look.tile
    dash = paragraph(NONE, look.style(16, FAINT), width, 1)
    across = (width - text_width(NONE, dash[0].style)) / 2
    draw_block(draw, left + across, top + (height - block_height(dash)) // 2, dash)
    return left, top, width, height
