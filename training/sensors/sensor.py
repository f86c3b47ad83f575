"""What all sensor models have in common."""

from __future__ import annotations

from typing import Generic, TypeVar

import torch
from torch import Tensor

from .noise import draw_spans
from .view import View

Parameters = TypeVar('Parameters')


class Sensor(Generic[Parameters]):
    """A batch of cameras, each drawn from ranges.

    Args:
        parameters: Ranges that the cameras are drawn from.
        shape: (B, 1, H, W) of the images.
        generator: Draws the cameras; on the device of the views that will follow.
    """

    def __init__(
        self, parameters: Parameters, shape: tuple[int, ...], generator: torch.Generator
    ) -> None:
        self.parameters = parameters
        self.shape = tuple(shape)
        self.drawn = draw_spans(parameters, shape[0], generator)

    def __call__(self, view: View, generator: torch.Generator) -> Tensor:
        """Measure a batch of scenes.

        Args:
            view: On the device of the generators.
            generator: Draws what differs between frames.

        Returns:
            (B, 1, H, W) metres, NaN where there is no return.

        Raises:
            ValueError: The view has another shape than the cameras.
        """
        if tuple(view.shape) != self.shape:
            raise ValueError(f'The cameras see {self.shape}, the view is {tuple(view.shape)}.')
        return self.measure(view, generator)

    def measure(self, view: View, generator: torch.Generator) -> Tensor:
        """Measure a batch of scenes of the right shape; see `__call__`."""
        raise NotImplementedError
