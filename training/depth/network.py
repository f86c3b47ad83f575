"""Depth networks that choose between surfaces instead of blending them.

A hole belongs to one of the surfaces around it. For every cell of 4x4 pixels the nearest surface
in eight directions, and the nearest and the farthest surface in the cell itself, are continued as
planes (linear in inverse depth) to each of its pixels; a measurement up to four pixels beside a
pixel is one more candidate. A small U-Net that sees depth, holes and
colour scores these candidates; likeness of colour between a pixel and a candidate's source is
given explicitly, as a distance between learned embeddings. The best candidate is taken, never a
mean, and corrected by a few per cent at most.

The shape follows the finding that an oracle over ten such candidates misses by a quarter of what
the best classical filter does, while networks that regress depth make halos at silhouettes.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple, cast

import torch
from torch import Tensor, nn
from torch.nn import functional

CELL_PX = 4
"""Side of a cell."""
STRIDE_PX = 32
"""Of the U-Net's coarsest features: images are padded to multiples of it."""
DIRECTIONS = ((0, -1), (0, 1), (-1, 0), (1, 0), (-1, -1), (-1, 1), (1, -1), (1, 1))
"""Rows and columns towards which a cell looks for surfaces."""
CANDIDATES = 2 + len(DIRECTIONS)

