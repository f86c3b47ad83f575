"""Moves depth into the colour camera's view."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np

from ..data import (
    DepthImage,
    Header,
    PinholeCamera,
    Provenance,
    ProvenanceImage,
    RigidTransform,
    StddevImage,
    check_companions_fit,
    deviations_m,
    origins,
)
from ..geometry import seen_from
from ..parameters import Parameters
from ..stage import Capabilities, FrameLookup, Input, Topic


@dataclass(frozen=True, kw_only=True)
class RegisterDepthParameters(Parameters):
    """`RegisterDepth` has no parameters: two calibrations and tf define it."""


class RegisterDepth:
    """Moves depth into the colour camera's frame, nearer surfaces hiding farther ones.

    What the colour camera sees and the depth camera does not becomes a hole. Standard deviation
    and provenance move along where they come in.
    """

    capabilities = Capabilities()
    Parameters: ClassVar[Any] = RegisterDepthParameters
    inputs: ClassVar[Mapping[str, Input]] = {
        'depth': Topic(DepthImage, 'depth/image_rect'),
        'camera': Topic(PinholeCamera, 'depth/camera_info', latched=True),
        'color_camera': Topic(PinholeCamera, 'color/camera_info', latched=True),
        'color_from_depth': FrameLookup(target='color_camera', source='camera'),
        'stddev': Topic(StddevImage, 'depth/stddev', optional=True),
        'provenance': Topic(ProvenanceImage, 'depth/provenance', optional=True),
    }
    outputs: ClassVar[Mapping[str, Topic]] = {
        'depth': Topic(DepthImage, 'depth_registered/image_rect'),
        'camera': Topic(PinholeCamera, 'depth_registered/camera_info'),
        'stddev': Topic(StddevImage, 'depth_registered/stddev'),
        'provenance': Topic(ProvenanceImage, 'depth_registered/provenance'),
    }

    def __init__(self, parameters: RegisterDepthParameters | None = None) -> None:
        self.parameters = parameters or RegisterDepthParameters()

    def __call__(
        self,
        depth: DepthImage,
        camera: PinholeCamera,
        color_camera: PinholeCamera,
        color_from_depth: RigidTransform,
        stddev: StddevImage | None = None,
        provenance: ProvenanceImage | None = None,
    ) -> dict[str, Any]:
        """Return the frame in the colour camera's view, at the depth's stamp.

        Raises:
            ValueError: If camera, stddev or provenance have another size than the depth.
        """
        check_companions_fit(depth, stddev, provenance)
        seen = seen_from(depth.depth_m, camera, color_camera, color_from_depth)
        header = Header(depth.header.stamp_ns, color_camera.header.frame_id)
        moved: dict[str, Any] = {
            'depth': replace(depth, header=header, depth_m=seen.depth_m),
            'camera': replace(color_camera, header=header),
        }
        if stddev is not None:
            # Depth that says nothing of its deviation counts as unsure as it is far.
            stated_m = deviations_m(depth, stddev, depth.depth_m).take(seen.source)
            # By how much depth here changes with depth there.
            along_m = seen.depth_m - np.float32(color_from_depth.translation_m[2])
            stretch = np.abs(along_m) / depth.depth_m.take(seen.source)
            moved['stddev'] = StddevImage(header, stated_m * stretch)
        if provenance is not None:
            marks = origins(depth, provenance).take(seen.source)
            marks[seen.source < 0] = Provenance.INVALID
            moved['provenance'] = ProvenanceImage(header, marks)
        return moved
