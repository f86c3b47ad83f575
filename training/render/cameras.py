"""Cameras: the intrinsics of real depth sensors, and where people and robots hold them."""

from __future__ import annotations

from dataclasses import dataclass, replace
import math
import random
from typing import NamedTuple

import torch
from torch import Tensor

from .solids import Kind, Scene, Vector


class Sensor(NamedTuple):
    """Intrinsics of a kind of sensor, as published by its maker or users.

    Attributes:
        width_px: Columns that the focal length refers to.
        height_px: Rows.
        focal_px: Smallest and largest focal length met in practice.
        share: How often it is drawn.
    """

    width_px: int
    height_px: int
    focal_px: tuple[float, float]
    share: float


SENSORS: dict[str, Sensor] = {
    'kinect_v1': Sensor(640, 480, (525, 590), 0.35),
    'xtion_ycb': Sensor(640, 480, (1050, 1080), 0.1),
    'd435_color': Sensor(640, 480, (600, 620), 0.25),
    'd435_depth': Sensor(848, 480, (415, 435), 0.05),
    'kinect_v2': Sensor(512, 424, (360, 370), 0.1),
    'azure_nfov': Sensor(640, 576, (500, 508), 0.1),
    'phone': Sensor(640, 480, (460, 500), 0.05),
}

ROOM_SHARE = 0.3
"""Share of views of a room; of the others a robot's wrist has 5 in 14, people at a desk the
rest."""


@dataclass
class Cameras:
    """Views, pixel centres at whole numbers, optical frames (x right, y down, z forward).

    Attributes:
        scene: (V,) int64, which scene of the world each one looks at.
        intrinsics: (V, 3, 3), pixels.
        world_from_camera: (V, 4, 4).
        height: Rows, pixels.
        width: Columns, pixels.
        exposure: (V,), mean brightness the automatic exposure aims at, 0 to 1.
        white_balance: (V, 3), gains of the colours.
        vignetting: (V,), share of light lost in the corners.
    """

    scene: Tensor
    intrinsics: Tensor
    world_from_camera: Tensor
    height: int
    width: int
    exposure: Tensor
    white_balance: Tensor
    vignetting: Tensor

    def moved(self, offset_m: Vector) -> Cameras:
        """Return parallel cameras beside these, for stereo: (0.055, 0, 0) is 55 mm to the right.

        Args:
            offset_m: In each camera's own frame.
        """
        pose = self.world_from_camera.clone()
        offset = torch.tensor(offset_m, device=pose.device)
        pose[:, :3, 3] += pose[:, :3, :3] @ offset
        return replace(self, world_from_camera=pose)

    def to(self, device: torch.device | str) -> Cameras:
        """Return the same cameras on another device."""
        return Cameras(
            self.scene.to(device),
            self.intrinsics.to(device),
            self.world_from_camera.to(device),
            self.height,
            self.width,
            self.exposure.to(device),
            self.white_balance.to(device),
            self.vignetting.to(device),
        )


class View(NamedTuple):
    """One camera as plain numbers; see `Cameras`."""

    intrinsics: tuple[float, float, float, float]
    """fx, fy, cx, cy, pixels."""
    eye_m: Vector
    target_m: Vector
    roll_rad: float
    exposure: float
    white_balance: Vector
    vignetting: float


def gather(views: list[View], scene: list[int], height: int, width: int) -> Cameras:
    """Make tensors of views; `scene` says which scene each one looks at."""
    poses = torch.eye(4).repeat(len(views), 1, 1)
    intrinsics = torch.eye(3).repeat(len(views), 1, 1)
    for i, view in enumerate(views):
        poses[i, :3] = torch.tensor(look_at(view.eye_m, view.target_m, view.roll_rad))
        fx, fy, cx, cy = view.intrinsics
        intrinsics[i, :2] = torch.tensor(((fx, 0.0, cx), (0.0, fy, cy)))
    return Cameras(
        torch.tensor(scene),
        intrinsics,
        poses,
        height,
        width,
        torch.tensor([view.exposure for view in views]),
        torch.tensor([view.white_balance for view in views]),
        torch.tensor([view.vignetting for view in views]),
    )


