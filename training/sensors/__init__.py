"""Depth cameras, simulated in batches on the CPU or a GPU.

A sensor model is built for a batch of cameras, each drawn from ranges around published values,
and called once per frame. What a camera repeats from frame to frame, its fixed pattern, belongs
to the model; what differs is drawn at the call:

    generator = torch.Generator().manual_seed(0)
    cameras = draw_sensor('structured_light', view.shape, generator)
    first, second = cameras(view, generator), cameras(view, generator)
"""

from collections.abc import Callable
from typing import Any

import torch

from .active_stereo import ActiveStereo, ActiveStereoParameters, match_rendered_pair
from .sensor import Sensor
from .structured_light import StructuredLight, StructuredLightParameters
from .time_of_flight import TimeOfFlight, TimeOfFlightParameters
from .view import View

__all__ = [
    'ActiveStereo',
    'ActiveStereoParameters',
    'StructuredLight',
    'StructuredLightParameters',
    'TimeOfFlight',
    'TimeOfFlightParameters',
    'View',
    'draw_sensor',
    'match_rendered_pair',
]

MODELS: dict[str, tuple[Callable[..., Sensor[Any]], Callable[[], Any]]] = {
    'structured_light': (StructuredLight, StructuredLightParameters),
    'active_stereo': (ActiveStereo, ActiveStereoParameters),
    'time_of_flight': (TimeOfFlight, TimeOfFlightParameters),
}
"""Sensor models, and the ranges that their cameras are drawn from."""


def draw_sensor(name: str, shape: tuple[int, ...], generator: torch.Generator) -> Sensor[Any]:
    """Draw a batch of cameras of a sensor model, from its own ranges.

    Args:
        name: Key of `MODELS`.
        shape: (B, 1, H, W) of the images.
        generator: Draws them; on the device of the views that will follow.
    """
    model, parameters = MODELS[name]
    return model(parameters(), shape, generator)