_REACH = 8
"""Doublings of a look: 2 ** 8 cells, more than a thousand pixels."""
_SAME_SURFACE = 0.03
"""Relative difference of inverse depth within a cell that one surface may have."""
_MAX_CONTINUATION = 1.6
"""A continued plane leaves its source's inverse depth by this factor at most."""
_FARTHEST_APART = 0.5
"""Difference of the logarithms of two depths beyond which one is as bad as another."""
_LEAST_SUPPORT = 3
"""Measured pixels of a cell that make it a source for other cells."""
_NONE = 1e4
"""Inverse depth that stands for no measurement where the farthest is looked for, 1/m."""
_BESIDE_PX = 4
"""How far a measurement beside a pixel is looked for."""
_KEY = 8
"""Length of the embeddings by which pixels and sources are compared."""
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
    """What every cell is offered: the surfaces of `CANDIDATES` sources.

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


class Fields(NamedTuple):
    """What a network sees in B images, before it says anything.

    Attributes:
        candidates: Of all cells.
        colors: (M, 48) of the pixels of all cells.
        context: (M, C) features of all cells.
        beside: (M, 16) 1/m, see `Prediction`.
        beside_px: (M, 16) how far away that is.
    """

    candidates: Candidates
    colors: Tensor
    context: Tensor
    beside: Tensor
    beside_px: Tensor


class Doubts(NamedTuple):
    """What a network says of M cells whatever is chosen in them.

    Attributes:
        correction: (M, 16) logarithm of the factor that depth is multiplied by.
        log_spread: (M, 16) logarithm of the expected error's share of the depth.
        wrong: (M, 16) logit of a measurement being wrong.
    """

    correction: Tensor
    log_spread: Tensor
    wrong: Tensor


class Prediction(NamedTuple):
    """What a network says of the candidates of M cells, as rows; K candidates, 16 pixels a cell.

    Attributes:
        score: (M, 16, K) what context alone says.
        query: (M, 16, E) embeddings of pixels: of how they look, and where they are.
        key: (M, K, E) embeddings of the candidates' sources, the same way.
        there: (M, K) bool, False where there is no such candidate.
        planes: The candidates' surfaces, (M, K) each.
        damping: (M, K) share of its slope that a surface goes on with.
        place: Columns and rows of the pixels of cells, (M, 16) each, px.
        beside: (M, 16) 1/m, the measurement beside each pixel; 0 where there is none.
        beside_score: (M, 16) its score; very low where there is none.
    """

    score: Tensor
    query: Tensor
    key: Tensor
    there: Tensor
    planes: Surfaces
    damping: Tensor
    place: tuple[Tensor, Tensor]
    beside: Tensor
    beside_score: Tensor

    def logits(self) -> Tensor:
        """Return the scores of the candidates and, last, of what is beside, (M, 16, K + 1).

        Their softmax says which one is right.
        """
        planes = self.score + self.query @ self.key.transpose(1, 2)
        return torch.cat([planes, self.beside_score[..., None]], 2)

    def offered(self) -> Tensor:
        """Return which candidates there are, (M, 16, K + 1) bool."""
        planes = self.there[:, None].expand(-1, self.beside.shape[1], -1)
        return torch.cat([planes, self.beside[..., None] > 0], 2)

    def choice(self) -> Tensor:
        """Return the candidate that is expected to miss by least, (M, 16) int64.

        That is the median of the candidates, each weighing as much as it is likely right: a
        lonely surface, even the likeliest, yields to several that agree.
        """
        planes = [value[:, None] for value in (*self.planes, self.damping)]
        at_center = self._continued(planes, [place.mean(1)[:, None, None] for place in self.place])
        # Who is not there is far from everybody.
        log = torch.log(torch.where(self.there, at_center[:, 0], 1e-6))
        apart = (log[:, :, None] - log[:, None]).abs().clamp_max(_FARTHEST_APART)
        beside = torch.log(torch.where(self.beside > 0, self.beside, 1e-9))[..., None]
        from_beside = (log[:, None] - beside).abs().clamp_max(_FARTHEST_APART)
        planes, alone = self.logits().softmax(2).split([log.shape[1], 1], 2)
        expected = planes @ apart + alone * from_beside
        expected_beside = (planes * from_beside).sum(2, keepdim=True)
        return torch.cat([expected, expected_beside], 2).argmin(2)

    def inverse(self) -> Tensor:
        """Return what each candidate says, continued to each pixel, (M, 16, K + 1) 1/m."""
        planes = [value[:, None] for value in (*self.planes, self.damping)]
        continued = self._continued(planes, [place[:, :, None] for place in self.place])
        return torch.cat([continued, self.beside[..., None].clamp_min(1e-3)], 2)

    def chosen_inverse(self, choice: Tensor) -> Tensor:
        """Return what one candidate for each pixel says, (M, 16) 1/m; NaN where there is none.

        Args:
            choice: (M, 16) int64, its number.
        """
        last = self.there.shape[1] - 1
        planes = [
            value.gather(1, choice.clamp_max(last))[..., None]
            for value in (*self.planes, self.damping)
        ]
        inverse = self._continued(planes, [place[:, :, None] for place in self.place])[..., 0]
        inverse = torch.where(self.there.any(1, keepdim=True), inverse, torch.nan)
        return torch.where(choice > last, self.beside, inverse)

    @staticmethod
    def _continued(planes: list[Tensor], place: list[Tensor]) -> Tensor:
        x, y = place
        start, at_x, at_y, slope_x, slope_y, damping = planes
        inverse = start + damping * (slope_x * (x - at_x) + slope_y * (y - at_y))
        lowest, highest = start / _MAX_CONTINUATION, start * _MAX_CONTINUATION
        return torch.minimum(torch.maximum(inverse, lowest), highest).clamp_min(1e-3)

    def at(self, cell: Tensor, pixel: Tensor) -> Prediction:
        """Return the prediction for single pixels, as cells of one pixel each: (n, 1, K)."""
        score, query, x, y, beside, beside_score = (
            value[cell, pixel][:, None]
            for value in (self.score, self.query, *self.place, self.beside, self.beside_score)
        )
        return Prediction(
            score,
            query,
            self.key[cell],
            self.there[cell],
            Surfaces(*(value[cell] for value in self.planes)),
            self.damping[cell],
            (x, y),
            beside,
            beside_score,
        )


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
        height: Of the images, px.
        width: Of the images, px.
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


def _look(own: Tensor, row: int, column: int) -> Tensor:
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
    """Return what every cell is offered.

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
    seen = torch.cat([_look(own, row, column) for row, column in DIRECTIONS], 1)
    here = (count > 0).expand(-1, 2, -1, -1)
    there = torch.cat([here, seen >= 0], 1)
    source = torch.cat([number.expand(-1, 2, -1, -1), seen.clamp_min(0)], 1)

    main_surface = torch.cat([*main, slope_x, slope_y], 1)
    looked = gather_cells(main_surface, source[:, 2:]).unbind(0)
    own_surfaces = [torch.cat(pair, 1) for pair in zip(near, far, strict=True)]
    own_surfaces += [slope.expand(-1, 2, -1, -1) for slope in (slope_x, slope_y)]
    surfaces = Surfaces(*(torch.cat(pair, 1) for pair in zip(own_surfaces, looked, strict=True)))

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


_LEAK = 0.1
"""Slope of activations below 0. With plain ReLUs whole levels of the U-Net died in training: they
said 0 everywhere, whatever they saw, and were never taught again."""


def _asinh(value: Tensor) -> Tensor:
    # Of functions that every back end computes side by side; torch.asinh is slow on some.
    return value.sign() * torch.log(value.abs() + torch.sqrt(value * value + 1))


