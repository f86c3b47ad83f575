"""How far a camera's estimated trajectory differs from the recorded one, as evo measures it."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import pairwise
import json
import math
import os
from pathlib import Path
import subprocess
import tempfile
import zipfile

import numpy as np

from ..data import Float64Array, RigidTransform
from ..geometry import quaternion_from_rotation
from .extras import evo

_MM = 1e3  # per metre
_TIMEOUT_S = 600.0
_METRE_M = 0.9  # evo takes pairs that are within 10 % of a metre apart

# What evo says where a trajectory is too short, or too straight, for a figure to exist.
_UNDEFINED = ('empty index list', 'Degenerate covariance')


@dataclass(frozen=True, eq=False)
class Trajectory:
    """Where a camera was, in the order of time.

    Attributes:
        stamps_ns: Stamp of each pose, rising.
        world_from_camera: Shape (N, 4, 4), float64, metres.

    Raises:
        ValueError: If the two do not fit together, or stamps do not rise.
    """

    stamps_ns: Sequence[int]
    world_from_camera: Float64Array

    def __post_init__(self) -> None:
        if self.world_from_camera.shape != (len(self.stamps_ns), 4, 4):
            raise ValueError(
                f'{len(self.stamps_ns)} stamps need as many 4x4 poses, '
                f'got {self.world_from_camera.shape}'
            )
        if any(after <= before for before, after in pairwise(self.stamps_ns)):
            raise ValueError('the stamps of a trajectory must rise')

    @property
    def path_m(self) -> float:
        """Length of the path, metres; of a trembling trajectory, that of the tremble too."""
        steps_m = np.diff(self.world_from_camera[:, :3, 3], axis=0)
        return float(np.linalg.norm(steps_m, axis=1).sum())

    def write_tum(self, path: Path, start_ns: int) -> None:
        """Write `stamp tx ty tz qx qy qz qw` a line; stamps are seconds since `start_ns`.

        Format: https://cvg.cit.tum.de/data/datasets/rgbd-dataset/file_formats
        """
        lines = []
        for stamp_ns, pose in zip(self.stamps_ns, self.world_from_camera, strict=True):
            numbers = (*pose[:3, 3], *quaternion_from_rotation(pose[:3, :3]))
            words = ' '.join(f'{number:.17g}' for number in numbers)
            lines.append(f'{(stamp_ns - start_ns) / 1e9:.9f} {words}\n')
        path.write_text(''.join(lines), encoding='utf-8')


def matrix(transform: RigidTransform) -> Float64Array:
    """Return a transform as a (4, 4) matrix."""
    pose = np.eye(4)
    pose[:3, :3] = transform.rotation
    pose[:3, 3] = transform.translation_m
    return pose


@dataclass(frozen=True)
class TrajectoryErrors:
    """Root mean squares of a trajectory's errors; NaN where it is too short to have one.

    ATE is the distance between positions after the best rigid alignment of the whole trajectories;
    RPE is the error of the motion between two poses a frame, a second or a metre of recorded path
    apart, over all such pairs. Sturm et al., "A benchmark for the evaluation of RGB-D SLAM
    systems", IROS 2012.

    Attributes:
        poses: Poses compared.
        interval_s: Median time from one frame to the next, which `rpe_frame` refers to.
        path_m: Length of the recorded path.
        ate_rmse_mm: Absolute trajectory error.
        rpe_frame_rmse_mm: Translation, from frame to frame.
        rpe_frame_rmse_deg: Rotation, from frame to frame.
        rpe_second_rmse_mm: Translation, over a second.
        rpe_second_rmse_deg: Rotation, over a second.
        rpe_metre_rmse_mm: Translation, over a metre.
        rpe_metre_rmse_deg: Rotation, over a metre.
    """

    poses: int
    interval_s: float
    path_m: float
    ate_rmse_mm: float
    rpe_frame_rmse_mm: float
    rpe_frame_rmse_deg: float
    rpe_second_rmse_mm: float
    rpe_second_rmse_deg: float
    rpe_metre_rmse_mm: float
    rpe_metre_rmse_deg: float


def trajectory_errors(estimated: Trajectory, recorded: Trajectory) -> TrajectoryErrors:
    """Compare two trajectories of one camera by running evo, https://github.com/MichaelGrupp/evo.

    Poses are paired by stamp; what has no counterpart does not count.

    Raises:
        FileNotFoundError: If evo is not installed.
        RuntimeError: If it fails; the message ends with its own.
        ValueError: If fewer than two stamps have a pose in both.
    """
    programs = {name: evo(name) for name in ('evo_ape', 'evo_rpe')}
    common = sorted(set(estimated.stamps_ns) & set(recorded.stamps_ns))
    if len(common) < 2:
        raise ValueError(f'two trajectories share {len(common)} stamps; comparing takes two')
    estimated, recorded = _at(estimated, common), _at(recorded, common)
    interval_s = float(np.median(np.diff(common))) / 1e9
    second = max(1, round(1 / interval_s))
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        recorded.write_tum(folder / 'recorded.tum', common[0])
        estimated.write_tum(folder / 'estimated.tum', common[0])

        # Alone: evo makes a folder of settings when it first starts, and two at once fail.
        ate_m = _rmse(programs['evo_ape'], folder, '--align')
        # A process each, side by side: most of a run is evo starting.
        with ThreadPoolExecutor() as pool:

            def rpe(relation: str, delta: int, unit: str, *, exists: bool = True) -> Future[float]:
                if not exists:
                    return pool.submit(lambda: math.nan)
                pairs = ('--delta', str(delta), '--delta_unit', unit, '--all_pairs')
                # A bad estimate's path is longer by its tremble, which would shorten its pairs.
                of = ('--pairs_from_reference', '--pose_relation', relation)
                return pool.submit(_rmse, programs['evo_rpe'], folder, *pairs, *of)

            moved_m, turned_deg = (
                {
                    'frame': rpe(relation, 1, 'f'),
                    'second': rpe(relation, second, 'f', exists=second < len(common)),
                    'metre': rpe(relation, 1, 'm', exists=recorded.path_m > _METRE_M),
                }
                for relation in ('trans_part', 'angle_deg')
            )
    return TrajectoryErrors(
        poses=len(common),
        interval_s=interval_s,
        path_m=recorded.path_m,
        ate_rmse_mm=ate_m * _MM,
        rpe_frame_rmse_mm=moved_m['frame'].result() * _MM,
        rpe_frame_rmse_deg=turned_deg['frame'].result(),
        rpe_second_rmse_mm=moved_m['second'].result() * _MM,
        rpe_second_rmse_deg=turned_deg['second'].result(),
        rpe_metre_rmse_mm=moved_m['metre'].result() * _MM,
        rpe_metre_rmse_deg=turned_deg['metre'].result(),
    )


def _at(trajectory: Trajectory, stamps_ns: Sequence[int]) -> Trajectory:
    rows = {stamp_ns: row for row, stamp_ns in enumerate(trajectory.stamps_ns)}
    kept = [rows[stamp_ns] for stamp_ns in stamps_ns]
    return Trajectory(stamps_ns, trajectory.world_from_camera[kept])


def _rmse(program: str, folder: Path, *options: str) -> float:
    """Run one of evo's programs on a folder's two trajectories and read its result."""
    result = Path(tempfile.mkdtemp(dir=folder)) / 'result.zip'
    files = ('tum', str(folder / 'recorded.tum'), str(folder / 'estimated.tum'))
    done = subprocess.run(
        [program, *files, *options, '--save_results', str(result), '--no_warnings'],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=_TIMEOUT_S,
        env=os.environ | {'MPLBACKEND': 'Agg'},
    )
    output = f'{done.stdout}\n{done.stderr}'.strip()
    if done.returncode and any(reason in output for reason in _UNDEFINED):
        return math.nan
    if done.returncode or not result.exists():
        last = output.splitlines()[-1] if output else f'exit status {done.returncode}'
        raise RuntimeError(f'{Path(program).name} failed: {last}')
    with zipfile.ZipFile(result) as archive:
        return float(json.loads(archive.read('stats.json'))['rmse'])
