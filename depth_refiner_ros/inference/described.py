"""Runs models by their descriptions: pictures in, metres out.

All arithmetic around the graph is here, outside of it, and in closed form: each convention is
tested by numbers worked out by hand.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import cv2
import numpy as np
import numpy.typing as npt

from ..data import BoolArray, Float32Array, UInt8Array
from ..filters.alignment import Ambiguity
from ..filters.inpaint import inpaint
from ..geometry import resize_without_blending
from .description import Input, ModelDescription, Output, Part, Size
from .model import Model, ModelError

_INTERPOLATIONS = {
    'nearest': cv2.INTER_NEAREST,
    'linear': cv2.INTER_LINEAR,
    'cubic': cv2.INTER_CUBIC,
    'area': cv2.INTER_AREA,
}
_NO_CAMERA = np.ones(4, np.float32)
_LEAST_SHARE = 0.05
"""Limit of a weight, by the median: no pixel counts twenty times more or less than most."""


class Placement(NamedTuple):
    """Where a picture lies in what a model is given.

    Attributes:
        height, width: Of what the model is given, px.
        rows, columns: Of the picture in it, px.
        top, left: Of its first pixel, px.
    """

    height: int
    width: int
    rows: int
    columns: int
    top: int
    left: int

    def intrinsics(
        self, intrinsics: npt.NDArray[np.floating], shape: tuple[int, int]
    ) -> npt.NDArray[np.float64]:
        """Return fx, fy, cx, cy in the model's size, px, from those of a picture of a shape."""
        fx, fy, cx, cy = (float(value) for value in intrinsics)
        sx, sy = self.columns / shape[1], self.rows / shape[0]
        # Pixel centres are at whole numbers, so it is edges that scale.
        left, top = (cx + 0.5) * sx - 0.5 + self.left, (cy + 0.5) * sy - 0.5 + self.top
        return np.array([fx * sx, fy * sy, left, top])


def placement(shape: tuple[int, int], size: Size) -> Placement:
    """Return where a picture of a height and width goes."""
    height, width = shape
    if size.rule == 'stretch':
        return Placement(size.height, size.width, size.height, size.width, 0, 0)
    if size.rule == 'letterbox':
        scale = min(size.height / height, size.width / width)
        rows, columns = max(1, int(height * scale)), max(1, int(width * scale))
        top, left = (size.height - rows) // 2, (size.width - columns) // 2
        return Placement(size.height, size.width, rows, columns, top, left)
    scale, least = 1.0, (size.multiple, size.multiple)
    if size.rule == 'short_side':
        scale = max(size.height / height, size.width / width)
        least = size.height, size.width
    rows, columns = (
        max(round(scale * side / size.multiple) * size.multiple, bound)
        for side, bound in zip(shape, least, strict=True)
    )
    return Placement(rows, columns, rows, columns, 0, 0)


def model_values(
    description: ModelDescription,
    color: UInt8Array,
    intrinsics: npt.NDArray[np.floating],
    measured_m: Float32Array | None,
) -> dict[str, npt.NDArray[Any]]:
    """Return the inputs of a graph.

    Args:
        description: Description of the model.
        color: (H, W, 3) RGB.
        intrinsics: fx, fy, cx, cy of the picture, px.
        measured_m: (H, W) metres, NaN where nothing was measured; None for models of colour.

    Raises:
        ModelError: If the model needs measured depth and there is none.
    """
    place = placement(color.shape[:2], description.size)
    focal_px = place.intrinsics(intrinsics, color.shape[:2])
    given: dict[str, npt.NDArray[Any]] = {}
    for name, each in description.inputs.items():
        if each.role == 'constant':
            value: npt.NDArray[Any] = np.full((1,) * each.dimensions, each.value)
        elif each.role == 'intrinsics':
            value = _matrix(focal_px)
        else:
            spot = place if each.size is None else Placement(*each.size, *each.size, 0, 0)
            channels = [
                _channels(part, description, spot, color, focal_px, measured_m)
                for part in each.parts
            ]
            value = _laid_out(np.concatenate(channels, axis=2), each)
        given[name] = value.astype(each.dtype, order='C')
    return given


