"""A stage of your own: removes depth that is filled or uncertain.

    python examples/mask_uncertain.py replay IN -o OUT --stages refine_depth,mask_uncertain
    python examples/mask_uncertain.py node --ros-args -p stages:=refine_depth,mask_uncertain

docs/write_a_stage.md explains it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
import sys
from typing import Any, ClassVar

import numpy as np

from depth_refiner_ros.cli import main as depth_refiner
from depth_refiner_ros.data import (
    DepthImage,
    PinholeCamera,
    ProvenanceImage,
    StddevImage,
    check_companions_fit,
    trusted,
)
from depth_refiner_ros.nodes import pipeline as run_node
from depth_refiner_ros.parameters import Parameters, parameter
from depth_refiner_ros.stage import Capabilities, Input, Topic
from depth_refiner_ros.stages import STAGES


@dataclass(frozen=True, kw_only=True)
class MaskUncertainParameters(Parameters):
    """Parameters of `MaskUncertain`."""

    max_stddev_m: float = parameter(
        0.02, 'Depth with a larger standard deviation is removed.', unit='m', range=(0, 1)
    )


class MaskUncertain:
    """Removes depth that is filled or uncertain, for consumers that read the depth image alone."""

    capabilities = Capabilities()
    Parameters: ClassVar[Any] = MaskUncertainParameters
    inputs: ClassVar[Mapping[str, Input]] = {
        'depth': Topic(DepthImage, 'depth/image_rect'),
        'camera': Topic(PinholeCamera, 'depth/camera_info', latched=True),
        'stddev': Topic(StddevImage, 'depth/stddev'),
        'provenance': Topic(ProvenanceImage, 'depth/provenance'),
    }
    outputs: ClassVar[Mapping[str, Topic]] = {
        'depth': Topic(DepthImage, 'depth_masked/image_rect'),
        'camera': Topic(PinholeCamera, 'depth_masked/camera_info'),
    }

    def __init__(self, parameters: MaskUncertainParameters | None = None) -> None:
        self.parameters = parameters or MaskUncertainParameters()

    def __call__(
        self,
        depth: DepthImage,
        camera: PinholeCamera,
        stddev: StddevImage,
        provenance: ProvenanceImage,
    ) -> dict[str, Any]:
        """Return the depth that is measured or refined and certain enough.

        Raises:
            ValueError: If standard deviation or provenance do not fit the depth.
        """
        check_companions_fit(depth, stddev, provenance)
        kept = trusted(provenance.provenance) & (stddev.stddev_m <= self.parameters.max_stddev_m)
        masked_m = np.where(kept, depth.depth_m, np.float32(np.nan))
        return {
            'depth': replace(depth, depth_m=masked_m),
            'camera': replace(camera, header=depth.header),
        }


STAGES['mask_uncertain'] = MaskUncertain


if __name__ == '__main__':
    if sys.argv[1:2] == ['node']:
        run_node()
    sys.exit(depth_refiner())
