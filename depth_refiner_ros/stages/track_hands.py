"""Finds hands in depth and follows them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from ..data import (
    DepthImage,
    Float32Array,
    Float64Array,
    HandMarkers,
    HandPoses,
    Hands,
    Header,
    PinholeCamera,
)
from ..filters.hands import (
    CENTER,
    OneEuro,
    candidates,
    confidence_of,
    detector_image,
    joints_of,
    plausible,
    projected,
    window,
)
from ..geometry import check_camera_fits
from ..inference import ChosenModel, Inference
from ..inference.parameters import device_parameter, threads_parameter
from ..parameters import Parameters, parameter
from ..stage import Capabilities, Input, Topic

_SAME_HAND_M = 0.07
"""Two centres this close are of one hand."""
_OFF_CENTER_M = 0.03
"""A hand this far from the centre of its window is examined again."""
_FORGET_S = 0.5
"""After this time without frames, followed hands are forgotten."""
_LOST_FRAMES = 3
"""Frames in a row without a hand after which it is given up; it is not published meanwhile."""
_SIDE_SHARE = 0.15
"""Weight of a frame in the average of a hand's side: one glimpse does not change it."""


@dataclass(frozen=True, kw_only=True)
class TrackHandsParameters(Parameters):
    """Parameters of `TrackHands`."""

    max_hands: int = parameter(2, 'Most hands that are followed.', range=(1, 16))
    threshold: float = parameter(
        0.8, 'Least probability at which a hand is published.', range=(0.05, 0.99)
    )
    detection_threshold: float = parameter(
        0.4,
        'Least probability at which a candidate is examined; lower finds more hands, and more '
        'false ones.',
        range=(0.01, 0.99),
    )
    detection_interval_s: float = parameter(
        0.15,
        'Time between searches for further hands while at least one is followed; 0 searches in '
        'every frame.',
        unit='s',
        range=(0, 10),
    )
    cutoff_hz: float = parameter(
        1.5,
        'Cutoff of the One Euro filter for joints at rest; lower is smoother and later, 0 is off.',
        unit='Hz',
        range=(0, 60),
    )
    joints_model: str = parameter(
        'hand_joints', 'Model of joints: the name of a shipped one, or the path of an .onnx file.'
    )
    detector_model: str = parameter(
        'hand_detector',
        'Model that finds hands: the name of a shipped one, or the path of an .onnx file.',
    )
    device: str = device_parameter()
    threads: int = threads_parameter()


@dataclass
class _Track:
    number: int
    center_m: Float64Array
    smooth: OneEuro
    right: float = 0.5
    missed: int = 0


@dataclass(frozen=True)
class _Found:
    """Output of the joints network for one window."""

    points_m: Float32Array
    spread: Float32Array
    hand: float
    right: float

    @property
    def center_m(self) -> Float64Array:
        center_m: Float64Array = self.points_m[CENTER].astype(np.float64)
        return center_m


