"""What the depth network predicts for pixels and their candidates."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from .candidates import (
    Surfaces,
)

_MAX_CONTINUATION = 1.6
"""A continued plane leaves its source's inverse depth by this factor at most."""
_FARTHEST_APART = 0.5
"""Difference of the logarithms of two depths beyond which one is as bad as another."""


class PixelPrediction(NamedTuple):
    """What a network predicts for M cells, whatever is chosen in them.

    Attributes:
        correction: (M, 16) logarithm of the factor that depth is multiplied by.
        log_spread: (M, 16) logarithm of the expected error's share of the depth.
        wrong: (M, 16) logit of a measurement being wrong.
    """

    correction: Tensor
    log_spread: Tensor
    wrong: Tensor


class Prediction(NamedTuple):
    """What a network predicts for the K candidates of M cells, as rows; 16 pixels a cell.

    Attributes:
        score: (M, 16, K) from context alone.
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

        Their softmax is the probability of each being right.
        """
        planes = self.score + self.query @ self.key.transpose(1, 2)
        return torch.cat([planes, self.beside_score[..., None]], 2)

    def available(self) -> Tensor:
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
        """Return each candidate continued to each pixel, (M, 16, K + 1) 1/m."""
        planes = [value[:, None] for value in (*self.planes, self.damping)]
        continued = self._continued(planes, [place[:, :, None] for place in self.place])
        return torch.cat([continued, self.beside[..., None].clamp_min(1e-3)], 2)

    def chosen_inverse(self, choice: Tensor) -> Tensor:
        """Return one candidate continued to each pixel, (M, 16) 1/m; NaN where there is none.

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