class Block(nn.Module):
    """Two 3x3 convolutions around which the features are led past, and nothing cuts these.

    Nothing is normalised: statistics of a batch would differ between one process and several, and
    those of an image with the share of it that is hole.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(channels, channels, 3, padding=1)
        self.second = nn.Conv2d(channels, channels, 3, padding=1)
        nn.init.kaiming_normal_(self.first.weight)
        nn.init.zeros_(self.second.weight)

    def forward(self, x: Tensor) -> Tensor:
        """Return features of the same shape."""
        inner = functional.leaky_relu(self.first(functional.leaky_relu(x, _LEAK)), _LEAK)
        return x + cast('Tensor', self.second(inner))


@dataclass(frozen=True)
class Size:
    """Channels of the U-Net at 4, 8, 16 and 32 pixels, and blocks of each."""

    channels: tuple[int, int, int, int]
    blocks: int


SIZES = {
    'nano': Size((24, 32, 48, 64), 1),
    'small': Size((48, 64, 96, 128), 1),
    'base': Size((64, 96, 128, 192), 2),
}


class UNet(nn.Module):
    """Context: an encoder to 32 pixels a feature, and back, with sums instead of copies."""

    def __init__(self, inputs: int, size: Size) -> None:
        super().__init__()
        widths = size.channels

        def blocks(channels: int) -> nn.Sequential:
            return nn.Sequential(*(Block(channels) for _ in range(size.blocks)))

        self.stem = nn.Sequential(nn.Conv2d(inputs, widths[0], 3, padding=1), nn.LeakyReLU(_LEAK))
        self.encode = nn.ModuleList(blocks(channels) for channels in widths)
        self.down = nn.ModuleList(
            nn.Sequential(nn.Conv2d(fine, coarse, 3, 2, 1), nn.LeakyReLU(_LEAK))
            for fine, coarse in pairwise(widths)
        )
        up = [nn.Conv2d(coarse, fine, 1) for fine, coarse in pairwise(widths)]
        # What is seen from farther away comes in as it is learned.
        nn.init.zeros_(up[0].weight)
        self.up = nn.ModuleList(up)
        self.decode = nn.ModuleList(blocks(channels) for channels in widths[:-1])

    def forward(self, x: Tensor) -> Tensor:
        """Return features at the input's resolution."""
        x = self.encode[0](self.stem(x))
        skips = []
        for down, encode in zip(self.down, list(self.encode)[1:], strict=True):
            skips.append(x)
            x = encode(down(x))
        for up, decode, skip in reversed(list(zip(self.up, self.decode, skips, strict=True))):
            x = decode(skip + functional.interpolate(up(x), scale_factor=2.0, mode='nearest'))
        return x


