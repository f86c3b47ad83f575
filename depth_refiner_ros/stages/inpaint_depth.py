"""Fills the holes of depth."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import cv2
import numpy as np

from ..data import (
    TRUST,
    ColorImage,
    DepthImage,
    Float32Array,
    PinholeCamera,
    Provenance,
    ProvenanceImage,
    StddevImage,
    UInt8Array,
    at_most,
    check_companions_fit,
    deviations_m,
    least_trusted,
    origins,
)
from ..filters.guide import GUIDED_PER_PX, Guide, fit_guide
from ..filters.inpaint import Inpainting, inpaint, narrow, without_strays
from ..filters.noise import SENSORS
from ..filters.resizing import SAME_SURFACE, enlarged, model_inputs
from ..geometry import check_camera_fits, registered
from ..inference import (
    ChosenModel,
    Inference,
    ModelDescription,
    is_any_installed,
)
from ..inference.parameters import device_parameter, threads_parameter
from ..kernels import ByteRowOut, FloatRow, MaskRow, kernel
from ..parameters import Parameters, parameter
from ..stage import Capabilities, Input, Topic

DEFAULT_MODEL = 'depth_small'
"""What `model: auto` takes."""
_STDDEV_RATIO = 4.0
"""The filter fills pixels where the model's standard deviation is this many times the filter's."""
_OWN = 0.002
"""What is this near to a guide, as a share, is the guide's own."""
_INVALID = np.uint8(Provenance.INVALID)
_STRAY_PASSES = 3
"""A model's cells leave speckles in wide holes; each pass wears them down by two pixels."""


@dataclass(frozen=True, kw_only=True)
class InpaintDepthParameters(Parameters):
    """Parameters of `InpaintDepth`."""

    max_hole_px: float = parameter(
        0.0, 'Widest hole that is filled; 0 fills every hole.', unit='px', range=(0, 10000)
    )
    max_distance_m: float = parameter(
        0.0,
        'No hole is filled with depth beyond this; 0 sets no limit.',
        unit='m',
        range=(0, 1000),
    )
    color: bool = parameter(
        True, 'Let a colour image registered to the depth guide which surface a hole belongs to.'
    )
    guide: str = parameter(
        'none',
        'estimate: depth from colour votes on every hole, aligned to the measurements around it, '
        'as far as it foretells measured steps; put estimate_depth before, with '
        'estimate_depth.fill false.',
        choices=('none', 'estimate'),
    )
    sensor: str = parameter(
        'kinect_v1',
        'Camera whose noise model gives the standard deviation of measured pixels where none '
        'comes in.',
        choices=tuple(SENSORS),
    )
    model: str = parameter(
        'auto',
        'Learned model that fills wide holes: the name of a shipped one, or the path of an .onnx '
        'file. auto takes depth_small where a back end is installed and, live, keeps the '
        "camera's rate. Empty takes the classical filter, which needs a third of the time and "
        'also serves while no model can.',
    )
    device: str = device_parameter()
    threads: int = threads_parameter()
    model_deadline_s: float = parameter(
        0.0,
        'If the model takes longer than this for several frames in a row, the classical filter '
        'takes over and the model is tried again later and later; 0 sets no deadline.',
        unit='s',
        range=(0, 10),
    )
    model_reduction: int = parameter(
        2,
        'Factor by which images are reduced for the model. 2 takes a third of the time of 1 and '
        'fills wide holes as well; 1 suits small images. Published models have a size of their '
        'own.',
        range=(1, 4),
    )
    rim_px: float = parameter(
        4.0,
        'Pixels of a hole this close to a measurement are filled by the classical filter, which '
        'is exact to the pixel. So are those where the standard deviation of the model is far '
        'larger. 0 leaves all of them to the model.',
        unit='px',
        range=(0, 1000),
    )
    wrong_threshold: float = parameter(
        0.8,
        'A measurement that is wrong with at least this probability, by the model, is replaced '
        'and marked inpainted; 1 keeps every measurement.',
        range=(0.5, 1),
    )


def published_inputs(
    depth_m: Float32Array, color: UInt8Array | None, camera: PinholeCamera
) -> dict[str, Any]:
    """Return what a published model is given of a frame: all of it, in the camera's size."""
    if color is None:  # of one that asks for none
        color = np.zeros((*depth_m.shape, 3), np.uint8)
    intrinsics = np.array([camera.fx, camera.fy, camera.cx, camera.cy], np.float32)
    return {'depth_m': depth_m, 'color': np.ascontiguousarray(color), 'intrinsics': intrinsics}


