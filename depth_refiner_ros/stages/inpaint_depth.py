"""Fills the holes of depth."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np

from ..data import (
    ColorImage,
    DepthImage,
    PinholeCamera,
    Provenance,
    ProvenanceImage,
    StddevImage,
)
from ..filters.inpaint import inpaint
from ..filters.noise import SENSORS
from ..geometry import check_camera_fits
from ..stage import Input, Parameters, Topic, parameter
from .project_points import registered


@dataclass(frozen=True, kw_only=True)
class InpaintDepthParameters(Parameters):
    """Parameters of `InpaintDepth`."""

    max_hole_px: float = parameter(
        0.0, 'Widest hole that is filled; 0 fills every hole.', unit='px', range=(0, 10000)
    )
    max_distance_m: float = parameter(
        0.0,
        'Nothing is invented farther away than this; 0 sets no limit.',
        unit='m',
        range=(0, 1000),
    )
    color: bool = parameter(
        True, 'Let a colour image registered to the depth guide which surface a hole belongs to.'
    )
    sensor: str = parameter(
        'kinect_v1',
        'Camera whose noise model gives the standard deviation of measured pixels where none '
        'comes in.',
        choices=tuple(SENSORS),
    )


class InpaintDepth:
    """Fills holes with the surfaces around them and marks every pixel it invented.

    A hole takes the surface it belongs to, never a blend of two: an occlusion shadow continues
    the background, a plane continues as a plane.
    """

    Parameters: ClassVar[Any] = InpaintDepthParameters
    inputs: ClassVar[Mapping[str, Input]] = {
        'depth': Topic(DepthImage, 'depth/image_rect'),
        'camera': Topic(PinholeCamera, 'depth/camera_info', latched=True),
        'stddev': Topic(StddevImage, 'depth/stddev', optional=True),
        'provenance': Topic(ProvenanceImage, 'depth/provenance', optional=True),
        'color': Topic(ColorImage, 'color/image_rect', optional=True),
    }
    outputs: ClassVar[Mapping[str, Topic]] = {
        'depth': Topic(DepthImage, 'depth_inpainted/image_rect'),
        'camera': Topic(PinholeCamera, 'depth_inpainted/camera_info'),
        'stddev': Topic(StddevImage, 'depth_inpainted/stddev'),
        'provenance': Topic(ProvenanceImage, 'depth_inpainted/provenance'),
    }

    def __init__(self, parameters: InpaintDepthParameters | None = None) -> None:
        self.parameters = parameters or InpaintDepthParameters()

    def __call__(
        self,
        depth: DepthImage,
        camera: PinholeCamera,
        stddev: StddevImage | None = None,
        provenance: ProvenanceImage | None = None,
        color: ColorImage | None = None,
    ) -> dict[str, Any]:
        """Return the filled frame.

        Raises:
            ValueError: If camera, stddev or provenance have another size than the depth.
        """
        p = self.parameters
        check_camera_fits(depth.depth_m, camera)
        measured_stddev_m = (
            stddev.stddev_m
            if stddev is not None
            else SENSORS[p.sensor].stddev_m(depth.depth_m, camera.fx)
        )
        guide = color.rgb if color is not None and p.color and registered(color, depth) else None
        depth_m, stddev_m, filled = inpaint(
            depth.depth_m,
            stddev_m=measured_stddev_m,
            color=guide,
            max_hole_px=p.max_hole_px,
            max_distance_m=p.max_distance_m,
        )
        if provenance is None:
            marks = np.where(np.isnan(depth_m), Provenance.INVALID, Provenance.MEASURED).astype(
                np.uint8
            )
        else:
            marks = provenance.provenance.copy()
        marks[filled] = Provenance.INPAINTED
        header = depth.header
        return {
            'depth': replace(depth, depth_m=depth_m),
            'camera': replace(camera, header=header),
            'stddev': StddevImage(header, stddev_m),
            'provenance': ProvenanceImage(header, marks),
        }