class DepthChooser(nn.Module):
    """Fills holes and judges measurements, from depth and, if there is one, a colour image.

    Args:
        size: Key of `SIZES`.
        mixed: Compute context in bfloat16; depth and colours stay float32, whose steps they need.
    """

    def __init__(self, size: str = 'small', *, mixed: bool = False) -> None:
        super().__init__()
        self.size = size
        self.mixed = mixed
        inputs = 2 * _PIXELS + 3 * _PIXELS + 1 + 2 * CANDIDATES + 3
        channels = SIZES[size].channels[0]
        self.context = UNet(inputs, SIZES[size])
        # Scores of pixels, damping, correction, spread, wrong; embeddings are kept apart.
        self.head = nn.Linear(channels, CANDIDATES * _PIXELS + CANDIDATES + 3 * _PIXELS)
        self.query = nn.Linear(channels, _KEY * _PIXELS)
        self.key = nn.Linear(channels, 3 * _KEY)
        self.color_embedding = nn.Linear(3, _KEY, bias=False)
        self.distance_weight = nn.Parameter(torch.tensor(1.0))
        self.place_weight = nn.Parameter(torch.tensor(0.25))
        self.beside = nn.Linear(channels, _PIXELS)
        self.beside_weight = nn.Parameter(torch.tensor(1.0))
        for layer in (self.head, self.query, self.key, self.beside):
            nn.init.normal_(layer.weight, std=0.01)
            nn.init.zeros_(layer.bias)
        nn.init.normal_(self.color_embedding.weight, std=3.0)

    def forward(
        self, depth_m: Tensor, color: Tensor, cells: Tensor | None = None
    ) -> tuple[Doubts, Prediction]:
        """Return what the network says of all cells, and of the candidates of some.

        Args:
            depth_m: See `look`.
            color: The same.
            cells: (n,) int64, those whose candidates are judged; by default all.
        """
        fields = self.look(depth_m, color)
        doubts = self.doubt(fields)
        return doubts, self.judge(fields, cells)

    def look(self, depth_m: Tensor, color: Tensor) -> Fields:
        """Return candidates and context of all cells.

        Args:
            depth_m: (B, 1, H, W) metres, finite, 0 at holes. H and W are multiples of 32.
            color: (B, 3, H, W), 0 to 1; all zeros where there is none.
        """
        with torch.no_grad():
            image = torch.where(depth_m > 0, 1 / depth_m.clamp_min(1e-3), 0.0)
            inverse, beside = to_cells(image), find_beside(image)
            candidates, reference = find_candidates(inverse)
            colors = to_cells(color)
            features = self._features(inverse, candidates, reference, colors)
        with torch.autocast(depth_m.device.type, torch.bfloat16, enabled=self.mixed):
            context = self.context(features)
        return Fields(
            candidates,
            to_rows(colors),
            to_rows(context.float()),
            to_rows(to_cells(beside[0])),
            to_rows(to_cells(beside[1])),
        )

    def _features(
        self, inverse: Tensor, candidates: Candidates, reference: Tensor, colors: Tensor
    ) -> Tensor:
        measured = (inverse > 0).float()
        scale = reference.clamp_min(1e-3)

        def relative(value: Tensor) -> Tensor:
            # Differences to a local reference: absolute depth would lose slopes to rounding.
            return _asinh(20 * (value / scale - 1).clamp(-1.0, 4.0)) / 3

        there = candidates.there.float()
        has_color = (colors.amax((1, 2, 3), keepdim=True) > 0).float()
        slopes = torch.stack(
            [candidates.surfaces.slope_x[:, 0], candidates.surfaces.slope_y[:, 0]], 1
        )
        return torch.cat(
            [
                relative(inverse) * measured,
                measured,
                (colors - 0.5) * has_color,
                has_color.expand(-1, -1, *colors.shape[-2:]),
                relative(candidates.surfaces.inverse) * there,
                torch.where(candidates.there, 1 / (1 + 0.2 * candidates.distance), 0.0),
                _asinh(200 * slopes / scale).clamp(-3.0, 3.0) / 3,
                torch.log(scale) / 2,
            ],
            1,
        )

    def doubt(self, fields: Fields) -> Doubts:
        """Return what is said of all cells before their candidates are judged."""
        first = CANDIDATES * (_PIXELS + 1)
        said = functional.linear(fields.context, self.head.weight[first:], self.head.bias[first:])
        correction, log_spread, wrong = said.chunk(3, 1)
        return Doubts(
            0.03 * torch.tanh(correction),
            (log_spread - 4).clamp(-7.0, 0.5),
            wrong - 3,
        )

    def judge(self, fields: Fields, cells: Tensor | None = None) -> Prediction:
        """Return what the network says of the candidates of some cells, by default of all.

        Args:
            fields: From `look`.
            cells: (n,) int64, which cells.
        """

        def rows(values: Tensor) -> Tensor:
            return values if cells is None else values[cells]

        candidates, colors = fields.candidates, fields.colors.reshape(-1, 3, _PIXELS)
        batch, _, height, width = candidates.source.shape
        context, last = rows(fields.context), CANDIDATES * (_PIXELS + 1)
        said = functional.linear(context, self.head.weight[:last], self.head.bias[:last])
        score, damping = said.split([CANDIDATES * _PIXELS, CANDIDATES], 1)
        # How pixels and sources look; every cell may be a source.
        mean = self.color_embedding(colors.mean(2))
        key = self.key(fields.context)
        first = torch.arange(batch, device=colors.device)[:, None, None, None] * (height * width)
        source = rows(to_rows(candidates.source[:, 2:] + first))
        main = (mean + key[:, 2 * _KEY :])[source.flatten()].reshape(*source.shape, _KEY)
        inside = rows(mean)[:, None] + rows(key[:, : 2 * _KEY]).reshape(-1, 2, _KEY)
        keys = torch.cat([inside, main], 1)
        own = self.color_embedding(rows(colors).transpose(1, 2))  # (n, 16, E)
        query = own + self.query(context).reshape(-1, _PIXELS, _KEY)
        # Where they are: from a cell's centre to the sources, and to its pixels.
        x, y = (
            rows(to_rows(value.expand(batch, -1, height, width)))
            for value in _pixel_places(candidates.source)
        )
        planes = Surfaces(*(rows(to_rows(value)) for value in candidates.surfaces))
        away = [at - value.mean(1, keepdim=True) for at, value in ((planes.x, x), (planes.y, y))]
        inner = [value - value.mean(1, keepdim=True) for value in (x, y)]
        there = rows(to_rows(candidates.there))
        near_by, toward = self._nearness(rows(to_rows(candidates.distance)), away)
        # One product makes all of it: |q - k|^2 but for |q|^2, which all candidates share.
        bias = torch.where(there, near_by - (keys * keys).sum(2), -1e4)
        ones = torch.ones_like(query[..., 0])
        beside_px = rows(fields.beside_px)
        # A measurement that is judged wrong is no candidate for itself.
        beside = torch.where(beside_px > 0, rows(fields.beside), 0.0)
        beside_score = self.beside(context) - self.beside_weight * torch.log(
            beside_px.clamp_min(1.0) / CELL_PX
        )
        return Prediction(
            score.reshape(-1, _PIXELS, CANDIDATES),
            torch.cat([2 * query, torch.stack([*inner, ones], 2)], 2),
            torch.cat([keys, torch.stack([*toward, bias], 2)], 2),
            there,
            planes,
            torch.sigmoid(2 + damping),
            (x, y),
            beside,
            torch.where(beside > 0, beside_score, -1e4),
        )

    def _nearness(self, distance: Tensor, away: list[Tensor]) -> tuple[Tensor, list[Tensor]]:
        """How much nearer sources count: at the centre of a cell, and its change within, per px.

        Args:
            distance: (M, K) cells.
            away: (M, K) columns and rows from a cell's centre to the source's, px.
        """
        square = away[0] * away[0] + away[1] * away[1]
        inside = torch.arange(CANDIDATES, device=square.device) < 2
        value = -self.distance_weight * torch.log(0.5 + distance)
        value = torch.where(inside, value - self.place_weight * square, value)
        # The logarithm's slope; within a cell the square's.
        slope = torch.where(
            inside, 2 * self.place_weight, self.distance_weight / square.clamp_min(4.0)
        )
        return value, [slope * part for part in away]