def _unfit(description: ModelDescription, color: UInt8Array | None) -> str:
    """Say why a published model cannot fill holes; empty if it can."""
    if description.stage != 'inpaint_depth':
        return (
            f'{description.name} estimates depth from colour: set estimate_depth.model to it, '
            'not inpaint_depth.model'
        )
    if color is None and description.parts('color'):
        return (
            f'{description.name} needs colour registered to the depth, and there is none: put '
            'register_color first, or set inpaint_depth.model to depth_small'
        )
    return ''


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
        'color_camera': Topic(PinholeCamera, 'color/camera_info', optional=True, latched=True),
        'estimate': Topic(DepthImage, 'depth_estimated/from_color', optional=True),
    }
    outputs: ClassVar[Mapping[str, Topic]] = {
        'depth': Topic(DepthImage, 'depth_inpainted/image_rect'),
        'camera': Topic(PinholeCamera, 'depth_inpainted/camera_info'),
        'stddev': Topic(StddevImage, 'depth_inpainted/stddev'),
        'provenance': Topic(ProvenanceImage, 'depth_inpainted/provenance'),
    }

    def __init__(
        self,
        parameters: InpaintDepthParameters | None = None,
        model: Inference | None = None,
    ) -> None:
        self.parameters = parameters or InpaintDepthParameters()
        self._given = model is not None
        self._model = ChosenModel(model)
        self.capabilities = Capabilities(models=(self._model,), otherwise='classical')

    def __call__(
        self,
        depth: DepthImage,
        camera: PinholeCamera,
        stddev: StddevImage | None = None,
        provenance: ProvenanceImage | None = None,
        color: ColorImage | None = None,
        color_camera: PinholeCamera | None = None,
        estimate: DepthImage | None = None,
    ) -> dict[str, Any]:
        """Return the filled frame.

        Raises:
            ValueError: If camera, stddev or provenance have another size than the depth.
        """
        p = self.parameters
        check_camera_fits(depth.depth_m, camera)
        check_companions_fit(depth, stddev, provenance)
        measured_stddev_m = SENSORS[p.sensor].stddev_m(depth.depth_m, camera.fx)
        if stddev is not None:
            measured_stddev_m = deviations_m(depth, stddev, measured_stddev_m)
        rgb = None
        if color is not None and p.color and registered(color, depth, color_camera, camera):
            rgb = color.rgb
        guide = self._guide(depth, estimate)
        learned = self._learned(depth.depth_m, rgb, camera)
        if learned is None:
            depth_m, stddev_m, filled = inpaint(
                depth.depth_m,
                stddev_m=measured_stddev_m,
                color=rgb,
                guide=guide,
                max_hole_px=p.max_hole_px,
                max_distance_m=p.max_distance_m,
            )
        else:
            depth_m, stddev_m, filled = self._taken(
                depth.depth_m, measured_stddev_m, rgb, guide, learned
            )
        marks = origins(depth, provenance)
        # What is made of depth that came from colour is worth no more than that.
        source = least_trusted(marks) if provenance is not None else None
        invented = max(source or Provenance.INPAINTED, Provenance.INPAINTED, key=TRUST.index)
        _mark(depth_m.ravel(), filled.ravel(), int(invented), marks.ravel())
        if guide is not None:
            with np.errstate(divide='ignore', invalid='ignore'):
                off = np.abs(1 / depth_m - guide.inverse_depth)
                own = filled & (guide.weight > 0) & (off <= _OWN * guide.inverse_depth)
            marks[own] = at_most(marks[own], Provenance.ALIGNED)
            np.copyto(stddev_m, np.fmax(stddev_m, depth_m * guide.error), where=own)
        header = depth.header
        return {
            'depth': replace(depth, depth_m=depth_m),
            'camera': replace(camera, header=header),
            'stddev': StddevImage(header, stddev_m),
            'provenance': ProvenanceImage(header, marks),
        }

    def _guide(self, depth: DepthImage, estimate: DepthImage | None) -> Guide | None:
        """Return what votes beside the measurements, if it is wanted and worth something."""
        self.capabilities.remark = ''
        if self.parameters.guide == 'none':
            return None
        if estimate is None:
            self.capabilities.remark = (
                'No estimate comes in to guide: put estimate_depth before inpaint_depth, with '
                'estimate_depth.fill false.'
            )
        elif (
            estimate.depth_m.shape != depth.depth_m.shape
            or estimate.header.frame_id != depth.header.frame_id
        ):
            self.capabilities.remark = (
                'The estimate is of another view than the depth: put register_color first.'
            )
        else:
            guide = fit_guide(estimate.depth_m, depth.depth_m)
            if guide is not None and guide.weight.any():
                return guide
            self.capabilities.remark = 'The estimate does not fit the measurements.'
        return None

    def _learned(
        self, depth_m: Float32Array, color: UInt8Array | None, camera: PinholeCamera
    ) -> Mapping[str, Float32Array] | None:
        """Run the model, if one is wanted and runs; None leaves the frame to the filter."""
        p = self.parameters
        name = DEFAULT_MODEL if p.model == 'auto' else p.model
        self.capabilities.unnamed_model = ''
        if p.model == 'auto' and self.capabilities.declined:
            self._model.leave(self.capabilities.declined)
            return None
        if not self._given:
            if not name:
                self._model.leave()
                return None
            if p.model == 'auto' and not is_any_installed():
                self._model.leave('no back end is installed for a model: pip install onnxruntime')
                return None
        description = self._model.description(name)
        if description is None:
            given = model_inputs(depth_m, color, p.model_reduction)
        elif why := _unfit(description, color):
            self._model.refuse(why)
            return None
        else:
            given = published_inputs(depth_m, color, camera)
        found = self._model(name, p.device, p.threads, deadline_s=p.model_deadline_s, **given)
        if found is None:
            return None
        self.capabilities.unnamed_model = DEFAULT_MODEL if p.model == 'auto' else ''
        reduced_m = given['depth_m']
        estimate_m, wrong, shape = found['estimate_m'], found['wrong'], depth_m.shape
        invented = np.isnan(reduced_m) | (wrong >= p.wrong_threshold)
        invented &= np.isfinite(estimate_m)
        for _ in range(_STRAY_PASSES):
            estimate_m = without_strays(estimate_m, invented)
        seen_m = enlarged(reduced_m, shape, smooth=False)
        with np.errstate(invalid='ignore'):
            same = np.abs(depth_m - seen_m) <= SAME_SURFACE * seen_m
        return {
            'estimate_m': enlarged(estimate_m, shape),
            'stddev_m': enlarged(found['stddev_m'], shape),
            # The model saw one measurement of each square; those like it share its result.
            'wrong': np.where(same, enlarged(wrong, shape, smooth=False), np.float32(0)),
        }

    def _taken(
        self,
        depth_m: Float32Array,
        measured_stddev_m: Float32Array,
        color: UInt8Array | None,
        guide: Guide | None,
        outputs: Mapping[str, Float32Array],
    ) -> Inpainting:
        """Take the model's depth in holes and at measurements that it finds wrong."""
        p = self.parameters
        measured = np.isfinite(depth_m) & (depth_m > 0)
        wrong = measured & (outputs['wrong'] >= p.wrong_threshold) & (p.wrong_threshold < 1)
        filled = narrow(~measured | wrong, p.max_hole_px) & np.isfinite(outputs['estimate_m'])
        if p.max_distance_m > 0:
            with np.errstate(invalid='ignore'):
                filled &= outputs['estimate_m'] <= p.max_distance_m
        kept_m = np.where(measured & ~wrong, depth_m, np.float32(np.nan))
        estimate_m, stddev_m = outputs['estimate_m'], outputs['stddev_m']
        if (p.rim_px > 0 or guide is not None) and filled.any():
            by_filter = inpaint(
                kept_m,
                stddev_m=measured_stddev_m,
                color=color,
                guide=guide,
                max_hole_px=0,
                max_distance_m=0,
            )
            away_px = cv2.distanceTransform(
                np.isnan(kept_m).view(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_5
            )
            with np.errstate(invalid='ignore'):
                uncertain = stddev_m > _STDDEV_RATIO * by_filter.stddev_m
            better = by_filter.filled & (uncertain | (away_px <= p.rim_px))
            if guide is not None:  # a guide that is worth much knows more than the model
                better |= by_filter.filled & (guide.weight >= GUIDED_PER_PX)
            estimate_m = np.where(better, by_filter.depth_m, estimate_m)
            # Two estimates, each with its own blind spots: neither is trusted more than the other.
            stddev_m = np.fmax(stddev_m, by_filter.stddev_m)
        filled_m = np.where(filled, estimate_m, np.where(measured, depth_m, np.float32(np.nan)))
        stddev_m = np.where(filled, stddev_m, measured_stddev_m).astype(np.float32)
        return Inpainting(filled_m, stddev_m, filled)


@kernel
def _mark(filled_m: FloatRow, filled: MaskRow, invented: int, provenance: ByteRowOut) -> None:
    for x in range(len(filled_m)):
        origin = np.uint8(invented) if filled[x] else provenance[x]
        provenance[x] = origin if filled_m[x] == filled_m[x] else _INVALID  # NaN
