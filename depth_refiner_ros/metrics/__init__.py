"""How good depth, its standard deviation and hand keypoints are.

Everything is a pure function on arrays. What the reference alone decides is computed once a frame
and passed to every method that is measured on it:

```python
regions = regions_of(raw_m, reference_m)
errors = errors_by_region(depth_m, reference_m, regions)
errors['hole'].metrics()['mae_mm']
```

What must be summed over frames is a frozen value that is added with `+`, in whichever process it
was made: `depth_errors(a) + depth_errors(b)` holds the pixels of both frames in the memory of one.
That pools pixels; `FrameMeans` is the other average, in which every frame weighs the same.
"""

from .accumulate import FrameMeans, from_json, to_json
from .boundaries import (
    BoundaryError,
    BoundaryScore,
    FlyingPixels,
    canny_edges,
    count_flying_pixels,
    depth_boundary_error,
    si_boundary_f1,
)
from .calibration import Sparsification, StddevCalibration, stddev_calibration
from .depth import (
    HOLE_AREA_EDGES_PX,
    HOLE_DISTANCE_EDGES_PX,
    REFERENCE_EDGES_M,
    BinnedErrors,
    DepthErrors,
    Regions,
    depth_edges,
    depth_errors,
    distance_to_measurement_px,
    errors_by_bin,
    errors_by_region,
    hole_area_px,
    regions_of,
)
from .hands import (
    NYU_CAMERA,
    area_under_curve,
    frames_within,
    joint_errors,
    joints_within,
    mean_joint_error,
    per_joint_error,
    uvd_from_xyz,
    xyz_from_uvd,
)
from .temporal import Flicker, TemporalNoise

__all__ = [
    'HOLE_AREA_EDGES_PX',
    'HOLE_DISTANCE_EDGES_PX',
    'NYU_CAMERA',
    'REFERENCE_EDGES_M',
    'BinnedErrors',
    'BoundaryError',
    'BoundaryScore',
    'DepthErrors',
    'Flicker',
    'FlyingPixels',
    'FrameMeans',
    'Regions',
    'Sparsification',
    'StddevCalibration',
    'TemporalNoise',
    'area_under_curve',
    'canny_edges',
    'count_flying_pixels',
    'depth_boundary_error',
    'depth_edges',
    'depth_errors',
    'distance_to_measurement_px',
    'errors_by_bin',
    'errors_by_region',
    'frames_within',
    'from_json',
    'hole_area_px',
    'joint_errors',
    'joints_within',
    'mean_joint_error',
    'per_joint_error',
    'regions_of',
    'si_boundary_f1',
    'stddev_calibration',
    'to_json',
    'uvd_from_xyz',
    'xyz_from_uvd',
]