def look_at(eye_m: Vector, target_m: Vector, roll_rad: float = 0.0) -> list[list[float]]:
    """Return the upper three rows of world_from_camera of a camera that looks at a point."""
    forward = [b - a for a, b in zip(eye_m, target_m, strict=True)]
    length = math.sqrt(sum(f * f for f in forward)) or 1.0
    fx, fy, fz = (f / length for f in forward)
    flat = math.hypot(fx, fy)
    rx, ry = (fy / flat, -fx / flat) if flat > 1e-6 else (1.0, 0.0)  # straight down: any right
    down = (fy * 0 - fz * ry, fz * rx - fx * 0, fx * ry - fy * rx)
    c, s = math.cos(roll_rad), math.sin(roll_rad)
    right = (rx * c + down[0] * s, ry * c + down[1] * s, down[2] * s)
    down = (down[0] * c - rx * s, down[1] * c - ry * s, down[2] * c)
    return [[right[i], down[i], (fx, fy, fz)[i], eye_m[i]] for i in range(3)]


def sample_view(
    rng: random.Random, scene: Scene, height: int, width: int, room_share: float = ROOM_SHARE
) -> View:
    """Draw a sensor and a place for it from which something of the scene is seen well.

    Held at a desk or in a hand, at a robot's wrist 0.3 to 1 m from the clutter, or looking into
    the room. It is never within a solid, and nothing but the room blocks its middle.

    Args:
        rng: Source of all randomness.
        scene: Looked at.
        height: Rows, pixels.
        width: Columns, pixels.
        room_share: How often it looks into the room and not at what stands in it.
    """
    sensor = rng.choices(list(SENSORS.values()), [s.share for s in SENSORS.values()])[0]
    # The same field of view across, cropped in height if the picture is wider than the sensor's.
    focal_px = rng.uniform(*sensor.focal_px) * width / sensor.width_px
    jitter = 0.02 * width
    intrinsics = (
        focal_px,
        focal_px * rng.uniform(0.998, 1.002),
        (width - 1) / 2 + rng.uniform(-jitter, jitter),
        (height - 1) / 2 + rng.uniform(-jitter, jitter),
    )
    narrow = focal_px / width > 1.2
    for attempt in range(60):
        eye_m, target_m = _aim(rng, scene, narrow, room_share)
        if attempt == 59 or _is_free(scene, eye_m, target_m):
            break
    warm = rng.gauss(0, 0.1)
    return View(
        intrinsics,
        eye_m,
        target_m,
        rng.gauss(0, 0.05) if rng.random() < 0.9 else rng.uniform(-0.6, 0.6),
        rng.triangular(0.16, 0.5, 0.3),
        (1 + warm, 1 + rng.gauss(0, 0.03), 1 - warm),
        rng.random() ** 2 * 0.4,
    )


def _aim(
    rng: random.Random, scene: Scene, narrow: bool, room_share: float
) -> tuple[Vector, Vector]:
    half_x, half_y, tall = scene.size_m[0] / 2, scene.size_m[1] / 2, scene.size_m[2]
    style = rng.random()
    if style < room_share or not scene.focus_m:  # into the room
        # Who shows a room stands at its side more often than in its middle.
        eye = (
            _sideways(rng) * (half_x - 0.3),
            _sideways(rng) * (half_y - 0.3),
            rng.uniform(0.6, min(1.8, tall - 0.3)),
        )
        angle = math.atan2(-eye[1], -eye[0]) + rng.gauss(0, 0.5)
        away = rng.uniform(1.5, 4)
        target = (
            eye[0] + away * math.cos(angle),
            eye[1] + away * math.sin(angle),
            max(eye[2] - away * rng.gauss(0.2, 0.2), 0.0),
        )
        return eye, target
    (x, y, z), radius = rng.choice(scene.focus_m)
    spread = 0.3 * radius
    target = (x + rng.gauss(0, spread), y + rng.gauss(0, spread), z + rng.uniform(0, 0.12))
    if style < room_share + (1 - room_share) * 5 / 14:  # a robot's wrist
        away, pitch = rng.uniform(0.3, 1.0), rng.uniform(0.35, 1.5)
    else:  # at a desk, or in a hand
        away, pitch = rng.uniform(0.6, 2.0), rng.triangular(0.1, 1.0, 0.5)
    away *= 1.6 if narrow else 1.0
    angle = rng.uniform(-math.pi, math.pi)
    eye = (
        min(
            max(target[0] + away * math.cos(pitch) * math.cos(angle), -half_x + 0.15),
            half_x - 0.15,
        ),
        min(
            max(target[1] + away * math.cos(pitch) * math.sin(angle), -half_y + 0.15),
            half_y - 0.15,
        ),
        min(target[2] + away * math.sin(pitch), tall - 0.1),
    )
    return eye, target


