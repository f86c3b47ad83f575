"""Pictures of depth for people: colour scales with legends, labelled sheets, a web page.

All pictures are (H, W, 3) uint8, red first. A pixel without a value is always `NO_VALUE`, which
no scale contains.
"""

from __future__ import annotations

import base64
from collections.abc import Sequence
import html
from pathlib import Path
from typing import Literal, NamedTuple

import cv2
import numpy as np
import numpy.typing as npt

from .data import Provenance, UInt8Array

NO_VALUE = (40, 40, 44)
_PAPER, _INK, _FAINT_INK = (255, 255, 255), (30, 32, 36), (110, 114, 120)

PROVENANCE_COLORS: dict[Provenance, tuple[int, int, int]] = {
    Provenance.INVALID: NO_VALUE,
    Provenance.MEASURED: (204, 210, 216),
    Provenance.REFINED: (86, 180, 233),
    Provenance.INPAINTED: (213, 94, 0),
    Provenance.ESTIMATED: (0, 103, 150),
    Provenance.ALIGNED: (255, 250, 200),
    Provenance.RELATIVE: (0, 0, 40),
}
"""Told apart with any colour vision (Okabe and Ito), and by brightness alone."""


class Scale(NamedTuple):
    """A colour for every value between two ends; what lies beyond takes the end's colour.

    Attributes:
        colors: Shape (256, 3), uint8, from the low end to the high.
        low: Value of the first colour.
        high: Value of the last colour.
        unit: Unit of the values, as the legend writes it.
    """

    colors: UInt8Array
    low: float
    high: float
    unit: str

    def paint(self, values: npt.NDArray[np.floating]) -> UInt8Array:
        """Return the picture, (H, W, 3), of values, (H, W); NaN becomes `NO_VALUE`."""
        known = np.isfinite(values)
        place = (np.where(known, values, self.low) - self.low) * (255 / (self.high - self.low))
        picture = self.colors[np.clip(np.rint(place), 0, 255).astype(np.uint8)]
        picture[~known] = NO_VALUE
        return picture


def depth_scale(near_m: float, far_m: float) -> Scale:
    """Depth in metres: near is red, far is blue."""
    return Scale(_opencv_colors(cv2.COLORMAP_TURBO)[::-1], near_m, far_m, 'm')


def stddev_scale(limit_mm: float) -> Scale:
    """Standard deviation in millimetres: dark is certain."""
    return Scale(_opencv_colors(cv2.COLORMAP_VIRIDIS), 0, limit_mm, 'mm')


def error_scale(limit_mm: float) -> Scale:
    """Signed error in millimetres: white is right, blue too near, red too far."""
    blues = [(5, 48, 97), (67, 147, 195), (209, 229, 240)]  # ColorBrewer RdBu
    reds = [(253, 219, 199), (214, 96, 77), (103, 0, 31)]
    stops = np.array([*blues, (255, 255, 255), *reds])
    at = np.linspace(0, 255, len(stops))
    colors = np.stack([np.interp(np.arange(256), at, channel) for channel in stops.T], axis=1)
    return Scale(np.rint(colors).astype(np.uint8), -limit_mm, limit_mm, 'mm')


def paint_provenance(provenance: UInt8Array) -> UInt8Array:
    """Return the picture, (H, W, 3), of provenance, (H, W), in `PROVENANCE_COLORS`."""
    colors = np.zeros((256, 3), np.uint8)
    for kind, color in PROVENANCE_COLORS.items():
        colors[kind] = color
    return colors[provenance]


def _opencv_colors(colormap: int) -> UInt8Array:
    ramp = np.arange(256, dtype=np.uint8)[:, None]
    return np.asarray(cv2.applyColorMap(ramp, colormap)[:, 0, ::-1], np.uint8)


# --------------------------------------------------------------------------------------- sheets


class Panel(NamedTuple):
    """A picture of a sheet.

    Attributes:
        title: What it shows.
        rgb: Shape (H, W, 3), uint8.
        legend: What its colours mean: a scale, or names with colours.
    """

    title: str
    rgb: UInt8Array
    legend: Scale | dict[str, tuple[int, int, int]] | None = None


def provenance_legend(provenance: UInt8Array) -> dict[str, tuple[int, int, int]]:
    """Return what the colours of a provenance picture mean; the rarer kinds only if they occur."""
    return {
        kind.name.lower(): color
        for kind, color in PROVENANCE_COLORS.items()
        if kind <= Provenance.INPAINTED or (provenance == kind).any()
    }


_MARGIN_PX, _TITLE_PX, _LEGEND_PX = 10, 30, 34


