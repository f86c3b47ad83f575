"""Projects a depth image into an organised point cloud."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import cv2
import numpy as np

from ..data import (
    TRUST,
    ColorImage,
    DepthImage,
    PinholeCamera,
    PointCloud,
    Provenance,
    ProvenanceImage,
    check_companions_fit,
    trusted,
)
from ..geometry import check_camera_fits, points_from_depth, registered
from ..parameters import Parameters, parameter
from ..stage import Capabilities, Input, Topic


@dataclass(frozen=True, kw_only=True)
class ProjectPointsParameters(Parameters):
    """Parameters of `ProjectPoints`."""

    stride_px: int = parameter(1, 'Keep every n-th row and column.', unit='px', range=(1, 64))
    min_distance_m: float = parameter(
        0.0, 'Leave points nearer than this out.', unit='m', range=(0, 100)
    )
    max_distance_m: float = parameter(
        0.0, 'Leave points farther than this out; 0 keeps all.', unit='m', range=(0, 1000)
    )
    trust: str = parameter(
        TRUST[-1].name.lower(),
        'Least trusted origin that is published, from the most trusted to the least. refined '
        'leaves out all that was filled or estimated, relative leaves out nothing. Depth without '
        'provenance counts as measured.',
        choices=tuple(kind.name.lower() for kind in TRUST),
    )
    inpainted: bool = parameter(
        True, 'Older form of trust: false leaves out what trust refined does.'
    )
    color: bool = parameter(
        True, 'Colour the points when a colour image registered to the depth is there.'
    )


class ProjectPoints:
    """Projects depth into an organised cloud, one point a pixel, NaN where there is none.

    Colour is used when it is registered to the depth: same size, frame and intrinsics.
    """

    capabilities = Capabilities()
    Parameters: ClassVar[Any] = ProjectPointsParameters
    inputs: ClassVar[Mapping[str, Input]] = {
        'depth': Topic(DepthImage, 'depth/image_rect'),
        'camera': Topic(PinholeCamera, 'depth/camera_info', latched=True),
        'color': Topic(ColorImage, 'color/image_rect', optional=True),
        'color_camera': Topic(PinholeCamera, 'color/camera_info', optional=True, latched=True),
        'provenance': Topic(ProvenanceImage, 'depth/provenance', optional=True),
    }
    outputs: ClassVar[Mapping[str, Topic]] = {'points': Topic(PointCloud, 'points')}

    def __init__(self, parameters: ProjectPointsParameters | None = None) -> None:
        self.parameters = parameters or ProjectPointsParameters()

    def __call__(
        self,
        depth: DepthImage,
        camera: PinholeCamera,
        color: ColorImage | None = None,
        color_camera: PinholeCamera | None = None,
        provenance: ProvenanceImage | None = None,
    ) -> dict[str, PointCloud]:
        """Return the cloud of one frame.

        Raises:
            ValueError: If camera or provenance have another size than the depth.
        """
        p = self.parameters
        check_camera_fits(depth.depth_m, camera)
        check_companions_fit(depth, None, provenance)
        depth_m = depth.depth_m
        kept = None
        if p.max_distance_m > 0 or p.min_distance_m > 0:
            farthest_m = p.max_distance_m or np.inf
            kept = cv2.inRange(depth_m, p.min_distance_m, farthest_m).view(np.bool_)
        least = Provenance[p.trust.upper()]
        if not p.inpainted:
            least = min(least, Provenance.REFINED, key=TRUST.index)
        if provenance is not None and least != TRUST[-1]:
            enough = trusted(provenance.provenance, least)
            kept = enough if kept is None else kept & enough
        if kept is not None:
            depth_m = np.where(kept, depth_m, np.float32(np.nan))
        rgb = None
        if color is not None and p.color and registered(color, depth, color_camera, camera):
            rgb = color.rgb
        points_m = points_from_depth(depth_m, camera)
        if p.stride_px > 1:
            points_m = np.ascontiguousarray(points_m[:: p.stride_px, :: p.stride_px])
            rgb = None if rgb is None else rgb[:: p.stride_px, :: p.stride_px]
        return {'points': PointCloud(depth.header, points_m, rgb)}