class TrackHands:
    """Finds hands in depth images and gives their 21 joints in metres.

    No hand gives an empty value, not a guess. Works on raw, refined or inpainted depth: whatever
    an earlier stage puts out, or arrives.
    """

    Parameters: ClassVar[Any] = TrackHandsParameters
    inputs: ClassVar[Mapping[str, Input]] = {
        'depth': Topic(DepthImage, 'depth/image_rect'),
        'camera': Topic(PinholeCamera, 'depth/camera_info', latched=True),
    }
    outputs: ClassVar[Mapping[str, Topic]] = {
        'hands': Topic(Hands, 'hands/keypoints'),
        'markers': Topic(HandMarkers, 'hands/markers'),
        'poses': Topic(HandPoses, 'hands/poses'),
    }

    def __init__(
        self,
        parameters: TrackHandsParameters | None = None,
        joints: Inference | None = None,
        detector: Inference | None = None,
    ) -> None:
        self.parameters = parameters or TrackHandsParameters()
        self._joints, self._detector = ChosenModel(joints), ChosenModel(detector)
        self.capabilities = Capabilities(models=(self._joints, self._detector))
        self._tracks: list[_Track] = []
        self._next = 0
        self._last_ns: int | None = None
        self._looked_ns: int | None = None

    def __call__(self, depth: DepthImage, camera: PinholeCamera) -> dict[str, Any]:
        """Return the hands of one frame.

        Raises:
            ValueError: If the camera has another size than the depth.
        """
        check_camera_fits(depth.depth_m, camera)
        p = self.parameters
        stamp_ns = depth.header.stamp_ns
        since_s = (stamp_ns - self._last_ns) / 1e9 if self._last_ns is not None else 0.0
        if not 0 <= since_s <= _FORGET_S:
            self._tracks, self._looked_ns, since_s = [], None, 0.0
        self._last_ns = stamp_ns

        found = self._followed(depth.depth_m, camera)
        if len(self._tracks) < p.max_hands and self._due(stamp_ns):
            self._looked_ns = stamp_ns
            found += self._new(depth.depth_m, camera)
        hands = self._hands(depth.header, camera, found, since_s)
        return {'hands': hands, 'markers': HandMarkers(hands), 'poses': HandPoses(hands)}

    # ------------------------------------------------------------------------------ windows

    def _read(self, depth_m: Float32Array, camera: PinholeCamera, centers_m: Any) -> list[_Found]:
        """Run the joints network on windows; nothing if it cannot run."""
        if not len(centers_m):
            return []
        windows = np.stack([window(depth_m, camera, center_m) for center_m in centers_m])
        p = self.parameters
        # As it is and mirrored: the mean of both is closer to the truth than either.
        outputs = self._joints(
            p.joints_model,
            p.device,
            p.threads,
            window=np.concatenate([windows, windows[:, :, ::-1]]),
        )
        if outputs is None:
            return []
        place, spread, kind = (
            np.array(outputs[name]).reshape(2, len(centers_m), *outputs[name].shape[1:])
            for name in ('place', 'spread', 'kind')
        )
        place[1, :, :, 0] *= -1
        kind[1, :, 1] = 1 - kind[1, :, 1]
        place, spread, kind = (value.mean(0) for value in (place, spread, kind))
        found = []
        for i, center_m in enumerate(centers_m):
            points_m, _ = joints_of(place[i], camera, center_m)
            hand, right = (float(value) for value in kind[i])
            found.append(_Found(points_m, spread[i], hand, right))
        return found

    def _settled(
        self, depth_m: Float32Array, camera: PinholeCamera, centers_m: Any
    ) -> list[_Found]:
        """Read windows, and once more those whose hands are not in the middle."""
        found = self._read(depth_m, camera, centers_m)
        off = [
            i
            for i, each in enumerate(found)
            if np.linalg.norm(each.center_m - centers_m[i]) > _OFF_CENTER_M
            and each.hand > 0.3 * self.parameters.threshold
        ]
        again = self._read(depth_m, camera, [found[i].center_m for i in off])
        for i, better in zip(off, again, strict=False):
            found[i] = better
        return found

    # ------------------------------------------------------------------------------- tracks

    def _due(self, stamp_ns: int) -> bool:
        if not self._tracks or self._looked_ns is None:
            return True
        return (stamp_ns - self._looked_ns) / 1e9 >= self.parameters.detection_interval_s

    def _followed(
        self, depth_m: Float32Array, camera: PinholeCamera
    ) -> list[tuple[_Track, _Found]]:
        """Look for every followed hand where it was."""
        centers_m = [track.center_m for track in self._tracks]
        found = self._settled(depth_m, camera, centers_m)
        result: list[tuple[_Track, _Found]] = []
        for track, each in zip(self._tracks, found, strict=False):
            twice = any(
                np.linalg.norm(each.center_m - other.center_m) < _SAME_HAND_M
                for _, other in result
            )
            if each.hand < self.parameters.threshold or twice:
                track.missed += _LOST_FRAMES if twice else 1
                continue
            track.missed = 0
            result.append((track, each))
        self._tracks = [track for track in self._tracks if track.missed < _LOST_FRAMES]
        return result

    def _new(self, depth_m: Float32Array, camera: PinholeCamera) -> list[tuple[_Track, _Found]]:
        """Look for hands that are not followed."""
        p = self.parameters
        image_m = detector_image(depth_m, camera)
        outputs = self._detector(p.detector_model, p.device, p.threads, depth_m=image_m)
        if outputs is None:
            return []
        places = candidates(
            image_m,
            np.asarray(outputs['hand']),
            np.asarray(outputs['offset']),
            np.asarray(outputs['behind_m']),
            camera,
            threshold=p.detection_threshold,
        )
        centers_m: list[Float64Array] = []
        for place in places:
            known = [track.center_m for track in self._tracks] + centers_m
            if all(np.linalg.norm(place.center_m - other) > _SAME_HAND_M for other in known):
                centers_m.append(place.center_m)
        result: list[tuple[_Track, _Found]] = []
        found = self._settled(depth_m, camera, centers_m[: 2 * p.max_hands])
        for each in sorted(found, key=lambda one: -one.hand):
            if each.hand < p.threshold or len(self._tracks) >= p.max_hands:
                break
            known = [track.center_m for track in self._tracks]
            if any(np.linalg.norm(each.center_m - other) < _SAME_HAND_M for other in known):
                continue
            track = _Track(self._next, each.center_m, OneEuro(p.cutoff_hz), each.right)
            self._next += 1
            self._tracks.append(track)
            result.append((track, each))
        return result

    def _hands(
        self,
        header: Header,
        camera: PinholeCamera,
        found: list[tuple[_Track, _Found]],
        since_s: float,
    ) -> Hands:
        rows = []
        for track, each in found:
            points_m = plausible(each.points_m)
            if points_m is None:
                track.missed += 1
                continue
            track.center_m = each.center_m
            track.right += _SIDE_SHARE * (each.right - track.right)
            track.smooth.cutoff_hz = self.parameters.cutoff_hz
            points_m = track.smooth(points_m, since_s)
            sure = confidence_of(each.spread) * np.float32(each.hand)
            rows.append((points_m, projected(points_m, camera), sure, track.right, track.number))
        if not rows:
            return Hands.none(header)
        points, pixels, confidences, rights, numbers = zip(*rows, strict=True)
        return Hands(
            header,
            np.stack(points).astype(np.float32),
            np.stack(pixels).astype(np.float32),
            np.stack(confidences).astype(np.float32),
            np.array(rights, np.float32),
            np.array(numbers, np.int32),
        )