def _sideways(rng: random.Random) -> float:
    return float(rng.choice((-1, 1)) * rng.random() ** 0.5)


def _is_free(scene: Scene, eye_m: Vector, target_m: Vector) -> bool:
    """Return whether the eye is 0.2 m from all solids and sees at least 45 % of its way ahead."""
    ahead = tuple(0.45 * (b - a) for a, b in zip(eye_m, target_m, strict=True))
    if sum(a * a for a in ahead) < 0.0081:  # the room has pushed the eye onto its target
        return False
    for solid in scene.solids:
        if solid.kind is Kind.HOLLOW and solid.half_m[2] > 1:
            continue  # a wall with a door
        offset = tuple(a - b for a, b in zip(eye_m, solid.center_m, strict=True))
        reach = sum(h for h in solid.half_m) + 0.2
        if any(
            o > reach + abs(a) or o < -reach - abs(a) for o, a in zip(offset, ahead, strict=True)
        ):
            continue
        near, far = 0.0, 1.0
        for axis, half in zip(solid.turn, solid.half_m, strict=True):
            o = axis[0] * offset[0] + axis[1] * offset[1] + axis[2] * offset[2]
            d = axis[0] * ahead[0] + axis[1] * ahead[1] + axis[2] * ahead[2]
            grown = half + 0.1
            if abs(d) < 1e-9:
                if abs(o) > grown:
                    far = -1.0
                continue
            low, high = sorted(((-grown - o) / d, (grown - o) / d))
            near, far = max(near, low), min(far, high)
        if near <= far:
            return False
    return True


def hand_held_path(
    rng: random.Random, view: View, frames: int, rate_hz: float = 30.0
) -> list[View]:
    """Return a short smooth motion of a hand that starts near a view: sway, drift and tremor."""
    drift = [rng.gauss(0, 0.08) for _ in range(6)]  # m/s
    phases = [rng.uniform(0, 2 * math.pi) for _ in range(12)]
    rates = [rng.uniform(0.3, 0.8) for _ in range(6)] + [rng.uniform(2, 4) for _ in range(6)]

    def offset(axis: int, time_s: float) -> float:
        slow = 0.012 * (math.sin(2 * math.pi * rates[axis] * time_s + phases[axis]))
        fast = 0.0015 * (math.sin(2 * math.pi * rates[axis + 6] * time_s + phases[axis + 6]))
        return drift[axis] * time_s + slow + fast

    path = []
    for frame in range(frames):
        moved = [offset(axis, frame / rate_hz) - offset(axis, 0) for axis in range(6)]
        eye = (view.eye_m[0] + moved[0], view.eye_m[1] + moved[1], view.eye_m[2] + moved[2])
        x, y, z = (t + m for t, m in zip(view.target_m, moved[3:], strict=True))
        roll = view.roll_rad + 0.5 * (offset(0, frame / rate_hz) - offset(0, 0))
        path.append(view._replace(eye_m=eye, target_m=(x, y, z), roll_rad=roll))
    return path