def _channels(
    part: Part,
    description: ModelDescription,
    place: Placement,
    color: UInt8Array,
    intrinsics: npt.NDArray[np.float64],
    measured_m: Float32Array | None,
) -> Float32Array:
    """Return what one part carries, (height, width, channels)."""
    if part.role == 'color':
        return _color(part, description.size, place, color)
    if part.role == 'rays':
        return _rays(place, intrinsics)
    if measured_m is None:
        raise ModelError(f'{description.name} needs measured depth beside the colour')
    hole: BoolArray = ~(np.isfinite(measured_m) & (measured_m > 0))
    if part.role == 'mask':
        image = np.where(hole, part.hole, 1 - part.hole).astype(np.float32)
        return _placed(image, place, part.hole)[..., None]
    depth_m = measured_m
    if part.complete and hole.any():
        if hole.all():
            raise ModelError(f'{description.name} needs measured depth, and nothing was measured')
        depth_m = inpaint(measured_m, max_hole_px=0, max_distance_m=0).depth_m
        hole = np.zeros_like(hole)
    values = depth_m
    with np.errstate(divide='ignore', invalid='ignore'):
        if part.form != 'metres':
            values = np.reciprocal(depth_m) if part.form == 'inverse' else np.log(depth_m)
    image = np.where(hole, np.float32(part.hole), values).astype(np.float32)
    return _placed(image, place, part.hole)[..., None]


def _color(part: Part, size: Size, place: Placement, color: UInt8Array) -> Float32Array:
    ordered = color if part.order == 'rgb' else color[..., ::-1]
    image = np.ascontiguousarray(ordered).astype(np.float32)
    if image.shape[:2] != (place.rows, place.columns):
        image = np.asarray(
            cv2.resize(
                image,
                (place.columns, place.rows),
                interpolation=_INTERPOLATIONS[size.interpolation],
            ),
            np.float32,
        )
    if (place.rows, place.columns) != (place.height, place.width):
        framed = np.empty((place.height, place.width, 3), np.float32)
        framed[:] = size.padding if part.order == 'rgb' else size.padding[::-1]
        framed[place.top : place.top + place.rows, place.left : place.left + place.columns] = image
        image = framed
    mean, std = np.array(part.mean, np.float32), np.array(part.std, np.float32)
    normalised: Float32Array = (image * np.float32(part.range / 255) - mean) / std
    return normalised


def _placed(image: Float32Array, place: Placement, around: float) -> Float32Array:
    """Return an image of depth in a model's size: nothing is blended."""
    size = (place.columns, place.rows)
    scaled = np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_NEAREST), np.float32)
    framed = np.full((place.height, place.width), around, np.float32)
    framed[place.top : place.top + place.rows, place.left : place.left + place.columns] = scaled
    return framed


def _rays(place: Placement, intrinsics: npt.NDArray[np.float64]) -> Float32Array:
    """Return the viewing direction of every pixel, of length one."""
    fx, fy, cx, cy = intrinsics
    x, y = np.meshgrid((np.arange(place.width) - cx) / fx, (np.arange(place.height) - cy) / fy)
    rays = np.stack([x, y, np.ones_like(x)], axis=2)
    directions: Float32Array = rays / np.linalg.norm(rays, axis=2, keepdims=True)
    return directions.astype(np.float32)