class Estimate(NamedTuple):
    """Depth (B, 1, H, W) everywhere, its standard deviation, and doubts in measurements.

    Attributes:
        depth_m: Metres; NaN where no measurement is in sight.
        stddev_m: Metres.
        wrong: Probability that a measured pixel is wrong, 0 at holes.
    """

    depth_m: Tensor
    stddev_m: Tensor
    wrong: Tensor


def estimate(network: DepthChooser, depth_m: Tensor, color: Tensor) -> Estimate:
    """Take the best candidate of every hole and of every measurement that is probably wrong.

    Only the cells in which something is to be decided are judged.

    Args:
        network: That decides.
        depth_m: See `DepthChooser.look`.
        color: The same.
    """
    fields = network.look(depth_m, color)
    doubts = network.doubt(fields)
    known = to_rows(to_cells(depth_m)) > 0
    # The logit of one half is 0.
    undecided = ~(known & (doubts.wrong < 0)).all(1)
    cells = undecided.nonzero()[:, 0]
    part = network.judge(fields, cells)
    chosen = part.chosen_inverse(part.choice())
    inverse = torch.ones_like(doubts.wrong).index_copy(0, cells, chosen)

    def image(rows: Tensor) -> Tensor:
        return from_rows(rows, *depth_m.shape[2:])

    measured = depth_m > 0
    judged = image(torch.sigmoid(doubts.wrong)) * measured
    kept = measured & (judged < 0.5)
    corrected = torch.exp(image(doubts.correction))
    result_m = torch.where(kept, depth_m, 1 / image(inverse)) * corrected
    # The spread is that of a Laplace distribution; its standard deviation is sqrt(2) greater.
    stddev_m = 2**0.5 * result_m * torch.exp(image(doubts.log_spread))
    return Estimate(result_m, stddev_m, judged)


class Deployed(nn.Module):
    """The network as it is exported: one image of any size, padded inside.

    Args:
        network: What it runs.
    """

    def __init__(self, network: DepthChooser) -> None:
        super().__init__()
        self.network = network

    def forward(self, depth_m: Tensor, color: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return depth and standard deviation in metres, and doubts, (H, W) each.

        Args:
            depth_m: (H, W) float32 metres, NaN where there is no return.
            color: (H, W, 3) uint8 RGB registered to the depth; all zeros where there is none.
        """
        height, width = depth_m.shape
        pad = (0, (-width) % STRIDE_PX, 0, (-height) % STRIDE_PX)
        known = torch.where(torch.isfinite(depth_m) & (depth_m > 0), depth_m, 0.0)
        image = functional.pad(known[None, None], pad)
        picture = functional.pad(color.permute(2, 0, 1)[None].float() / 255, pad)
        found = estimate(self.network, image, picture)
        cut = [value[0, 0, :height, :width] for value in found]
        return cut[0], cut[1], cut[2]
