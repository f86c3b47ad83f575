"""A pipeline on numpy arrays, for notebooks and scripts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from .config import configure, read_parameters
from .data import (
    ColorImage,
    DepthImage,
    Hands,
    Header,
    PinholeCamera,
    PointCloud,
    ProvenanceImage,
    StddevImage,
)
from .stage import Pipeline, updated_parameters

_FRAME = 'camera'
_ARRAY = {
    DepthImage: 'depth_m',
    StddevImage: 'stddev_m',
    ProvenanceImage: 'provenance',
    ColorImage: 'rgb',
    PointCloud: 'points_m',
    Hands: 'points_m',
}


class ArrayPipeline:
    """Runs a pipeline on numpy depth, one call a frame; made by `load_pipeline`.

    Attributes:
        pipeline: The pipeline, whose parameters can be changed between calls.
    """

    def __init__(self, pipeline: Pipeline) -> None:
        self.pipeline = pipeline
        self._next_stamp_ns = 0

    def __call__(
        self,
        depth: npt.NDArray[Any],
        camera: PinholeCamera | Sequence[float],
        color: npt.NDArray[np.uint8] | None = None,
        stamp_s: float | None = None,
    ) -> dict[str, npt.NDArray[Any]]:
        """Process one frame.

        Args:
            depth: Shape (H, W); float metres (NaN or 0 for no return), or uint16 millimetres (0).
            camera: Intrinsics, as a `PinholeCamera` or fx, fy, cx, cy in pixels.
            color: Shape (H, W, 3), uint8 RGB, registered to the depth.
            stamp_s: Time of the frame; without it frames are 1/30 s apart.

        Returns:
            Arrays by output: `depth` in metres, `stddev` in metres, `provenance`, `points` in
            metres: what the last stage made of each; and `<stage>.<port>` for every one.

        Raises:
            ValueError: If depth is no depth image, or the camera does not fit it.
        """
        stamp_ns = self._next_stamp_ns if stamp_s is None else round(stamp_s * 1e9)
        self._next_stamp_ns = stamp_ns + 33_333_333
        header = Header(stamp_ns, _FRAME)
        depth_image = DepthImage(header, _metres(depth))
        if not isinstance(camera, PinholeCamera):
            height, width = depth_image.depth_m.shape
            fx, fy, cx, cy = camera
            camera = PinholeCamera(header, width, height, fx, fy, cx, cy)
        values: dict[str, Any] = {'depth': depth_image, 'camera': camera}
        if color is not None:
            values['color'] = ColorImage(header, np.ascontiguousarray(color))
        outputs = self.pipeline(**values)
        arrays = {
            name: getattr(value, _ARRAY[type(value)])
            for name, value in outputs.items()
            if type(value) in _ARRAY
        }
        return {**arrays, **{name.partition('.')[2]: array for name, array in arrays.items()}}


def _metres(depth: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
    depth = np.asarray(depth)
    if depth.ndim != 2 or depth.dtype.kind not in 'uf':
        raise ValueError(
            f'depth must be (H, W) float metres or unsigned millimetres, '
            f'got {depth.shape} {depth.dtype}'
        )
    depth_m = depth.astype(np.float32)
    if depth.dtype.kind == 'u':
        depth_m /= np.float32(1000)
    with np.errstate(invalid='ignore'):
        depth_m[~((depth_m > 0) & (depth_m < np.inf))] = np.nan
    return depth_m


def load_pipeline(
    source: str | Path | Mapping[str, Any] = 'refine_depth,inpaint_depth', **parameters: Any
) -> ArrayPipeline:
    """Make a pipeline that works on numpy arrays.

    ```python
    pipeline = load_pipeline('refine_depth,inpaint_depth', refine_depth={'sensor': 'kinect_v1'})
    result = pipeline(depth, camera=(fx, fy, cx, cy), color=rgb)
    filled_m, stddev_m = result['depth'], result['stddev']
    ```

    Args:
        source: Stage names separated by commas, a parameter file (.yaml), or its content.
        parameters: Parameters of stages, by stage.

    Raises:
        OSError: If the file cannot be read.
        ValueError: If a stage or parameter is unknown, or a value is not allowed.
    """
    if isinstance(source, Mapping):
        values = dict(source)
    elif str(source).endswith(('.yaml', '.yml')):
        values = read_parameters(Path(source))
    else:
        values = {'stages': str(source)}
    configuration = configure(values)
    changes = {f'{s}.{n}': v for s, given in parameters.items() for n, v in given.items()}
    return ArrayPipeline(
        configuration.pipeline(updated_parameters(configuration.parameters, changes))
    )
