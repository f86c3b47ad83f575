"""Candidate surfaces of every cell of a depth image."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

CELL_PX = 4
"""Side of a cell."""
DIRECTIONS = ((0, -1), (0, 1), (-1, 0), (1, 0), (-1, -1), (-1, 1), (1, -1), (1, 1))
"""Rows and columns towards which a cell looks for surfaces."""
CANDIDATES = 2 + len(DIRECTIONS)
_REACH = 8
"""Doublings of the search: 2 ** 8 cells, more than a thousand pixels."""
_SAME_SURFACE = 0.03
"""Relative difference of inverse depth within a cell that one surface may have."""
_LEAST_SUPPORT = 3
"""Measured pixels of a cell that make it a source for other cells."""
_NONE = 1e4
"""Inverse depth that stands for no measurement where the farthest is searched for, 1/m."""
_BESIDE_PX = 4
"""How far a measurement beside a pixel is searched for."""
_PIXELS = CELL_PX * CELL_PX


class Surfaces(NamedTuple):
    """One surface for every cell: a plane in inverse depth.

    Attributes:
        inverse: (B, 1, h, w) 1/m at the centre of its pixels; 0 where the cell has none.
        x: (B, 1, h, w) column of that centre, px.
        y: (B, 1, h, w) row of it, px.
        slope_x: (B, 1, h, w) 1/m per px.
        slope_y: (B, 1, h, w).
    """

    inverse: Tensor
    x: Tensor
    y: Tensor
    slope_x: Tensor
    slope_y: Tensor


class Candidates(NamedTuple):
    """The candidates of every cell: the surfaces of `CANDIDATES` sources.

    Attributes:
        source: (B, K, h, w) int64, number of each source's cell within its image.
        there: (B, K, h, w) bool, False where there is none.
        surfaces: The planes, (B, K, h, w) each.
        distance: (B, K, h, w) from the cell to the source, cells.
    """

    source: Tensor
    there: Tensor
    surfaces: Surfaces
    distance: Tensor


def to_cells(image: Tensor) -> Tensor:
    """Turn (B, C, H, W) into (B, C * 16, h, w): the pixels of a cell become channels."""
    return functional.pixel_unshuffle(image, CELL_PX)


def to_rows(image: Tensor) -> Tensor:
    """Turn (B, C, h, w) into (B * h * w, C)."""
    return image.permute(0, 2, 3, 1).reshape(-1, image.shape[1])


def from_rows(rows: Tensor, height: int, width: int) -> Tensor:
    """Turn rows of the pixels of cells, (B * h * w, 16), into images (B, 1, H, W).

    Args:
        rows: One for each cell.
        height: Rows of the images, px.
        width: Columns of the images, px.
    """
    cells = rows.reshape(-1, height // CELL_PX, width // CELL_PX, _PIXELS)
    return functional.pixel_shuffle(cells.permute(0, 3, 1, 2), CELL_PX)


def _pixel_places(like: Tensor) -> tuple[Tensor, Tensor]:
    """Columns (1, 16, 1, w) and rows (1, 16, h, 1) of the pixels of cells, px."""
    height, width = like.shape[-2:]
    device = like.device
    inner = torch.arange(CELL_PX, dtype=torch.float32, device=device)
    column = CELL_PX * torch.arange(width, dtype=torch.float32, device=device)
    row = CELL_PX * torch.arange(height, dtype=torch.float32, device=device)
    x = inner.repeat(CELL_PX)[None, :, None, None] + column
    y = inner.repeat_interleave(CELL_PX)[None, :, None, None] + row[:, None]
    return x, y


def _mean_surface(inverse: Tensor, chosen: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Mean inverse depth, column and row of the chosen pixels of every cell."""
    count = chosen.sum(1, keepdim=True)
    share = chosen / count.clamp_min(1)
    x, y = _pixel_places(inverse)
    return (
        (inverse * share).sum(1, keepdim=True),
        (x * share).sum(1, keepdim=True),
        (y * share).sum(1, keepdim=True),
    )


