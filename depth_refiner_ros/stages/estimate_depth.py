"""Depth from colour, with metres from measurements where there are any."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
import math
from typing import Any, ClassVar, NamedTuple

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
from ..filters.alignment import Alignment, Ambiguity, fit_alignment
from ..filters.noise import SENSORS
from ..geometry import check_camera_fits, registered
from ..inference import ChosenModel, HeldModel, Inference
from ..inference.parameters import device_parameter, threads_parameter
from ..parameters import Parameters, parameter
from ..stage import Capabilities, Input, Topic

_WORKING_WIDTH_PX = 640
"""Width of the pictures the model was made for."""
_LIKE = 1.5
"""Pictures wider or narrower than that by more than this factor are brought to it."""
_SPEED_M_S = 0.5
"""How fast what is seen may come nearer or go away while an estimate is held."""
_FORGET_S = 2.0
"""After so long without measurements the last alignment is no longer used."""


class _Estimate(NamedTuple):
    """What a model estimated from a picture, or from an earlier one.

    Attributes:
        depth_m, stddev_m: (H, W), in metres or in units of the model's own.
        ambiguity: What its depth leaves open.
        age_s: How long ago the picture was taken.
    """

    depth_m: Float32Array
    stddev_m: Float32Array
    ambiguity: Ambiguity
    age_s: float


@dataclass(frozen=True, kw_only=True)
class EstimateDepthParameters(Parameters):
    """Parameters of `EstimateDepth`."""

    model: str = parameter(
        'mono_base', 'Learned model: the name of a shipped one, or the path of an .onnx file.'
    )
    device: str = device_parameter()
    threads: int = threads_parameter()
    every_frames: int = parameter(
        1,
        'Run a slow model on every n-th frame at most; its newest estimate serves for the others, '
        'with a larger standard deviation for what may have moved since. From 2 on live hosts '
        'run it in the background, so that no frame waits for it.',
        range=(1, 1000),
    )
    mode: str = parameter(
        'metric',
        'metric: metres, from the model or scaled to measurements; relative: without a scale, the '
        'median of every frame is 1, and provenance is relative.',
        choices=('metric', 'relative'),
    )
    align: bool = parameter(
        True,
        'Fit scale and shift to measured pixels, where depth registered to the colour comes in.',
    )
    smoothing_s: float = parameter(
        0.5, 'Time over which scale and shift are smoothed.', unit='s', range=(0, 60)
    )
    fill: bool = parameter(
        True,
        'Say what was not measured; else depth that comes in goes out as it came, and the '
        'estimate beside it, for inpaint_depth.guide.',
    )
    keep_measured: bool = parameter(
        True, 'Keep measured pixels and estimate the others only; false estimates every pixel.'
    )
    sensor: str = parameter(
        'kinect_v1',
        'Camera whose noise model gives the standard deviation of measured pixels where none '
        'comes in.',
        choices=tuple(SENSORS),
    )


class EstimateDepth:
    """Estimates depth from a colour image.

    Alone its metres come from training and are a guess. With measurements, however few, it keeps
    these and brings the rest to their scale.
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
        'estimate': Topic(DepthImage, 'depth_estimated/from_color'),
    }

    def __init__(
        self,
        parameters: EstimateDepthParameters | None = None,
        model: Inference | None = None,
    ) -> None:
        self.parameters = parameters or EstimateDepthParameters()
        self._model = ChosenModel(model)
        self._held = HeldModel(self._model)
        self.capabilities = Capabilities(remembers=True, models=(self._model,))
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
            if depth is None or depth.header.frame_id != color_camera.header.frame_id:
                return {}
            return self._as_it_came(depth, color_camera, stddev, provenance)
        shape = color.rgb.shape[:2]
        if (color_camera.height, color_camera.width) != shape:
            raise ValueError(
                f'the colour is {shape[1]}x{shape[0]}, its camera {color_camera.width}x'
                f'{color_camera.height}; is its camera_info that of another resolution?'
            )
        came = None
        if depth is not None and registered(color, depth, color_camera, camera):
            came = depth
        estimate = self._estimate(color, color_camera)
        if estimate is None:
            depth_m = np.full(shape, np.nan, np.float32)
            stddev_m, mark = depth_m.copy(), Provenance.RELATIVE
        else:
            measured_m = None
            if came is not None:
                seen = trusted(origins(came, provenance))
                measured_m = np.where(seen, came.depth_m, np.float32(np.nan))
            depth_m, stddev_m, mark = self._scaled(estimate, measured_m, color.header.stamp_ns)
            stddev_m[np.isnan(depth_m)] = np.nan
        beside = {}
        if mark != Provenance.RELATIVE:
            beside['estimate'] = DepthImage(color.header, depth_m.copy(), '32FC1')
        if depth is not None and not p.fill:
            return self._as_it_came(depth, camera or color_camera, stddev, provenance) | beside
        marks = np.where(np.isnan(depth_m), Provenance.INVALID, mark).astype(np.uint8)
        if came is not None and (estimate is None or (p.keep_measured and p.mode == 'metric')):
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
            **beside,
        }

    def _deviations_m(
        self, depth: DepthImage, stddev: StddevImage | None, camera: PinholeCamera
    ) -> Float32Array:
        noise = SENSORS[self.parameters.sensor]
        return deviations_m(depth, stddev, noise.stddev_m(depth.depth_m, camera.fx))

    def _as_it_came(
        self,
        depth: DepthImage,
        camera: PinholeCamera,
        stddev: StddevImage | None,
        provenance: ProvenanceImage | None,
    ) -> dict[str, Any]:
        """Return depth that came in, with its companions."""
        check_camera_fits(depth.depth_m, camera)
        header = depth.header
        return {
            'depth': depth,
            'camera': replace(camera, header=header),
            'stddev': StddevImage(header, self._deviations_m(depth, stddev, camera)),
            'provenance': ProvenanceImage(header, origins(depth, provenance)),
        }

    def _estimate(self, color: ColorImage, camera: PinholeCamera) -> _Estimate | None:
        """Run the model, or take its estimate of an earlier frame; None if there is neither."""
        p = self.parameters
        self.capabilities.remark = ''
        height, width = color.rgb.shape[:2]
        factor = width / _WORKING_WIDTH_PX
        rgb = color.rgb
        intrinsics = np.array([camera.fx, camera.fy, camera.cx, camera.cy], np.float32)
        description = self._model.description(p.model)
        if description is not None and description.stage != 'estimate_depth':
            self._model.refuse(
                f'{description.name} completes measured depth: set inpaint_depth.model to it, not '
                'estimate_depth.model'
            )
            return None
        # Published models have sizes of their own, and rules how to come to them.
        if description is None and not 1 / _LIKE <= factor <= _LIKE:
            size = (_WORKING_WIDTH_PX, max(1, round(height / factor)))
            method = cv2.INTER_AREA if factor > 1 else cv2.INTER_LINEAR
            rgb = np.asarray(cv2.resize(rgb, size, interpolation=method), np.uint8)
            # Pixel centres are at whole numbers, so it is edges that scale.
            scale = np.array([size[0] / width, size[1] / height] * 2)
            edge = np.array([0, 0, 0.5, 0.5])
            intrinsics = ((intrinsics + edge) * scale - edge).astype(np.float32)
        answer = self._held(
            p.model,
            p.device,
            p.threads,
            every_frames=p.every_frames,
            stamp_ns=color.header.stamp_ns,
            color=np.ascontiguousarray(rgb),
            intrinsics=intrinsics,
        )
        if answer is None:
            return None
        age_s = (color.header.stamp_ns - answer.stamp_ns) / 1e9
        if frames := self._held.frame - answer.frame:
            plural = 's' if frames > 1 else ''
            self.capabilities.remark = (
                f'The estimate is {frames} frame{plural} ({1e3 * age_s:.0f} ms) old.'
            )

        def whole(values: Float32Array) -> Float32Array:
            # Nearest: nothing between a thing and the wall behind it. Always a copy.
            grown = cv2.resize(values, (width, height), interpolation=cv2.INTER_NEAREST)
            return np.array(grown, np.float32)

        outputs = answer.outputs
        return _Estimate(
            whole(outputs['estimate_m']), whole(outputs['stddev_m']), answer.ambiguity, age_s
        )

    def _scaled(
        self, estimate: _Estimate, measured_m: Float32Array | None, stamp_ns: int
    ) -> tuple[Float32Array, Float32Array, Provenance]:
        """Bring an estimate to the scale of `mode`; return it with its provenance."""
        p = self.parameters
        depth_m, stddev_m, ambiguity, age_s = estimate
        relative = ambiguity != 'none'
        alignment = None
        if p.mode == 'metric' and p.align and relative and measured_m is not None:
            # Scale and shift are of this frame alone: another one has others.
            alignment = fit_alignment(depth_m, measured_m, ambiguity)
        elif p.mode == 'metric' and p.align and not relative:
            alignment = self._alignment(depth_m, measured_m, stamp_ns)
        if p.mode == 'relative' or (relative and alignment is None):
            known = depth_m[np.isfinite(depth_m)]
            median = (
                np.float32(max(float(np.median(known)), 1e-6)) if known.size else np.float32(1)
            )
            return depth_m / median, stddev_m / median, Provenance.RELATIVE
        moved_m = np.float32(_SPEED_M_S * age_s)
        if alignment is None:
            return depth_m, np.hypot(stddev_m, moved_m), Provenance.ESTIMATED
        # The model's relative standard deviation, less what scale and shift explain.
        share = stddev_m / depth_m
        relative_stddev = float(np.nanmean(share))
        found_m = alignment(depth_m)
        factor = (
            min(1.0, 2**0.5 * alignment.error / relative_stddev) if relative_stddev > 0 else 1.0
        )
        found_stddev_m = np.hypot(found_m * share * np.float32(factor), moved_m)
        return found_m, found_stddev_m, Provenance.ALIGNED

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