def _matrix(intrinsics: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    fx, fy, cx, cy = intrinsics
    return np.array([[[fx, 0, cx], [0, fy, cy], [0, 0, 1]]])


def _laid_out(image: Float32Array, each: Input) -> npt.NDArray[Any]:
    """Return an image of channels, (H, W, C), as a layout orders it."""
    if each.dtype.startswith(('uint', 'int')):
        image = np.rint(image)
    if 'C' not in each.layout:
        image = image[..., 0]
    elif each.layout.index('C') < each.layout.index('H'):
        image = image.transpose(2, 0, 1)
    return image[None] if each.layout.startswith('N') else image


def depth_of(
    description: ModelDescription,
    outputs: dict[str, npt.NDArray[Any]],
    shape: tuple[int, int],
    intrinsics: npt.NDArray[np.floating],
) -> tuple[Float32Array, Float32Array]:
    """Return what a graph put out as depth and standard deviation of a picture.

    Args:
        description: Description of the model.
        outputs: Outputs of the graph, by name.
        shape: Height and width of the picture, px.
        intrinsics: fx, fy, cx, cy of the picture, px.

    Returns:
        Two (H, W) images, metres, NaN where the model says nothing. Kinds without metres
        (`ambiguity`) come in units of their own, positive, and farther is larger.

    Raises:
        ModelError: If an output is not there, has no image's shape, or is not finite anywhere.
    """
    place = placement(shape, description.size)
    depth = description.depth
    raw = _image(outputs, depth, description.name)
    depth_m = _metres(raw, depth, place, place.intrinsics(intrinsics, shape), description.name)
    valid = (depth_m >= depth.valid_m[0]) & (depth_m <= depth.valid_m[1])
    if ambiguity(description) != 'none':
        valid = np.isfinite(depth_m)
    stddev_share = np.full(depth_m.shape, description.stddev_share, np.float32)
    for output in description.outputs:
        if output.role == 'depth':
            continue
        values = _activated(_image(outputs, output, description.name), output.activation)
        if values.shape != depth_m.shape:
            size = depth_m.shape[::-1]
            values = np.asarray(cv2.resize(values, size, interpolation=cv2.INTER_NEAREST))
        if output.role == 'mask':
            valid &= (values >= output.threshold) == (output.sense == 'valid')
        else:
            trusted = output.sense == 'valid'
            if output.threshold > 0:
                valid &= (values >= output.threshold) == trusted
            share = np.clip(
                values / max(float(np.median(values)), 1e-6), _LEAST_SHARE, 1 / _LEAST_SHARE
            )
            stddev_share = stddev_share * (1 / share if trusted else share).astype(np.float32)
    depth_m = np.where(valid, depth_m, np.float32(np.nan)).astype(np.float32)
    whole_m = resize_without_blending(_cropped(depth_m, place), shape)
    share = cv2.resize(_cropped(stddev_share, place), shape[::-1], interpolation=cv2.INTER_NEAREST)
    return whole_m, (whole_m * share).astype(np.float32)


def ambiguity(description: ModelDescription) -> Ambiguity:
    """Return what a model's depth leaves open: nothing, or scale and shift of what."""
    kind = description.depth.kind
    return kind if kind == 'affine' or kind == 'affine_inverse' else 'none'


def _image(
    outputs: dict[str, npt.NDArray[Any]], output: Output, model: str
) -> npt.NDArray[np.float32]:
    """Return an output as an image; of points their z."""
    if output.name not in outputs:
        raise ModelError(f'{model} put out no {output.name}')
    values = np.asarray(outputs[output.name], np.float32)
    shape = values.shape
    if output.kind == 'points' and output.role == 'depth':
        if len(output.layout) != values.ndim or shape[output.layout.index('C')] != 3:
            raise ModelError(
                f'{model}: the output {output.name} is no {output.layout} of points, it has shape '
                f'{shape}'
            )
        values = np.asarray(values.take(2, axis=output.layout.index('C')), np.float32)
    elif values.ndim > 2 and values.shape[-1] == 1 != values.shape[-3]:
        values = values[..., 0]
    if values.ndim < 2 or values.shape[:-2] != (1,) * (values.ndim - 2):
        raise ModelError(f'{model}: the output {output.name} is no image, it has shape {shape}')
    return values.reshape(values.shape[-2:])


def _activated(values: Float32Array, activation: str) -> Float32Array:
    with np.errstate(over='ignore'):
        if activation == 'sigmoid':
            return (1 / (1 + np.exp(-values))).astype(np.float32)
        return np.exp(values) if activation == 'exp' else values


def _metres(
    raw: Float32Array,
    output: Output,
    place: Placement,
    intrinsics: npt.NDArray[np.float64],
    model: str,
) -> Float32Array:
    """Turn the output of a model into metres, or into its own units where it knows none."""
    finite = np.isfinite(raw)
    if not finite.any():
        raise ModelError(f'{model}: the output {output.name} has no finite number')
    values = _activated(raw, output.activation).astype(np.float64)
    if output.kind in ('affine_inverse', 'affine'):
        # Scale and shift are open, so any will do: these keep all of it in front of the camera.
        low, high = np.quantile(values[finite], (0.0, 1.0))
        if high <= low:
            return np.full(raw.shape, np.nan, np.float32)
        values = (values - low) / (high - low) + 0.05
        relative: Float32Array = (
            1 / values if output.kind == 'affine_inverse' else values
        ).astype(np.float32)
        return relative
    # Of the picture in the model's size; stretched, its pixels are no squares.
    focal_x_px, focal_px = float(intrinsics[0]), float(intrinsics[:2].mean())
    with np.errstate(divide='ignore', invalid='ignore', over='ignore'):
        if output.kind == 'log':
            values = np.exp(values)
        if output.focal == 'width/f':
            # Of canonical inverse depth: of a camera as wide as its focal length is long.
            factor = place.columns / focal_x_px
        elif output.focal == 'f*baseline':
            factor = 1 / (focal_x_px * output.baseline_m)
        else:
            factor = 1.0
        if output.kind in ('inverse_metric', 'disparity'):
            values = 1 / (values * factor)
            factor = 1.0
        if output.focal.startswith('f/'):
            factor = focal_px / float(output.focal[2:])
        return (values * factor).astype(np.float32)


def _cropped(image: Float32Array, place: Placement) -> Float32Array:
    """Return the part of an output that shows the picture; the output may have another size."""
    rows, columns = image.shape
    if (place.rows, place.columns) == (place.height, place.width):
        return image
    top = round(place.top * rows / place.height)
    left = round(place.left * columns / place.width)
    bottom = round((place.top + place.rows) * rows / place.height)
    right = round((place.left + place.columns) * columns / place.width)
    return np.ascontiguousarray(image[top:bottom, left:right])


class DescribedModel:
    """A published model behind the interface of this package's own.

    Takes `color` (H, W, 3) and, if it wants them, `intrinsics` (fx, fy, cx, cy) and `depth_m`;
    returns `estimate_m` and `stddev_m` in the size of the colour, and `wrong`, which is 0: such
    models find no measurement wrong.

    Args:
        model: What runs its graph.
        description: How it is used.

    Attributes:
        ambiguity: What its depth leaves open: 'none', or scale and shift of 'affine_inverse'
            depth or of 'affine' depth.
    """

    def __init__(self, model: Model, description: ModelDescription) -> None:
        self._model = model
        self.description = description
        self.name = description.name
        self.ambiguity = ambiguity(description)

    @property
    def back_end(self) -> str:
        """What ran the last frame."""
        return self._model.back_end

    @property
    def compiling(self) -> bool:
        """Whether something faster is compiled."""
        return self._model.compiling

    def __call__(self, **inputs: npt.NDArray[Any]) -> dict[str, npt.NDArray[np.float32]]:
        """Run the model once.

        Raises:
            ModelError: If it needs intrinsics or depth that were not given, or puts out what is
                not described.
        """
        color, intrinsics = inputs['color'], inputs.get('intrinsics', _NO_CAMERA)
        if intrinsics is _NO_CAMERA and self.description.needs_camera:
            raise ModelError(f'{self.name} needs the intrinsics of the camera')
        given = model_values(self.description, color, intrinsics, inputs.get('depth_m'))
        outputs = self._model(**given)
        shape = color.shape[:2]
        depth_m, stddev_m = depth_of(self.description, outputs, shape, intrinsics)
        return {
            'estimate_m': depth_m,
            'stddev_m': stddev_m,
            'wrong': np.zeros(shape, np.float32),
        }
