"""Gives the colour picture the depth of field of a large lens."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
import math
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from ..data import ColorImage, DepthImage, Header, PinholeCamera
from ..filters.depth_of_field import MAX_BLUR_PX, blur, circle_of_confusion_px
from ..filters.focus import FocusPull, depth_around_m, nearest_object_m
from ..geometry import check_camera_fits, fill_nearest, registered
from ..parameters import Parameters, parameter
from ..stage import Capabilities, Input, Topic


@dataclass(frozen=True, kw_only=True)
class BlurBackgroundParameters(Parameters):
    """Parameters of `BlurBackground`."""

    focus: str = parameter(
        'nearest',
        'What is sharp: the distance focus_distance_m, the point focus_x_px, focus_y_px, or the '
        'nearest thing as large as a face.',
        choices=('distance', 'point', 'nearest'),
    )
    focus_distance_m: float = parameter(
        1.0, 'Depth that is sharp, for focus distance.', unit='m', range=(0.1, 100)
    )
    focus_x_px: float = parameter(
        -1.0,
        'Column of the point that is sharp, for focus point; -1 is the middle.',
        unit='px',
        range=(-1, 100000),
    )
    focus_y_px: float = parameter(
        -1.0,
        'Row of the point that is sharp, for focus point; -1 is the middle.',
        unit='px',
        range=(-1, 100000),
    )
    focus_time_s: float = parameter(
        0.3,
        'Time constant of a change of focus; 0 jumps.',
        unit='s',
        range=(0, 10),
    )
    f_number: float = parameter(
        1.0,
        'Aperture; a smaller number blurs more. Fast lenses have 1.4; with the wide angle of a '
        'depth camera smaller numbers look natural.',
        range=(0.05, 64),
    )
    sensor_width_mm: float = parameter(
        36.0,
        'Width of the imitated sensor, 36 for full frame; a wider one blurs more. With the angle '
        'of view it gives the focal length.',
        unit='mm',
        range=(1, 200),
    )
    max_blur_px: float = parameter(
        32.0, 'Greatest diameter of the blur; 0 blurs nothing.', unit='px', range=(0, MAX_BLUR_PX)
    )
    highlights: float = parameter(
        4.0,
        'How many times brighter than white lamps and reflections are; more makes their discs '
        'stand out.',
        range=(1, 100),
    )


class BlurBackground:
    """Blurs the picture as a large lens would: sharp at the focus, ever softer away from it.

    The blur is that of a thin lens. What is near hides what is far: a sharp foreground keeps its
    edge and its colour to itself, a blurred one spreads over the background. Pixels without depth
    take that of the nearest pixel with one.
    """

    capabilities = Capabilities(remembers=True)
    Parameters: ClassVar[Any] = BlurBackgroundParameters
    inputs: ClassVar[Mapping[str, Input]] = {
        'depth': Topic(DepthImage, 'depth/image_rect'),
        'camera': Topic(PinholeCamera, 'depth/camera_info', latched=True),
        'color': Topic(ColorImage, 'color/image_rect'),
        'color_camera': Topic(PinholeCamera, 'color/camera_info', optional=True, latched=True),
    }
    # A port of its own: as `color` it would become the guide of the stages after it.
    outputs: ClassVar[Mapping[str, Topic]] = {
        'blurred': Topic(ColorImage, 'color_blurred/image_rect')
    }

    def __init__(self, parameters: BlurBackgroundParameters | None = None) -> None:
        self.parameters = parameters or BlurBackgroundParameters()
        self._pull = FocusPull()

    def __call__(
        self,
        depth: DepthImage,
        camera: PinholeCamera,
        color: ColorImage | None = None,
        color_camera: PinholeCamera | None = None,
    ) -> dict[str, ColorImage]:
        """Return the blurred picture, or nothing where an earlier stage had no colour to register.

        Raises:
            ValueError: If the camera has another size than the depth, the colour is not registered
                to the depth, or the point to focus on is outside the image.
        """
        check_camera_fits(depth.depth_m, camera)
        if color is None:
            return {}
        if not registered(color, depth, color_camera, camera):
            raise ValueError(
                f'the colour image, {_described(color.header, color.rgb)}, is not registered to '
                f'the depth, {_described(depth.header, depth.depth_m)}; put register_color before '
                'blur_background'
            )
        p = self.parameters
        focus_m = self._focus_m(depth, camera)
        filled_m = fill_nearest(depth.depth_m)
        if filled_m is None or math.isnan(focus_m) or p.max_blur_px == 0:
            return {'blurred': color}
        focal_m = camera.fx / camera.width * p.sensor_width_mm / 1000
        diameter_px = circle_of_confusion_px(
            filled_m,
            # Nearer than this, where things appear in life size, hardly any lens can focus.
            focus_m=max(focus_m, 2 * focal_m),
            f_number=p.f_number,
            focal_px=camera.fx,
            focal_m=focal_m,
        )
        np.clip(diameter_px, -p.max_blur_px, p.max_blur_px, out=diameter_px)
        rgb = blur(color.rgb, diameter_px, highlights=p.highlights)
        return {'blurred': ColorImage(color.header, rgb)}

    def _focus_m(self, depth: DepthImage, camera: PinholeCamera) -> float:
        """Return the depth that is sharp in a frame; NaN if it is not defined."""
        p = self.parameters
        if p.focus == 'distance':
            wanted_m, time_s = p.focus_distance_m, 0.0
        elif p.focus == 'point':
            x_px = p.focus_x_px if p.focus_x_px >= 0 else (camera.width - 1) // 2
            y_px = p.focus_y_px if p.focus_y_px >= 0 else (camera.height - 1) // 2
            wanted_m, time_s = depth_around_m(depth.depth_m, x_px, y_px), p.focus_time_s
        else:
            wanted_m, time_s = nearest_object_m(depth.depth_m, camera.fx), p.focus_time_s
        return self._pull(wanted_m, depth.header.stamp_ns, time_s=time_s)


def _described(header: Header, image: npt.NDArray[Any]) -> str:
    return f'{image.shape[1]}x{image.shape[0]} in frame {header.frame_id!r}'