def _slopes(inverse: Tensor, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """Slope along x and y of each cell's surface: means over 5x5 cells of the same surface."""
    slopes = []
    for axis, place in ((3, x), (2, y)):
        near, far = (
            inverse.narrow(axis, 0, inverse.shape[axis] - 1),
            inverse.narrow(axis, 1, inverse.shape[axis] - 1),
        )
        step = far - near
        apart = (
            place.narrow(axis, 1, place.shape[axis] - 1)
            - place.narrow(axis, 0, place.shape[axis] - 1)
        ).clamp_min(1)
        same = (step.abs() < 2 * _SAME_SURFACE * torch.minimum(near, far)).float()
        pad = (0, 1, 0, 0) if axis == 3 else (0, 0, 0, 1)
        both = functional.pad(torch.cat([step / apart * same, same], 1), pad)
        total, count = functional.avg_pool2d(both, 5, 1, 2).chunk(2, 1)
        slopes.append(total / count.clamp_min(0.05))
    return slopes[0], slopes[1]


def _first_source(own: Tensor, row: int, column: int) -> Tensor:
    """Return the number of the first source in a direction, -1 for none.

    Args:
        own: (B, 1, h, w) int64, a cell's own number where it is a source, else -1.
        row: -1, 0 or 1.
        column: -1, 0 or 1.
    """
    height, width = own.shape[-2:]

    def shifted(image: Tensor, by: int) -> Tensor:
        # What a cell sees `by` cells away in the direction.
        top, left = max(-row * by, 0), max(-column * by, 0)
        bottom, right = max(row * by, 0), max(column * by, 0)
        padded = functional.pad(image, (left, right, top, bottom), value=-1)
        return padded[..., bottom : bottom + height, right : right + width]

    found = shifted(own, 1)
    for power in range(_REACH):
        found = torch.where(found >= 0, found, shifted(found, 1 << power))
    return found


def gather_cells(features: Tensor, source: Tensor) -> Tensor:
    """Return the features of source cells, (C, B, K, h, w).

    Args:
        features: (B, C, h, w).
        source: (B, K, h, w) int64, numbers of cells within their image.
    """
    batch, _, height, width = features.shape
    start = torch.arange(batch, device=features.device)[:, None, None, None] * (height * width)
    columns = features.transpose(0, 1).flatten(1)
    return columns.index_select(1, (source + start).flatten()).reshape(-1, *source.shape)


def find_candidates(inverse: Tensor) -> tuple[Candidates, Tensor]:
    """Return the candidates of every cell.

    Args:
        inverse: (B, 16, h, w) 1/m, 0 where there is no measurement.

    Returns:
        The candidates; own nearest surface, own farthest, then `DIRECTIONS`. And the inverse
        depth (B, 1, h, w) of the candidate that is the fewest cells away, 1/m, 0 for none.
    """
    measured = (inverse > 0).float()
    count = measured.sum(1, keepdim=True)
    nearest = inverse.amax(1, keepdim=True)
    farthest = torch.where(inverse > 0, inverse, _NONE).amin(1, keepdim=True)
    front = measured * (inverse > (1 - _SAME_SURFACE) * nearest)
    back = measured * (inverse < (1 + _SAME_SURFACE) * farthest)
    near, far = _mean_surface(inverse, front), _mean_surface(inverse, back)
    more_front = front.sum(1, keepdim=True) >= back.sum(1, keepdim=True)
    main = [torch.where(more_front, a, b) for a, b in zip(near, far, strict=True)]
    slope_x, slope_y = _slopes(*main)

    batch, _, height, width = count.shape
    number = torch.arange(height * width, device=inverse.device).reshape(1, 1, height, width)
    number = number.expand(batch, -1, -1, -1)
    own = torch.where(count >= _LEAST_SUPPORT, number, -1)
    seen = torch.cat([_first_source(own, row, column) for row, column in DIRECTIONS], 1)
    here = (count > 0).expand(-1, 2, -1, -1)
    there = torch.cat([here, seen >= 0], 1)
    source = torch.cat([number.expand(-1, 2, -1, -1), seen.clamp_min(0)], 1)

    main_surface = torch.cat([*main, slope_x, slope_y], 1)
    gathered = gather_cells(main_surface, source[:, 2:]).unbind(0)
    own_surfaces = [torch.cat(pair, 1) for pair in zip(near, far, strict=True)]
    own_surfaces += [slope.expand(-1, 2, -1, -1) for slope in (slope_x, slope_y)]
    surfaces = Surfaces(*(torch.cat(pair, 1) for pair in zip(own_surfaces, gathered, strict=True)))

    step = (source.float() - number.float()).abs()
    # Along a row numbers differ by 1, else by about a row's length.
    horizontal = torch.tensor([row == 0 for row, _ in DIRECTIONS], device=inverse.device)
    cells = torch.where(horizontal[:, None, None], step[:, 2:], (step[:, 2:] / width).round())
    distance = torch.cat([torch.zeros_like(step[:, :2]), cells], 1)
    distance = torch.where(there, distance, 1e3)
    closest = distance.argmin(1, keepdim=True)
    reference = surfaces.inverse.gather(1, closest) * there.any(1, keepdim=True)
    return Candidates(source, there, surfaces, distance), reference


def find_beside(inverse: Tensor) -> tuple[Tensor, Tensor]:
    """Return the measurement nearest to each pixel, the farther surface of two as near.

    Args:
        inverse: (B, 1, H, W) 1/m, 0 at holes.

    Returns:
        Its inverse depth, 0 where there is none within `_BESIDE_PX`, and its distance, px; both
        (B, 1, H, W).
    """
    found = torch.where(inverse > 0, inverse, _NONE)
    distance = torch.zeros_like(inverse)
    for step in range(1, _BESIDE_PX + 1):
        padded = functional.pad(found, (1, 1, 1, 1), value=_NONE)
        # The farthest of three in a column, then of three columns; of an octagon, which is nearly
        # a circle, every other step leaves out the corners.
        rows = torch.minimum(padded[:, :, :-2], padded[:, :, 2:])
        if step % 2 == 0:
            rows = torch.minimum(rows, padded[:, :, 1:-1])
            farthest = torch.minimum(torch.minimum(rows[..., :-2], rows[..., 2:]), rows[..., 1:-1])
        else:
            middle = padded[:, :, 1:-1]
            beside = torch.minimum(middle[..., :-2], middle[..., 2:])
            farthest = torch.minimum(rows[..., 1:-1], beside)
        new = (found == _NONE) & (farthest < _NONE)
        found = torch.where(new, farthest, found)
        distance = torch.where(new, float(step), distance)
    return torch.where(found < _NONE, found, 0.0), distance
