"""Depth cameras, simulated in batches on the CPU or a GPU.

A sensor model is built for a batch of cameras, each drawn from ranges around published values,
and called once per frame. What a camera repeats from frame to frame, its fixed pattern, belongs
to the model; what differs is drawn at the call:

    generator = torch.Generator().manual_seed(0)
    cameras = StructuredLight(StructuredLightParameters(), view.shape, generator)
    first, second = cameras(view, generator), cameras(view, generator)
"""

from .active_stereo import ActiveStereo, ActiveStereoParameters, match_rendered_pair
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
    'match_rendered_pair',
]