def sheet(
    rows: Sequence[Sequence[Panel]], *, panel_width_px: int = 480, title: str = ''
) -> UInt8Array:
    """Arrange panels in rows, each with its title above and its legend below.

    Pictures are scaled to one width, keeping their proportions: smaller by averaging, larger by
    repeating pixels.

    Args:
        rows: Panels, left to right, top to bottom.
        panel_width_px: Width of every picture.
        title: Headline of the whole sheet.

    Returns:
        Shape (H, W, 3), uint8.

    Raises:
        ValueError: If there is no panel.
    """
    columns = max((len(row) for row in rows), default=0)
    if columns == 0:
        raise ValueError('a sheet needs at least one panel')
    width = columns * (panel_width_px + _MARGIN_PX) + _MARGIN_PX
    strips = [_paper(_MARGIN_PX // 2, width)]
    if title:
        strips.append(_headline(title, width))
    for row in rows:
        cells = [_cell(panel, panel_width_px) for panel in row]
        height = max(len(cell) for cell in cells)
        strip = _paper(height + _MARGIN_PX // 2, width)
        for column, cell in enumerate(cells):
            left = _MARGIN_PX + column * (panel_width_px + _MARGIN_PX)
            strip[: len(cell), left : left + panel_width_px] = cell
        strips.append(strip)
    return np.concatenate(strips)


def _paper(height: int, width: int) -> UInt8Array:
    return np.full((height, width, 3), _PAPER, np.uint8)


def _headline(title: str, width: int) -> UInt8Array:
    strip = _paper(_TITLE_PX + 12, width)
    draw_text(strip, title, (_MARGIN_PX, 30), size_px=18, width_px=width - 2 * _MARGIN_PX)
    return strip


def _cell(panel: Panel, width: int) -> UInt8Array:
    height = max(1, round(panel.rgb.shape[0] * width / panel.rgb.shape[1]))
    shrinks = width < panel.rgb.shape[1]
    picture = cv2.resize(
        panel.rgb, (width, height), interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_NEAREST
    )
    head = _paper(_TITLE_PX, width)
    draw_text(head, panel.title, (0, 20), size_px=14, width_px=width)
    foot = _paper(_LEGEND_PX, width)
    if isinstance(panel.legend, Scale):
        _draw_scale(foot, panel.legend)
    elif panel.legend:
        _draw_swatches(foot, panel.legend)
    return np.concatenate([head, np.asarray(picture, np.uint8), foot])


def _draw_scale(foot: UInt8Array, scale: Scale) -> None:
    width = foot.shape[1]
    swatch = min(70, width // 4)
    bar = width - swatch - 14
    foot[5:15, :bar] = scale.colors[np.linspace(0, 255, bar).astype(np.uint8)]
    foot[5:15, -swatch:] = NO_VALUE
    draw_text(foot, 'no value', (width - swatch // 2, 29), size_px=11, align='center')
    draw_text(foot, f'{scale.low:.3g}', (0, 29), 11)
    for share in (0.25, 0.5, 0.75):
        value = scale.low + share * (scale.high - scale.low)
        draw_text(foot, f'{value:.3g}', (round(share * bar), 29), 11, align='center')
    draw_text(foot, f'{scale.high:.3g} {scale.unit}', (bar, 29), 11, align='right')


def _draw_swatches(foot: UInt8Array, names: dict[str, tuple[int, int, int]]) -> None:
    step = foot.shape[1] / len(names)
    for number, (name, color) in enumerate(names.items()):
        left = round(number * step)
        foot[6:18, left : left + 18] = color
        draw_text(foot, name, (left + 24, 17), size_px=12, width_px=round(step) - 30)


def draw_text(
    rgb: UInt8Array,
    text: str,
    at: tuple[int, int],
    size_px: float = 14,
    *,
    color: tuple[int, int, int] = _INK,
    align: Literal['left', 'center', 'right'] = 'left',
    width_px: int | None = None,
) -> None:
    """Write one line of text into a picture.

    Args:
        rgb: Shape (H, W, 3), uint8; changed in place.
        text: ASCII; OpenCV's letters know no other.
        at: Column and row, pixels, of the base line's left end, middle or right end.
        size_px: Height of a capital letter times 1.4, as font sizes go.
        color: Red, green and blue.
        align: Which part of the line `at` is.
        width_px: The text is made smaller where it would be wider.
    """
    # Drawn four times as large and averaged: OpenCV's own small letters are hardly legible.
    fine = 4
    font = cv2.FONT_HERSHEY_SIMPLEX
    scale = size_px * fine / 30
    thickness = max(1, round(size_px * fine / 13))
    (width, _), _ = cv2.getTextSize(text, font, scale, thickness)
    if width_px is not None and width > width_px * fine:
        scale *= width_px * fine / width
        (width, _), _ = cv2.getTextSize(text, font, scale, thickness)
    shift = {'left': 0.0, 'center': 0.5, 'right': 1.0}[align] * width
    mask = np.zeros((rgb.shape[0] * fine, rgb.shape[1] * fine), np.uint8)
    origin = (round(at[0] * fine - shift), at[1] * fine)
    cv2.putText(mask, text, origin, font, scale, 255, thickness, cv2.LINE_AA)
    share = cv2.resize(mask, rgb.shape[1::-1], interpolation=cv2.INTER_AREA)[..., None] / 255
    rgb[:] = np.rint(rgb * (1 - share) + np.array(color) * share).astype(np.uint8)


def write_png(path: Path | str, rgb: UInt8Array) -> None:
    """Write a picture, making its folder.

    Raises:
        OSError: If the file cannot be written.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(_encoded(rgb, '.png'))


def read_png(path: Path | str) -> UInt8Array:
    """Read a picture that `write_png` wrote.

    Raises:
        OSError: If the file cannot be read.
    """
    bgr = cv2.imdecode(np.frombuffer(Path(path).read_bytes(), np.uint8), cv2.IMREAD_COLOR)
    if bgr is None:
        raise OSError(f'{path} is not a readable picture')
    return np.asarray(bgr[..., ::-1], np.uint8)


def _encoded(rgb: UInt8Array, suffix: Literal['.png', '.jpg']) -> bytes:
    options = [cv2.IMWRITE_JPEG_QUALITY, 90] if suffix == '.jpg' else []
    _, data = cv2.imencode(suffix, rgb[..., ::-1], options)
    return data.tobytes()


# ------------------------------------------------------------------------------------- web page


class Table(NamedTuple):
    """A table of a page.

    Attributes:
        head: Titles of the columns.
        rows: Cells; all but the first of a row are set as numbers.
        caption: What it says.
    """

    head: Sequence[str]
    rows: Sequence[Sequence[str]]
    caption: str = ''


class Picture(NamedTuple):
    """A picture of a page.

    Attributes:
        rgb: Shape (H, W, 3), uint8.
        caption: What it shows.
        lossless: PNG rather than JPEG.
    """

    rgb: UInt8Array
    caption: str = ''
    lossless: bool = False


class Section(NamedTuple):
    """A section of a page.

    Attributes:
        title: Its heading.
        blocks: Paragraphs (plain text), tables and pictures, in order.
    """

    title: str
    blocks: Sequence[str | Table | Picture]


_STYLE = """
:root { color-scheme: light dark; --line: #8884; --faint: #7a7e86; }
body { font: 16px/1.5 system-ui, sans-serif; max-width: 1200px; margin: auto; padding: 1rem; }
h1 { line-height: 1.2; } h2 { margin-top: 2.5rem; border-bottom: 1px solid var(--line); }
figure { margin: 1rem 0; } img { max-width: 100%; height: auto; border-radius: 4px; }
figcaption, caption { color: var(--faint); font-size: .9em; text-align: left; padding: .3rem 0; }
.wide { overflow-x: auto; } table { border-collapse: collapse; }
th, td { padding: .3rem .8rem; border-bottom: 1px solid var(--line); text-align: right; }
th:first-child, td:first-child { text-align: left; } td { font-variant-numeric: tabular-nums; }
"""


def write_page(path: Path | str, title: str, sections: Sequence[Section]) -> None:
    """Write one HTML file that needs nothing else, not even a network.

    Raises:
        OSError: If the file cannot be written.
    """
    body = ''.join(
        f'<section>\n<h2>{html.escape(section.title)}</h2>\n'
        f'{"".join(_block(block) for block in section.blocks)}</section>\n'
        for section in sections
    )
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f'<title>{html.escape(title)}</title>\n<style>{_STYLE}</style>\n</head>\n'
        f'<body>\n<h1>{html.escape(title)}</h1>\n{body}</body>\n</html>\n',
        encoding='utf-8',
    )


def _block(block: str | Table | Picture) -> str:
    if isinstance(block, str):
        return f'<p>{html.escape(block)}</p>\n'
    if isinstance(block, Table):
        head = ''.join(f'<th>{html.escape(cell)}</th>' for cell in block.head)
        rows = (
            '<tr>' + ''.join(f'<td>{html.escape(cell)}</td>' for cell in row) + '</tr>\n'
            for row in block.rows
        )
        caption = f'<caption>{html.escape(block.caption)}</caption>\n' if block.caption else ''
        return (
            f'<div class="wide"><table>\n{caption}<thead><tr>{head}</tr></thead>\n'
            f'<tbody>\n{"".join(rows)}</tbody>\n</table></div>\n'
        )
    kind = 'png' if block.lossless else 'jpeg'
    data = base64.b64encode(_encoded(block.rgb, '.png' if block.lossless else '.jpg')).decode()
    caption = html.escape(block.caption)
    return (
        f'<figure><img src="data:image/{kind};base64,{data}" alt="{caption}" '
        f'width="{block.rgb.shape[1]}" height="{block.rgb.shape[0]}">'
        f'<figcaption>{caption}</figcaption></figure>\n'
    )
