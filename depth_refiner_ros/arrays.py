"""A pipeline on numpy arrays, for notebooks and scripts."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
import math
from pathlib import Path
from typing import Any
import warnings

import numpy as np
import numpy.typing as npt

from .config import configure, read_parameters
from .data import (
    ColorImage,
    DepthImage,
    Float32Array,
    Hands,
    Header,
    PinholeCamera,
    PointCloud,
    ProvenanceImage,
    RigidTransform,
    StddevImage,
    UInt8Array,
)
from .geometry import TransformTree
from .stage import FrameLookup, Pipeline, Topic
from .stages import STAGES

_FRAME, _COLOR_FRAME = 'camera', 'color_camera'
_ARRAY = {
    DepthImage: 'depth_m',
    StddevImage: 'stddev_m',
    ProvenanceImage: 'provenance',
    ColorImage: 'rgb',
    PointCloud: 'points_m',
}
_FARTHEST_M = 100.0
"""Half of an image farther away than this was seen by no depth camera."""
_OFF_CENTER = 0.25
"""A principal point this close to a border, as a share of the image, is rarely right."""


class Result(Mapping[str, Any]):
    """What a pipeline made of one frame, by name or as attributes.

    A name is a port, of which the last stage that puts it out counts, or `<stage>.<port>`. Images
    and points are numpy arrays of the caller's own; hands and cameras are values of `data`. An
    attribute that no stage makes raises an AttributeError that says what there is.
    """

    def __init__(self, outputs: Mapping[str, Any]) -> None:
        kept = {
            name: value
            for name, value in outputs.items()
            if isinstance(value, (*_ARRAY, Hands, PinholeCamera))
        }
        self._values: dict[str, Any] = {
            **kept,
            **{name.partition('.')[2]: value for name, value in kept.items()},
        }
        self._arrays: dict[str, npt.NDArray[Any]] = {}

    def __getitem__(self, name: str) -> Any:
        """Return a value; a KeyError if there is none of that name."""
        value = self._values[name]
        if type(value) not in _ARRAY:
            return value
        if name not in self._arrays:
            self._arrays[name] = getattr(value, _ARRAY[type(value)]).copy()
        return self._arrays[name]

    def __iter__(self) -> Iterator[str]:
        """Iterate over the names."""
        return iter(self._values)

    def __len__(self) -> int:
        """Count the names."""
        return len(self._values)

    def __repr__(self) -> str:
        """Show the names."""
        return f'Result({", ".join(self)})'

    def _made(self, name: str) -> Any:
        if name not in self._values:
            raise AttributeError(
                f'no stage of this pipeline made {name} of this frame; there is '
                f'{", ".join(name for name in self if "." not in name) or "nothing"}'
            )
        return self[name]

    @property
    def depth(self) -> Float32Array:
        """Shape (H, W), metres, NaN where there is none."""
        depth_m: Float32Array = self._made('depth')
        return depth_m

    @property
    def stddev(self) -> Float32Array:
        """Shape (H, W), standard deviation of the depth in metres, NaN where there is none."""
        stddev_m: Float32Array = self._made('stddev')
        return stddev_m

    @property
    def provenance(self) -> UInt8Array:
        """Shape (H, W), values of `data.Provenance`; `data.trusted` tells which to rely on."""
        provenance: UInt8Array = self._made('provenance')
        return provenance

    @property
    def estimate(self) -> Float32Array:
        """Shape (H, W), metres, depth from colour alone, NaN where there is none."""
        estimate_m: Float32Array = self._made('estimate')
        return estimate_m

    @property
    def camera(self) -> PinholeCamera:
        """Intrinsics of the depth."""
        camera: PinholeCamera = self._made('camera')
        return camera

    @property
    def points(self) -> Float32Array:
        """Shape (H, W, 3), metres, NaN where there is none."""
        points_m: Float32Array = self._made('points')
        return points_m

    @property
    def points_rgb(self) -> UInt8Array | None:
        """Shape (H, W, 3), colour of the points, or None where no colour came in."""
        self._made('points')
        cloud: PointCloud = self._values['points']
        return None if cloud.rgb is None else cloud.rgb.copy()

    @property
    def color(self) -> UInt8Array:
        """Shape (H, W, 3), RGB, the colour brought into the view of the depth."""
        rgb: UInt8Array = self._made('color')
        return rgb

    @property
    def blurred(self) -> UInt8Array:
        """Shape (H, W, 3), RGB, the picture with its background blurred."""
        rgb: UInt8Array = self._made('blurred')
        return rgb

    @property
    def hands(self) -> Hands:
        """Points in metres, pixels, confidence, side and ids of the hands."""
        hands: Hands = self._made('hands')
        return hands


class ArrayPipeline:
    """Runs a pipeline on numpy arrays, one call a frame; made by `load_pipeline`.

    Attributes:
        pipeline: The pipeline, whose parameters can be changed between calls.
    """

    def __init__(self, pipeline: Pipeline) -> None:
        self.pipeline = pipeline
        self._next_stamp_ns = 0

    def __call__(
        self,
        depth: npt.ArrayLike | None = None,
        camera: Any = None,
        color: npt.ArrayLike | None = None,
        stamp_s: float | None = None,
        *,
        color_camera: Any = None,
        color_from_depth: npt.ArrayLike | None = None,
        depth_unit_m: float | None = None,
    ) -> Result:
        """Process one frame.

        A camera is a `PinholeCamera`, a CameraInfo message or what has its k, p, width and
        height, fx, fy, cx, cy in pixels, or a 3x3 matrix of intrinsics.

        Args:
            depth: Shape (H, W); float metres, or integer millimetres of 16 or 32 bits. What is
                masked, 0, negative or not finite is no return.
            camera: Intrinsics of the depth, or of the colour where there is no depth.
            color: Shape (H, W, 3), uint8 RGB; of the depth's own view unless `color_camera` is
                given.
            stamp_s: Time of the frame; without it frames are 1/30 s apart.
            color_camera: Intrinsics of a colour camera of its own, for `register_depth`,
                `register_color` and `estimate_depth`.
            color_from_depth: Shape (4, 4), the depth camera's pose in the colour camera's optical
                frame, metres.
            depth_unit_m: Metres that 1 stands for in `depth`, where it is neither of the above.

        Raises:
            ValueError: If something is missing, is not what it should be, or does not fit.
        """
        stamp_ns = self._stamp_ns(stamp_s)
        header = Header(stamp_ns, _FRAME)
        color_header = header if color_camera is None else Header(stamp_ns, _COLOR_FRAME)
        values: dict[str, Any] = {}
        if depth is not None:
            values['depth'] = DepthImage(header, _metres(depth, depth_unit_m))
        if color is not None:
            values['color'] = ColorImage(color_header, _rgb(color))
        self._check_given(values, camera, color_camera)
        if depth is not None:
            size = values['depth'].depth_m.shape
            values['camera'] = _camera(camera, header, size, 'depth')
        if color_camera is not None:
            size = values['color'].rgb.shape[:2] if color is not None else size
            values['color_camera'] = _camera(color_camera, color_header, size, 'colour')
        elif depth is not None:
            values['color_camera'] = values['camera']
            if color is not None and values['color'].rgb.shape[:2] != size:
                have = values['color'].rgb.shape
                raise ValueError(
                    f'color is {have[1]}x{have[0]}, depth {size[1]}x{size[0]}; give colour '
                    'registered to the depth, or color_camera and color_from_depth with the '
                    'stage register_color first'
                )
        elif color is not None:
            size = values['color'].rgb.shape[:2]
            values['color_camera'] = _camera(camera, header, size, 'colour')
        tree = TransformTree()
        if color_from_depth is not None:
            tree.update([_transform(color_from_depth, color_header)])
        elif color_camera is not None and self._looks_up():
            raise ValueError(
                f'{", ".join(self._looks_up())} needs color_from_depth beside color_camera: the '
                "4x4 pose of the depth camera in the colour camera's frame, in metres"
            )
        self._next_stamp_ns = stamp_ns + 33_333_333
        taken = {port: values.get(port) for port in self.pipeline.inputs}
        return Result(self.pipeline(tree, **taken))

    def _stamp_ns(self, stamp_s: float | None) -> int:
        if stamp_s is None:
            return self._next_stamp_ns
        if not math.isfinite(stamp_s):
            raise ValueError(f'stamp_s must be a finite number of seconds, got {stamp_s}')
        return round(float(stamp_s) * 1e9)

    def _looks_up(self) -> list[str]:
        return [
            name
            for name, stage in self.pipeline.stages.items()
            if any(isinstance(port, FrameLookup) for port in stage.inputs.values())
        ]

    def _check_given(self, values: Mapping[str, Any], camera: Any, color_camera: Any) -> None:
        """Check that what the stages need is there.

        Raises:
            ValueError: If it is not.
        """
        for port in ('depth', 'color'):
            topic = self.pipeline.inputs.get(port)
            if isinstance(topic, Topic) and not topic.optional and port not in values:
                needing = [n for n, s in self.pipeline.stages.items() if port in s.inputs]
                raise ValueError(f'{needing[0]} needs {port}; give it as {port}=')
        if not values:
            raise ValueError('give a frame: depth=, color=, or both')
        if camera is None and ('depth' in values or color_camera is None):
            raise ValueError(
                'camera is missing; give its fx, fy, cx, cy in pixels, its 3x3 matrix or its '
                'camera_info'
            )


def _metres(depth: npt.ArrayLike, unit_m: float | None) -> Float32Array:
    mask = np.ma.getmask(depth) if isinstance(depth, np.ma.MaskedArray) else np.ma.nomask
    try:
        array = np.asarray(depth)
    except ValueError:
        raise ValueError('depth must be (H, W), got rows of different lengths') from None
    kind, size = array.dtype.kind, array.dtype.itemsize
    # An int64 is what any list of whole numbers becomes, so its unit must be given.
    integers = kind in 'ui' and size > 1 and (unit_m is not None or kind == 'u' or size < 8)
    if array.ndim != 2 or not (kind == 'f' or integers):
        hint = ''
        if array.ndim == 3 and 1 in array.shape:
            hint = '; take the axis of one away: depth.squeeze()'
        elif array.dtype == np.uint8:
            hint = '; 8 bits are a picture of depth and hold no distances'
        elif kind in 'ui':
            hint = '; give uint16 millimetres, or say depth_unit_m='
        raise ValueError(
            f'depth must be (H, W) float metres or integer millimetres, got shape {array.shape} '
            f'{array.dtype}{hint}'
        )
    if not array.size:
        raise ValueError(f'depth is empty, got shape {array.shape}')
    if unit_m is not None and not (math.isfinite(unit_m) and unit_m > 0):
        raise ValueError(f'depth_unit_m must be above 0, got {unit_m}')
    scale = unit_m if unit_m is not None else (1.0 if kind == 'f' else 0.001)
    with np.errstate(invalid='ignore', over='ignore'):
        # Division by 1000 is what every other host does, to the bit.
        depth_m = array.astype(np.float32)
        if scale == 0.001:
            depth_m /= np.float32(1000)
        elif scale != 1:
            depth_m *= np.float32(scale)
        depth_m[~((depth_m > 0) & (depth_m < np.inf))] = np.nan
    if mask is not np.ma.nomask:
        depth_m[mask] = np.nan
    if unit_m is None and kind == 'f':
        _check_plausible(depth_m)
    return depth_m


def _check_plausible(depth_m: Float32Array) -> None:
    seen_m = depth_m[np.isfinite(depth_m)]
    if not seen_m.size:
        return
    median = float(np.median(seen_m))
    # One value everywhere is no picture of anything: up to a kilometre it may be a test's wall.
    if median > 10 * _FARTHEST_M or (median > _FARTHEST_M and seen_m.min() < seen_m.max()):
        raise ValueError(
            f'half of the depth is {median:g} or more, which float depth gives in metres; give '
            'depth_unit_m=0.001 if these are millimetres, or depth_unit_m=1 if they are metres'
        )


def _rgb(color: npt.ArrayLike) -> UInt8Array:
    array = np.asarray(color)
    if array.dtype != np.uint8 or array.ndim != 3 or array.shape[2] != 3 or not array.size:
        hint = ''
        if array.ndim == 2:
            hint = '; repeat grey three times: np.dstack([grey] * 3)'
        elif array.ndim == 3 and array.shape[2] == 4:
            hint = '; leave the fourth channel out: color[..., :3]'
        elif array.dtype.kind == 'f':
            hint = '; from 0 to 1, it is (255 * color).astype(np.uint8)'
        raise ValueError(
            f'color must be (H, W, 3) uint8 RGB, got shape {array.shape} {array.dtype}{hint}'
        )
    return np.ascontiguousarray(array)


def _camera(given: Any, header: Header, size: tuple[int, ...], what: str) -> PinholeCamera:
    """Read intrinsics in any of their forms.

    Args:
        given: What the caller gave.
        header: Header of the camera that is made.
        size: Rows and columns of the image.
        what: Which image that is.

    Raises:
        ValueError: If they are none, or not those of the image.
    """
    height, width = size
    stated = None
    if isinstance(given, PinholeCamera):
        numbers = [given.fx, given.fy, given.cx, given.cy]
        stated = given.width, given.height
    else:
        matrix = given
        if hasattr(given, 'k') or hasattr(given, 'K'):
            matrix = np.ravel(given.k if hasattr(given, 'k') else given.K)
            projection = np.ravel(getattr(given, 'p', getattr(given, 'P', ())))
            if projection.size == 12 and projection[0]:  # of the rectified image
                matrix = projection.reshape(3, 4)[:, :3].ravel()
            stated = int(getattr(given, 'width', 0)), int(getattr(given, 'height', 0))
            stated = None if stated == (0, 0) else stated
        try:
            array = np.asarray(matrix, np.float64)
        except (TypeError, ValueError):
            array = np.empty(0)
        if array.shape in ((3, 3), (9,)):
            array = array.ravel()
            if array[1] or array[3] or array[6] or array[7] or array[8] != 1:
                raise ValueError(
                    f'the matrix of the {what} camera must be [fx 0 cx; 0 fy cy; 0 0 1], got '
                    f'{array.tolist()}'
                )
            array = array[[0, 4, 2, 5]]
        if array.shape != (4,):
            raise ValueError(
                f'the {what} camera must be a PinholeCamera, a camera_info, fx, fy, cx, cy in '
                f'pixels or a 3x3 matrix, got {given!r:.80}'
            )
        numbers = [float(number) for number in array]
    if stated not in (None, (width, height)):
        raise ValueError(
            f'the {what} image is {width}x{height}, but its camera is for '
            f'{stated[0]}x{stated[1]}; give the calibration of this resolution'
        )
    fx, fy, cx, cy = numbers
    camera = PinholeCamera(header, width, height, fx, fy, cx, cy)
    share = (cx + 0.5) / width, (cy + 0.5) / height
    where = f'the principal point ({cx:g}, {cy:g}) px of the {what} camera'
    another = 'is this the calibration of another resolution?'
    if not all(0 <= part <= 1 for part in share):
        raise ValueError(f'{where} lies outside its {width}x{height} image; {another}')
    if min(width, height) > 16 and not all(_OFF_CENTER < part < 1 - _OFF_CENTER for part in share):
        warnings.warn(
            f'{where} is far from the middle of its {width}x{height} image; {another}',
            stacklevel=3,
        )
    return camera


def _transform(pose: Any, header: Header) -> RigidTransform:
    matrix = np.asarray(pose, np.float64)
    if matrix.shape not in ((4, 4), (3, 4)) or not np.isfinite(matrix).all():
        raise ValueError(f'color_from_depth must be a finite 4x4 matrix, got shape {matrix.shape}')
    rotation = matrix[:3, :3].copy()
    if not np.allclose(rotation @ rotation.T, np.eye(3), atol=1e-3) or np.linalg.det(rotation) < 0:
        raise ValueError('the rotation of color_from_depth is none: its rows are not orthonormal')
    return RigidTransform(header, _FRAME, rotation, matrix[:3, 3].copy())


def load_pipeline(
    source: str | Path | Sequence[str] | Mapping[str, Any] = 'refine_depth,inpaint_depth',
    parameters: Mapping[str, Any] | None = None,
    /,
    **by_stage: Any,
) -> ArrayPipeline:
    """Make a pipeline that works on numpy arrays.

    ```python
    pipeline = load_pipeline('refine_depth,inpaint_depth', refine_depth={'sensor': 'kinect_v1'})
    pipeline = load_pipeline(['refine_depth'], {'refine_depth.sensor': 'kinect_v1'})
    result = pipeline(depth, camera=(fx, fy, cx, cy), color=rgb)
    filled_m, stddev_m = result.depth, result['stddev']
    ```

    Args:
        source: Stage names in a list or separated by commas, a parameter file (.yaml), or its
            content.
        parameters: Parameters under dotted names, or in one mapping a stage.
        by_stage: Parameters of stages, by stage.

    Raises:
        OSError: If the file cannot be read.
        ValueError: If a stage or parameter is unknown, or a value is not allowed.
    """
    if isinstance(source, Mapping):
        values = _dotted(source)
    elif isinstance(source, str | Path) and str(source).endswith(('.yaml', '.yml')):
        values = read_parameters(Path(source))
    elif isinstance(source, str | Path):
        values = {'stages': str(source)}
    elif isinstance(source, Sequence):
        values = {'stages': source}
    else:
        raise ValueError(
            f'a pipeline is made from names of stages or a parameter file, got {source!r:.80}'
        )
    stages = values.get('stages')
    if isinstance(stages, Sequence) and not isinstance(stages, str):
        if not all(isinstance(name, str) for name in stages):
            raise ValueError(f'stages must be names, got {list(stages)!r:.80}')
        values['stages'] = ','.join(stages)
    if parameters is not None and not isinstance(parameters, Mapping):
        raise ValueError(f'parameters must be names and values, got {parameters!r:.80}')
    changes = _dotted({**(parameters or {}), **by_stage})
    for name in changes.keys() & STAGES.keys():
        raise ValueError(f'{name} must be its parameters by name, got {changes[name]!r:.80}')
    configuration = configure(values, changes)
    names = configuration.pipeline.stage_types
    for name in changes:
        stage = name.partition('.')[0]
        if '.' in name and stage not in names:
            raise ValueError(
                f'{name} is given, but {stage} is not among the stages {", ".join(names)}'
            )
    return ArrayPipeline(configuration.pipeline(configuration.parameters))


def _dotted(given: Mapping[str, Any]) -> dict[str, Any]:
    """Return parameters under dotted names, numpy's scalars as Python's."""
    flat: dict[str, Any] = {}
    for name, value in given.items():
        if not isinstance(name, str):
            raise ValueError(f'names of parameters must be text, got {name!r}')
        if isinstance(value, Mapping):
            flat |= {f'{name}.{inner}': each for inner, each in _dotted(value).items()}
        else:
            flat[name] = value.item() if isinstance(value, np.generic) else value
    return flat
