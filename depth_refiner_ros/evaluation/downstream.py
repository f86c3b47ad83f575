"""What a robot gains from better depth: odometry and mapping with one depth or another.

Every contender sees the same frames, colours and poses in one pass over the recording; nothing of
a frame is kept but what the tracker and the map need.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
import math
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ..data import (
    ColorImage,
    DepthImage,
    Float32Array,
    PinholeCamera,
    ProvenanceImage,
    RigidTransform,
    UInt8Array,
    trusted,
)
from ..folders import Folder, FolderFrame
from ..geometry import TransformTree, register_color
from ..stage import Pipeline
from .extras import evo, open3d
from .fusion import Fusion, View, agreement, find_planes, plane_noise
from .odometry import Method, Odometry
from .trajectories import Trajectory, TrajectoryErrors, matrix, trajectory_errors

_PORTS = ('depth', 'camera', 'color', 'color_camera')

POSES_FROM_THE_SAME_DEPTH = (
    'The recorded poses were themselves estimated from the raw depth, to a few centimetres. They '
    'share its errors, which favours raw depth; small differences say nothing about which is best.'
)


class Contender(NamedTuple):
    """Depth to track and map with.

    Attributes:
        pipeline: What makes it; None for the depth as recorded. Contenders may share one: it runs
            once a frame.
        stage: The stage of the pipeline whose depth it is; the last one that puts out depth where
            omitted.
        invented: Whether pixels that the pipeline marks as inpainted are used.
    """

    pipeline: Pipeline | None = None
    stage: str = ''
    invented: bool = True

    def depth(
        self, frame: FolderFrame, outputs: Mapping[str, Any]
    ) -> tuple[Float32Array, PinholeCamera]:
        """Return its depth, (H, W) metres, and intrinsics.

        Args:
            frame: The frame as recorded.
            outputs: What the pipeline made of it.

        Raises:
            ValueError: If the pipeline does not make it.
        """
        if self.pipeline is None:
            return frame.depth.depth_m, frame.camera
        made = [name for name in self.pipeline.stages if f'{name}.depth' in outputs]
        stage = self.stage or (made[-1] if made else '')
        if stage not in made:
            raise ValueError(f'no depth from {stage or "any stage"} of the pipeline')
        depth: DepthImage = outputs[f'{stage}.depth']
        camera: PinholeCamera = outputs.get(f'{stage}.camera', frame.camera)
        if self.invented:
            return depth.depth_m, camera
        provenance: ProvenanceImage | None = outputs.get(f'{stage}.provenance')
        if provenance is None:
            raise ValueError(f'{stage} does not say which pixels it invented')
        seen = trusted(provenance.provenance)
        return np.where(seen, depth.depth_m, np.float32(math.nan)), camera


@dataclass(frozen=True)
class OdometryScores:
    """How well a camera is tracked.

    Attributes:
        errors: Against the recorded poses.
        lost_frames: Frames that could not be aligned with the one before.
    """

    errors: TrajectoryErrors
    lost_frames: int


@dataclass(frozen=True)
class FusionScores:
    """What a map is like.

    Attributes:
        frames: Frames fused.
        area_m2: Area of the surface, invented or not.
        plane_points: Vertices on planes that are also in the first contender's map.
        plane_rms_mm: Root mean square of their distance to their plane.
        plane_p95_mm: 95th percentile of it.
        patch_rms_mm: Root mean square, with a plane fitted to each 20 cm square.
        covered: Share of the reference's pixels that show the map within 2 cm; NaN without one.
        correct: Share within 2 cm, of those that show the map.
        in_front: Share of the reference's pixels that show the map more than 2 cm too near.
    """

    frames: int
    area_m2: float
    plane_points: int
    plane_rms_mm: float
    plane_p95_mm: float
    patch_rms_mm: float
    covered: float
    correct: float
    in_front: float


@dataclass(frozen=True)
class DownstreamScores:
    """What a robot gets out of a contender's depth; `metrics.to_json` makes it JSON.

    Attributes:
        odometry: How well the camera is tracked.
        fusion: What the map is like.
        note: What a reader of the figures must know.
    """

    odometry: OdometryScores
    fusion: FusionScores
    note: str = ''


def evaluate_downstream(
    frames: Iterable[FolderFrame],
    contenders: Mapping[str, Contender],
    *,
    transforms: TransformTree | None = None,
    track_every_nth: int = 1,
    fuse_every_nth: int = 1,
    method: Method = 'point_to_plane',
    voxel_m: float = 0.01,
    min_views: int = 3,
    note: str = '',
) -> dict[str, DownstreamScores]:
    """Track and map a recording with the depth of each contender.

    Pipelines see every frame, so that filters over time work as they would live; tracking and
    mapping may use fewer. Tracking from frame to frame loses its way where the view changes too
    much between two of them; mapping gains little from frames that show the same. Colour that is
    not registered to the depth is, by the recorded depth, for all contenders alike.

    Args:
        frames: The recording, iterated twice: a `folders.Folder`, or a list.
        contenders: By name. All maps are measured on the planes of the first.
        transforms: Where the depth camera sits in the colour camera, if they differ.
        track_every_nth: Frames from one that is tracked to the next.
        fuse_every_nth: Frames from one that is fused to the next.
        method: Method of the odometry; `hybrid` needs colour.
        voxel_m: Edge of the map's voxels, metres.
        min_views: Frames that must have seen a surface for it to count.
        note: Goes into the scores: `POSES_FROM_THE_SAME_DEPTH` where that is so.

    Raises:
        ModuleNotFoundError: If Open3D is not installed.
        FileNotFoundError: If evo is not installed.
        ValueError: If fewer than two frames have a pose, or colour is missing and needed.
    """
    open3d()
    evo('evo_ape')
    transforms = transforms or TransformTree()
    odometries = {name: Odometry(method) for name in contenders}
    fusions = {name: Fusion(voxel_m) for name in contenders}
    pipelines = {id(c.pipeline): c.pipeline for c in contenders.values() if c.pipeline}
    stamps_ns, poses = [], []
    for i, frame in enumerate(frames):
        tracked, fused = i % track_every_nth == 0, i % fuse_every_nth == 0
        pose = frame.world_from_camera
        if pose is not None:
            stamps_ns.append(frame.depth.header.stamp_ns)
            poses.append(matrix(pose))
        values = frame._asdict()
        inputs = {port: values[port] for port in _PORTS if values[port] is not None}
        outputs = {key: run(transforms, **inputs) for key, run in pipelines.items()}
        rgb = registered_color(frame, transforms) if tracked and method == 'hybrid' else None
        for name, contender in contenders.items():
            if not (tracked or fused):
                continue
            depth_m, camera = contender.depth(frame, outputs.get(id(contender.pipeline), {}))
            if tracked:
                odometries[name].add(frame.depth.header.stamp_ns, depth_m, camera, rgb)
            if fused and pose is not None:
                fusions[name].add(depth_m, camera, pose)
    if len(poses) < 2:
        raise ValueError(f'tracking and mapping need recorded poses, {len(poses)} frames have one')

    recorded = Trajectory(stamps_ns, np.array(poses))
    surfaces = {name: fusion.surface(min_views=min_views) for name, fusion in fusions.items()}
    planes = find_planes(next(iter(surfaces.values())))
    scores = {}
    for name, surface in surfaces.items():
        estimated, lost = odometries[name].trajectory(), odometries[name].lost
        noise, seen = plane_noise(surface, planes), agreement(surface, _views(frames))
        scores[name] = DownstreamScores(
            OdometryScores(trajectory_errors(estimated, recorded), lost),
            FusionScores(
                fusions[name].frames,
                surface.area_m2,
                noise.points,
                noise.rms_mm,
                noise.p95_mm,
                noise.patch_rms_mm,
                seen.covered,
                seen.correct,
                seen.in_front,
            ),
            note,
        )
    return scores


# A map gains little from frames that show the same; tracking needs them all.
_FUSE_EVERY_NTH = 10


def downstream_of(path: Path, name: str, pipeline: Pipeline) -> dict[str, DownstreamScores]:
    """Track and map a folder with its raw depth and with that of every stage of a pipeline.

    Returns:
        Scores by contender; empty if the source is no folder with recorded poses.

    Raises:
        ModuleNotFoundError: If Open3D is not installed.
        FileNotFoundError: If evo is not installed.
    """
    if not any((path / 'poses').glob('*.txt')):
        return {}
    folder = Folder(path)
    made = [stage for stage, runs in pipeline.stages.items() if 'depth' in runs.outputs]
    contenders = {'raw': Contender()}
    contenders |= {f'{name}, {stage}': Contender(pipeline, stage) for stage in made}
    if made and 'provenance' in pipeline.stages[made[-1]].outputs:
        measured = Contender(pipeline, made[-1], invented=False)
        contenders[f'{name}, {made[-1]} without invented'] = measured
    transforms = [folder.color_from_depth] if folder.color_from_depth is not None else []
    return evaluate_downstream(
        folder,
        contenders,
        transforms=TransformTree(transforms),
        fuse_every_nth=_FUSE_EVERY_NTH,
        note=POSES_FROM_THE_SAME_DEPTH if 'fusion' in folder.note.lower() else '',
    )


def registered_color(frame: FolderFrame, transforms: TransformTree) -> UInt8Array | None:
    """Return a frame's colour in the depth camera's view, or None if it has none.

    Raises:
        ValueError: If it is not registered and nothing says how to.
    """
    color: ColorImage | None = frame.color
    if color is None:
        return None
    if color.header.frame_id == frame.depth.header.frame_id:
        return color.rgb
    color_from_depth: RigidTransform | None = transforms.lookup(
        color.header.frame_id, frame.depth.header.frame_id
    )
    if frame.color_camera is None or color_from_depth is None:
        raise ValueError(
            'the colour is not registered to the depth, and its calibration or the transform '
            f'from {frame.depth.header.frame_id} to {color.header.frame_id} is missing; '
            'point_to_plane odometry does without colour'
        )
    return register_color(
        color.rgb, frame.color_camera, frame.depth.depth_m, frame.camera, color_from_depth
    )


def _views(frames: Iterable[FolderFrame]) -> Iterator[View]:
    for frame in frames:
        if frame.reference is not None and frame.world_from_camera is not None:
            yield View(frame.reference.depth_m, frame.camera, frame.world_from_camera)


COLUMNS = {
    'RPE mm/frame': ('odometry.errors.rpe_frame_rmse_mm', '.2f'),
    'RPE °/frame': ('odometry.errors.rpe_frame_rmse_deg', '.3f'),
    'RPE mm/s': ('odometry.errors.rpe_second_rmse_mm', '.1f'),
    'RPE mm/m': ('odometry.errors.rpe_metre_rmse_mm', '.1f'),
    'ATE mm': ('odometry.errors.ate_rmse_mm', '.1f'),
    'lost': ('odometry.lost_frames', 'd'),
    'planes rms mm': ('fusion.plane_rms_mm', '.2f'),
    'p95 mm': ('fusion.plane_p95_mm', '.2f'),
    'patches rms mm': ('fusion.patch_rms_mm', '.2f'),
    'map m²': ('fusion.area_m2', '.2f'),
    'covered': ('fusion.covered', '.3f'),
    'correct': ('fusion.correct', '.3f'),
    'in front': ('fusion.in_front', '.3f'),
}
"""Columns of the table: where a figure stands in `DownstreamScores`, and its format."""


def table(scores: Mapping[str, Mapping[str, Any]]) -> tuple[list[str], list[list[str]]]:
    """Return head and rows of a table of scores, each as plain data."""

    def cell(score: Any, path: str, form: str) -> str:
        for part in path.split('.'):
            score = score[part]
        return '-' if score is None else format(score, form)

    rows = [
        [name, *(cell(score, path, form) for path, form in COLUMNS.values())]
        for name, score in scores.items()
    ]
    return ['', *COLUMNS], rows
