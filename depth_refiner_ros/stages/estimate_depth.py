"""Depth from colour, with metres from measurements where there are any."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
import math
from typing import Any, ClassVar

import cv2
import numpy as np

from ..data import (
    ColorImage,
    DepthImage,
    Float32Array,
    PinholeCamera,
    Provenance,
    ProvenanceImage,
    StddevImage,
    check_companions_fit,
    deviations_m,
    origins,
    trusted,
)
from ..filters.alignment import Alignment, fit_alignment
from ..filters.noise import SENSORS
from ..geometry import check_camera_fits, registered
from ..inference import BACK_ENDS, ChosenModel, Inference, Learned
from ..parameters import Parameters, parameter
from ..stage import Input, Topic

_WORKING_WIDTH_PX = 640
"""Width of the pictures the model was made for."""
_LIKE = 1.5
"""Pictures wider or narrower than that by more than this factor are brought to it."""
_FORGET_S = 2.0
"""After so long without measurements the last alignment says nothing any more."""


@dataclass(frozen=True, kw_only=True)
class EstimateDepthParameters(Parameters):
    """Parameters of `EstimateDepth`."""

    model: str = parameter(
        'mono_base', 'Learned model: the name of a shipped one, or the path of an .onnx file.'
    )
    device: str = parameter(
        'auto',
        'What runs the model; auto takes the first that is installed and agrees with ONNX '
        'Runtime on the frames stored with the model.',
        choices=('auto', *BACK_ENDS),
    )
    threads: int = parameter(
        0, 'CPU threads of the model; 0 lets the back end choose.', range=(0, 256)
    )
    mode: str = parameter(
        'metric',
        'metric: metres, as the model believes them or as measurements say; relative: the median '
        'of every frame is 1 and provenance says that these are no metres.',
        choices=('metric', 'relative'),
    )
    align: bool = parameter(
        True,
        'Where depth registered to the colour comes in, take scale and shift from what of it was '
        'measured.',
    )
    smoothing_s: float = parameter(
        0.5, 'Time over which scale and shift are smoothed.', unit='s', range=(0, 60)
    )
    keep_measured: bool = parameter(
        True, 'Keep measured pixels and say the others only; else say every pixel from colour.'
    )
    sensor: str = parameter(
        'kinect_v1',
        'Camera whose noise model gives the standard deviation of measured pixels where none '
        'comes in.',
        choices=tuple(SENSORS),
    )


class EstimateDepth(Learned):
    """Says how far everything in a colour picture is.

    Alone it believes the metres its training taught, which are a guess; with measurements,
    however few, it keeps these and brings the rest to their scale.
    """

    Parameters: ClassVar[Any] = EstimateDepthParameters
    inputs: ClassVar[Mapping[str, Input]] = {
        'color': Topic(ColorImage, 'color/image_rect'),
        'color_camera': Topic(PinholeCamera, 'color/camera_info', latched=True),
        'depth': Topic(DepthImage, 'depth/image_rect', optional=True),
        'camera': Topic(PinholeCamera, 'depth/camera_info', optional=True, latched=True),
        'stddev': Topic(StddevImage, 'depth/stddev', optional=True),
        'provenance': Topic(ProvenanceImage, 'depth/provenance', optional=True),
    }
    outputs: ClassVar[Mapping[str, Topic]] = {
        'depth': Topic(DepthImage, 'depth_estimated/image_rect'),
        'camera': Topic(PinholeCamera, 'depth_estimated/camera_info'),
        'stddev': Topic(StddevImage, 'depth_estimated/stddev'),
        'provenance': Topic(ProvenanceImage, 'depth_estimated/provenance'),
    }

    def __init__(
        self,
        parameters: EstimateDepthParameters | None = None,
        model: Inference | None = None,
    ) -> None:
        self.parameters = parameters or EstimateDepthParameters()
        self._model = ChosenModel(model)
        self.models = (self._model,)
        self._aligned: tuple[int, Alignment] | None = None

    def __call__(
        self,
        color: ColorImage | None,
        color_camera: PinholeCamera,
        depth: DepthImage | None = None,
        camera: PinholeCamera | None = None,
        stddev: StddevImage | None = None,
        provenance: ProvenanceImage | None = None,
    ) -> dict[str, Any]:
        """Return depth of every pixel of the colour.

        Where the model cannot run, or an earlier stage had no colour to register, the depth that
        came in goes out as it is. Depth that came in and is worth less than what would replace it
        is not kept.

        Raises:
            ValueError: If the camera has another size than the colour, or stddev or provenance
                another than the depth.
        """
        p = self.parameters
        if depth is not None:
            check_companions_fit(depth, stddev, provenance)
        if color is None:
            return self._without_color(color_camera, depth, stddev, provenance)
        shape = color.rgb.shape[:2]
        if (color_camera.height, color_camera.width) != shape:
            raise ValueError(
                f'the colour is {shape[1]}x{shape[0]}, its camera {color_camera.width}x'
                f'{color_camera.height}; is its camera_info that of another resolution?'
            )
        came = None
        if depth is not None and registered(color, depth, color_camera, camera):
            came = depth
        outputs = self._said(color, color_camera)
        if outputs is None:
            depth_m = np.full(shape, np.nan, np.float32)
            stddev_m, mark = depth_m.copy(), Provenance.RELATIVE
        else:
            measured_m = None
            if came is not None:
                seen = trusted(origins(came, provenance))
                measured_m = np.where(seen, came.depth_m, np.float32(np.nan))
            depth_m, stddev_m, mark = self._scaled(*outputs, measured_m, color.header.stamp_ns)
            stddev_m[np.isnan(depth_m)] = np.nan
        marks = np.where(np.isnan(depth_m), Provenance.INVALID, mark).astype(np.uint8)
        if came is not None and (outputs is None or (p.keep_measured and p.mode == 'metric')):
            came_marks = origins(came, provenance)
            kept = trusted(came_marks, mark)
            np.copyto(depth_m, came.depth_m, where=kept)
            np.copyto(stddev_m, self._deviations_m(came, stddev, color_camera), where=kept)
            np.copyto(marks, came_marks, where=kept)
        header = color.header
        encoding = '32FC1' if depth is None or p.mode == 'relative' else depth.encoding
        return {
            'depth': DepthImage(header, depth_m, encoding),
            'camera': replace(color_camera, header=header),
            'stddev': StddevImage(header, stddev_m),
            'provenance': ProvenanceImage(header, marks),
        }

    def _deviations_m(
        self, depth: DepthImage, stddev: StddevImage | None, camera: PinholeCamera
    ) -> Float32Array:
        noise = SENSORS[self.parameters.sensor]
        return deviations_m(depth, stddev, noise.stddev_m(depth.depth_m, camera.fx))

    def _without_color(
        self,
        camera: PinholeCamera,
        depth: DepthImage | None,
        stddev: StddevImage | None,
        provenance: ProvenanceImage | None,
    ) -> dict[str, Any]:
        """Return depth of the colour's view as it came, or nothing."""
        if depth is None or depth.header.frame_id != camera.header.frame_id:
            return {}
        check_camera_fits(depth.depth_m, camera)
        header = depth.header
        return {
            'depth': depth,
            'camera': replace(camera, header=header),
            'stddev': StddevImage(header, self._deviations_m(depth, stddev, camera)),
            'provenance': ProvenanceImage(header, origins(depth, provenance)),
        }

    def _said(
        self, color: ColorImage, camera: PinholeCamera
    ) -> tuple[Float32Array, Float32Array] | None:
        """Run the model; None if it cannot run."""
        p = self.parameters
        height, width = color.rgb.shape[:2]
        factor = width / _WORKING_WIDTH_PX
        rgb = color.rgb
        intrinsics = np.array([camera.fx, camera.fy, camera.cx, camera.cy], np.float32)
        if not 1 / _LIKE <= factor <= _LIKE:
            size = (_WORKING_WIDTH_PX, max(1, round(height / factor)))
            method = cv2.INTER_AREA if factor > 1 else cv2.INTER_LINEAR
            rgb = np.asarray(cv2.resize(rgb, size, interpolation=method), np.uint8)
            # Pixel centres are at whole numbers, so it is edges that scale.
            scale = np.array([size[0] / width, size[1] / height] * 2)
            edge = np.array([0, 0, 0.5, 0.5])
            intrinsics = ((intrinsics + edge) * scale - edge).astype(np.float32)
        outputs = self._model(
            p.model, p.device, p.threads, color=np.ascontiguousarray(rgb), intrinsics=intrinsics
        )
        if outputs is None:
            return None

        def whole(values: Float32Array) -> Float32Array:
            # Nearest: nothing between a thing and the wall behind it. Always a copy: what a
            # model returns is overwritten by its next call.
            grown = cv2.resize(values, (width, height), interpolation=cv2.INTER_NEAREST)
            return np.array(grown, np.float32)

        return whole(outputs['estimate_m']), whole(outputs['stddev_m'])

    def _scaled(
        self,
        depth_m: Float32Array,
        stddev_m: Float32Array,
        measured_m: Float32Array | None,
        stamp_ns: int,
    ) -> tuple[Float32Array, Float32Array, Provenance]:
        """Bring an estimate to the scale that is wanted, and say which that is."""
        p = self.parameters
        relative = self._model.ambiguity != 'none'
        alignment = None
        if p.mode == 'metric' and p.align and relative and measured_m is not None:
            # Scale and shift are of this frame alone: another one has others.
            alignment = fit_alignment(depth_m, measured_m, self._model.ambiguity)
        elif p.mode == 'metric' and p.align and not relative:
            alignment = self._alignment(depth_m, measured_m, stamp_ns)
        if p.mode == 'relative' or (relative and alignment is None):
            known = depth_m[np.isfinite(depth_m)]
            median = (
                np.float32(max(float(np.median(known)), 1e-6)) if known.size else np.float32(1)
            )
            return depth_m / median, stddev_m / median, Provenance.RELATIVE
        if alignment is None:
            return depth_m, stddev_m, Provenance.ESTIMATED
        # The model's own share of doubt, but for what scale and shift have settled.
        share = stddev_m / depth_m
        doubt = float(np.nanmean(share))
        found_m = alignment(depth_m)
        factor = min(1.0, 2**0.5 * alignment.error / doubt) if doubt > 0 else 1.0
        return found_m, found_m * share * np.float32(factor), Provenance.ALIGNED

    def _alignment(
        self, depth_m: Float32Array, measured_m: Float32Array | None, stamp_ns: int
    ) -> Alignment | None:
        fresh = fit_alignment(depth_m, measured_m) if measured_m is not None else None
        last, self._aligned = self._aligned, None
        since_s = (stamp_ns - last[0]) / 1e9 if last else math.inf
        if last is None or not 0 <= since_s <= _FORGET_S:
            if fresh is not None:
                self._aligned = stamp_ns, fresh
            return fresh
        if fresh is None:
            self._aligned = last
            return last[1]
        tau_s = self.parameters.smoothing_s
        share = 1 - math.exp(-since_s / tau_s) if tau_s > 0 else 1.0
        was = last[1]
        mixed = Alignment(
            was.scale + share * (fresh.scale - was.scale),
            was.shift + share * (fresh.shift - was.shift),
            was.error + share * (fresh.error - was.error),
        )
        self._aligned = stamp_ns, mixed
        return mixed
