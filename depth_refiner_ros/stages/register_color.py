"""Moves colour into the depth camera's view."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar

from ..data import ColorImage, DepthImage, Header, PinholeCamera, RigidTransform
from ..geometry import register_color
from ..parameters import Parameters
from ..stage import Capabilities, FrameLookup, Input, Topic


@dataclass(frozen=True, kw_only=True)
class RegisterColorParameters(Parameters):
    """`RegisterColor` has no parameters: two calibrations and tf define it."""


class RegisterColor:
    """Looks up the colour of every depth pixel, leaving depth as it was measured.

    Better than moving the depth where depth is what counts: nothing measured is resampled, and
    the stages after it get a guide that fits, with the depth camera's intrinsics.
    """

    capabilities = Capabilities()
    Parameters: ClassVar[Any] = RegisterColorParameters
    inputs: ClassVar[Mapping[str, Input]] = {
        'depth': Topic(DepthImage, 'depth/image_rect'),
        'camera': Topic(PinholeCamera, 'depth/camera_info', latched=True),
        'color': Topic(ColorImage, 'color/image_rect', optional=True),
        'color_camera': Topic(PinholeCamera, 'color/camera_info', optional=True, latched=True),
        'color_from_depth': FrameLookup(target='color_camera', source='camera'),
    }
    outputs: ClassVar[Mapping[str, Topic]] = {
        'color': Topic(ColorImage, 'color_registered/image_rect'),
        'color_camera': Topic(PinholeCamera, 'color_registered/camera_info'),
    }

    def __init__(self, parameters: RegisterColorParameters | None = None) -> None:
        self.parameters = parameters or RegisterColorParameters()

    def __call__(
        self,
        depth: DepthImage,
        camera: PinholeCamera,
        color: ColorImage | None = None,
        color_camera: PinholeCamera | None = None,
        color_from_depth: RigidTransform | None = None,
    ) -> dict[str, Any]:
        """Return the colour in the depth camera's view, or that view alone without colour.

        Raises:
            ValueError: If a camera has another size than its image.
        """
        header = Header(depth.header.stamp_ns, depth.header.frame_id)
        view = replace(camera, header=header)
        if color is None or color_camera is None or color_from_depth is None:
            return {'color_camera': view}
        rgb = register_color(color.rgb, color_camera, depth.depth_m, camera, color_from_depth)
        return {'color': ColorImage(header, rgb), 'color_camera': view}
