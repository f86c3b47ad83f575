"""Moves depth into the colour camera's view."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar

from ..data import DepthImage, Header, PinholeCamera, RigidTransform
from ..geometry import register_depth
from ..stage import FrameLookup, Input, Parameters, Topic


@dataclass(frozen=True, kw_only=True)
class RegisterDepthParameters(Parameters):
    """`RegisterDepth` has no parameters: two calibrations and tf say it all."""


class RegisterDepth:
    """Moves depth into the colour camera's frame, nearer surfaces hiding farther ones.

    What the colour camera sees and the depth camera does not becomes a hole.
    """

    Parameters: ClassVar[Any] = RegisterDepthParameters
    inputs: ClassVar[Mapping[str, Input]] = {
        'depth': Topic(DepthImage, 'depth/image_rect'),
        'camera': Topic(PinholeCamera, 'depth/camera_info', latched=True),
        'color_camera': Topic(PinholeCamera, 'color/camera_info', latched=True),
        'color_from_depth': FrameLookup(target='color_camera', source='camera'),
    }
    outputs: ClassVar[Mapping[str, Topic]] = {
        'depth': Topic(DepthImage, 'depth_registered/image_rect'),
        'camera': Topic(PinholeCamera, 'depth_registered/camera_info'),
    }

    def __init__(self, parameters: RegisterDepthParameters | None = None) -> None:
        self.parameters = parameters or RegisterDepthParameters()

    def __call__(
        self,
        depth: DepthImage,
        camera: PinholeCamera,
        color_camera: PinholeCamera,
        color_from_depth: RigidTransform,
    ) -> dict[str, Any]:
        """Return depth and camera in the colour camera's frame, at the depth's stamp.

        Raises:
            ValueError: If the camera has another size than the depth.
        """
        moved_m = register_depth(depth.depth_m, camera, color_camera, color_from_depth)
        header = Header(depth.header.stamp_ns, color_camera.header.frame_id)
        return {
            'depth': replace(depth, header=header, depth_m=moved_m),
            'camera': replace(color_camera, header=header),
        }
