"""Hands as people hold them: shapes, gestures, grasps and places drawn at random.

    python -m training.render.hand_sheet --output hands.png

writes a sheet of pictures. `training.render.hand_images` renders the hands with what is around.
"""

from __future__ import annotations

from enum import IntEnum
from functools import lru_cache
import math

import torch
from torch import Tensor

from .cameras import SENSORS
from .hand_skeleton import (
    ANGLES,
    CUP,
    INDEX,
    LIMITS_DEG,
    MIDDLE,
    PARTS,
    PINKY,
    REFERENCE_LENGTH_MM,
    ROLL,
    SKIN,
    THUMB,
    WRIST_DEVIATION,
    WRIST_FLEXION,
    Hands,
    Shape,
    frames,
    pose,
    turn_x,
    turn_y,
    turn_z,
)

__all__ = ['Hands', 'Kind', 'sample_angles', 'sample_hands', 'sample_intrinsics', 'sample_shapes']

_CURL_DEG = (78.0, 98.0, 62.0)
"""A finger bent as far as in a fist."""


class Kind(IntEnum):
    """What a hand does."""

    OPEN = 0
    FIST = 1
    POINT = 2
    PINCH = 3
    GRASP = 4
    """Around a cylinder or a ball."""
    COUNT = 5
    RELAXED = 6
    FREE = 7
    """Each finger somewhere between two of the others."""


KIND_SHARES = (0.2, 0.08, 0.08, 0.1, 0.16, 0.1, 0.1, 0.18)
"""How often each kind is drawn."""


class Draw:
    """Random numbers of a generator, on its device.

    Args:
        generator: Or a seed.
    """

    def __init__(self, generator: torch.Generator | int) -> None:
        if isinstance(generator, int):
            generator = torch.Generator().manual_seed(generator)
        self.generator = generator
        self.device = generator.device

    def uniform(self, low: float, high: float, *size: int) -> Tensor:
        """Numbers between two ends."""
        draw = torch.rand(size, generator=self.generator, device=self.device)
        return low + (high - low) * draw

    def normal(self, spread: float, *size: int) -> Tensor:
        """Gaussian numbers, none beyond 2.5 standard deviations."""
        draw = torch.randn(size, generator=self.generator, device=self.device)
        return spread * draw.clamp(-2.5, 2.5)

    def chance(self, share: float, *size: int) -> Tensor:
        """True as often as the share says."""
        return self.uniform(0, 1, *size) < share

    def choice(self, shares: tuple[float, ...], count: int) -> Tensor:
        """Numbers of items drawn by their shares."""
        weights = torch.tensor(shares, device=self.device)
        return torch.multinomial(weights, count, replacement=True, generator=self.generator)

    def direction(self, count: int) -> Tensor:
        """Unit vectors (count, 3), all alike likely."""
        draw = torch.randn((count, 3), generator=self.generator, device=self.device)
        return torch.nn.functional.normalize(draw, dim=1)


# ----------------------------------------------------------------------------------------- shapes


def sample_shapes(generator: torch.Generator | int, count: int) -> Shape:
    """Draw sizes of hands 160 to 210 mm long, as many right as left."""
    draw = Draw(generator)
    scale = draw.uniform(160, 210, count) / REFERENCE_LENGTH_MM
    girth = 1.02 + draw.normal(0.07, count)
    bones = torch.exp(draw.normal(0.04, count, 5, 3) + draw.normal(0.02, count, 5, 1))
    return Shape.scaled(draw.chance(0.5, count), scale, girth, bones)


# ----------------------------------------------------------------------------------------- angles


def sample_angles(generator: torch.Generator | int, count: int) -> tuple[Tensor, Tensor]:
    """Draw what hands do.

    Returns:
        (B, 24) radians, within `LIMITS_DEG`, and (B,) the `Kind` of each.
    """
    draw = Draw(generator)
    device = draw.device
    kind = draw.choice(KIND_SHARES, count)
    poses = torch.stack(
        [f(draw, count) for f in (_open, _fist, _point, _pinch, _grasp, _counting, _relaxed)], 1
    )
    row = torch.arange(count, device=device)
    angles = poses[row, kind.clamp_max(Kind.RELAXED)]

    # Free poses: per finger between two kinds, the thumb's roll with the thumb.
    other, another = (draw.choice(KIND_SHARES[: Kind.FREE], count) for _ in range(2))
    share = draw.uniform(0, 1, count, 1) + draw.normal(0.25, count, 5)
    share = share.clamp(0, 1).repeat_interleave(4, 1)
    share = torch.cat([share, share[:, :1], draw.uniform(0, 1, count, 3)], 1)
    between = torch.lerp(poses[row, other], poses[row, another], share)
    angles = torch.where(kind[:, None] == Kind.FREE, between, angles)

    careful = ((kind == Kind.PINCH) | (kind == Kind.GRASP))[:, None]
    angles = angles + draw.normal(5.0, count, ANGLES) * torch.where(careful, 0.3, 1.0)
    angles[:, WRIST_FLEXION] = draw.normal(18.0, count)
    angles[:, WRIST_DEVIATION] = draw.normal(9.0, count)
    limits = LIMITS_DEG.to(device)
    angles = torch.deg2rad(angles.clamp(limits[:, 0], limits[:, 1]))
    return untangled(angles), kind


def _fingers(draw: Draw, count: int, curl: Tensor) -> Tensor:
    """Poses in degrees, (B, 24), of fingers bent from 0, straight, to 1, as in a fist.

    Args:
        draw: Random numbers.
        count: B.
        curl: (B, 4).
    """
    angles = torch.zeros(count, ANGLES, device=draw.device)
    # Straight fingers may be spread, bent ones may not.
    spread = draw.uniform(-0.35, 1.15, count, 1) * torch.tensor([10, 2, -6, -12.0]).to(curl)
    bend = curl[..., None] * torch.tensor(_CURL_DEG).to(curl)
    bend = bend * (1 + draw.normal(0.06, count, 4, 1)) + draw.normal(4.0, count, 4, 3)
    # The last joint has no muscle of its own: it follows the one before it.
    bend[..., 2] = 2 / 3 * bend[..., 1] + draw.normal(5.0, count, 4)
    spread = spread * (1 - curl).clamp(0, 1)
    angles[:, INDEX : PINKY + 4] = torch.cat([spread[..., None], bend], 2).flatten(1)
    angles[:, CUP] = 9 * curl[:, 2:].mean(1)
    return _thumb(angles, *(draw.uniform(*span, count) for span in _THUMB_OUT_DEG))


_THUMB_OUT_DEG = ((20, 60), (0, 35), (-5, 20), (-10, 25), (-90, -60))


def _thumb(angles: Tensor, *thumb: Tensor) -> Tensor:
    angles[:, THUMB : THUMB + 4] = torch.stack(thumb[:4], 1)
    angles[:, ROLL] = thumb[4]
    return angles


def _open(draw: Draw, count: int) -> Tensor:
    return _fingers(
        draw, count, draw.normal(0.05, count, 4).abs() + draw.uniform(0, 0.1, count, 1)
    )


def _relaxed(draw: Draw, count: int) -> Tensor:
    step = torch.tensor([0, 0.04, 0.08, 0.1], device=draw.device)
    curl = draw.uniform(0.1, 0.65, count, 1) + step + draw.normal(0.06, count, 4)
    angles = _fingers(draw, count, curl.clamp(0, 1))
    angles[:, THUMB + 1] += 10
    return angles


def _fist(draw: Draw, count: int) -> Tensor:
    angles = _fingers(draw, count, draw.uniform(0.85, 1.0, count, 1) + draw.normal(0.03, count, 4))
    return _thumb_over(draw, angles, out_share=0.3)


def _point(draw: Draw, count: int) -> Tensor:
    curl = draw.uniform(0.75, 1.0, count, 1) + draw.normal(0.05, count, 4)
    curl[:, 0] = draw.uniform(-0.03, 0.15, count)
    return _thumb_over(draw, _fingers(draw, count, curl), out_share=0.4)


def _counting(draw: Draw, count: int) -> Tensor:
    bent = draw.chance(0.5, count, 4).float()
    curl = bent * draw.uniform(0.8, 1.0, count, 1) + draw.normal(0.04, count, 4)
    return _thumb_over(draw, _fingers(draw, count, curl), out_share=0.5)


def _pinch(draw: Draw, count: int) -> Tensor:
    others = draw.uniform(-0.02, 0.9, count, 1) + draw.normal(0.05, count, 4)
    angles = _fingers(draw, count, others)
    both = draw.chance(0.4, count)
    bends = ((45, 62), (42, 62), (20, 42))
    bend = torch.stack([draw.uniform(*span, count) for span in bends], 1)
    angles[:, INDEX + 1 : INDEX + 4] = bend
    also = bend + draw.normal(3.0, count, 3)
    angles[:, MIDDLE + 1 : MIDDLE + 4] = torch.where(
        both[:, None], also, angles[:, MIDDLE + 1 : MIDDLE + 4]
    )
    angles[:, [INDEX, MIDDLE]] = draw.normal(3.0, count, 2)
    rotation, place = _of_reference(angles)
    # Pads meet: the thumb's centre is two radii from the finger's, on its palmar side.
    gap_m = draw.uniform(0.013, 0.022, count)[:, None]
    target_m = place[:, 8] + gap_m * rotation[:, 8, :, 2]
    return _thumb_to(angles, target_m)


def _grasp(draw: Draw, count: int) -> Tensor:
    radius_mm = draw.uniform(12, 45, count)
    ball = draw.chance(0.4, count)
    around_mm = radius_mm + 9
    # A bone of length l that lies on a circle of radius r turns by 2 atan(l / 2 r).
    turns = [2 * torch.rad2deg(torch.atan(half_mm / around_mm)) for half_mm in (21.0, 12.0, 9.0)]
    fingers = torch.zeros(count, 4, 4, device=draw.device)
    spread = torch.tensor([9, 2, -5, -14.0], device=draw.device)
    wide = torch.where(ball, (around_mm - 15) / 35, 0.0)[:, None]
    fingers[..., 0] = spread * wide
    fingers[..., 1] = (0.5 * turns[0] + 14)[:, None] + draw.normal(4.0, count, 4)
    fingers[..., 2] = (0.5 * (turns[0] + turns[1]))[:, None] + draw.normal(3.0, count, 4)
    fingers[..., 3] = (0.5 * (turns[1] + turns[2]))[:, None] + draw.normal(3.0, count, 4)
    angles = _fingers(draw, count, torch.zeros(count, 4, device=draw.device))
    angles[:, INDEX : PINKY + 4] = fingers.flatten(1)
    angles[:, CUP] = 6
    # The thumb closes on the other side: across from the index and the middle finger.
    _, place = _of_reference(angles)
    center_m = torch.zeros(count, 3, device=draw.device)
    center_m[:, 0], center_m[:, 1] = 0.018, 0.082
    center_m[:, 2] = 1e-3 * (12 + radius_mm)
    away = center_m - place[:, 7]
    away = away / away.norm(dim=1, keepdim=True)
    return _thumb_to(angles, center_m + 1e-3 * (radius_mm + 10)[:, None] * away)


def _thumb_over(draw: Draw, angles: Tensor, out_share: float) -> Tensor:
    """Lay the thumb over the middle bone of a bent finger, or leave it out."""
    count = len(angles)
    rotation, place = _of_reference(angles)
    over = []
    for joint in (6, 10):
        middle_m = torch.lerp(
            place[:, joint], place[:, joint + 1], draw.uniform(0.1, 0.7, count, 1)
        )
        # The side of a curled finger's middle bone that looks out of the palm is its back.
        over.append(middle_m - 0.021 * rotation[:, joint, :, 2])
    target_m = torch.where(draw.chance(0.5, count)[:, None], over[0], over[1])
    return torch.where(draw.chance(out_share, count)[:, None], angles, _thumb_to(angles, target_m))


def _of_reference(angles_deg: Tensor) -> tuple[Tensor, Tensor]:
    limits = LIMITS_DEG.to(angles_deg.device)
    inside = torch.deg2rad(angles_deg.clamp(limits[:, 0], limits[:, 1]))
    return frames(Shape.reference(len(inside), angles_deg.device), inside)


def _thumb_to(angles: Tensor, target_m: Tensor) -> Tensor:
    """Return poses in degrees whose thumb's tip is as near a place as it comes.

    Args:
        angles: (B, 24) degrees.
        target_m: (B, 3) of the hand of reference.
    """
    table_deg, tips_m = (value.to(angles.device) for value in _thumbs())
    middle = 0.5 * (table_deg.amin(0) + table_deg.amax(0))
    strain = ((table_deg - middle) / (table_deg.amax(0) - middle)).square().mean(1)
    cost = (target_m[:, None] - tips_m).square().sum(2) + 4e-6 * strain
    return _thumb(angles.clone(), *table_deg[cost.argmin(1)].unbind(1))


@lru_cache
def _thumbs() -> tuple[Tensor, Tensor]:
    """Thumbs all over their range: (N, 5) degrees, roll last, and their tips (N, 3)."""
    draw = Draw(0)
    spans = [THUMB, THUMB + 1, THUMB + 2, THUMB + 3, ROLL]
    table = torch.stack([draw.uniform(*LIMITS_DEG[column].tolist(), 4000) for column in spans], 1)
    # Palmar abduction turns the thumb's pad to the fingers.
    table[:, 4] = (-65 - 0.6 * (table[:, 1] - 20) + draw.normal(8, 4000)).clamp(-105, -25)
    angles = _thumb(torch.zeros(4000, ANGLES), *table.unbind(1))
    return table, _of_reference(angles)[1][:, 4]


# ------------------------------------------------------------------------------ self-intersection


def _pairs() -> tuple[Tensor, Tensor]:
    """Capsules that should not run into each other: thumb and fingers; fingers and the palm."""
    parts = [part for part, *_ in SKIN]
    palm, metacarpal, first = (PARTS.index(n) for n in ('palm', 'thumb_metacarpal', PARTS[5]))
    thumbs = [i for i, part in enumerate(parts) if metacarpal < part < first]
    fingers = [i for i, part in enumerate(parts) if part >= first]
    # The first of the palm's are its bones; webs and pads give way.
    bones = [i for i, part in enumerate(parts) if part == palm][:4]
    thumb = [(i, j) for i in thumbs for j in fingers]
    thumb += [(i, j) for i in thumbs[1:] for j in bones]
    others = [
        (i, j)
        for i in fingers
        for j in fingers
        if (parts[i] - first) // 3 > (parts[j] - first) // 3
    ]
    others += [(i, j) for i in fingers if (parts[i] - first) % 3 for j in bones]
    return torch.tensor(thumb).T, torch.tensor(others).T


_THUMB_CLASHES, _FINGER_CLASHES = _pairs()
"""(2, N) capsules of `SKIN` each."""


def penetration_m(shape: Shape, angles: Tensor) -> tuple[Tensor, Tensor]:
    """Return how deep the thumb, and how deep other fingers run into something, (B,) metres."""
    device = angles.device
    eye = torch.eye(3, device=device).expand(len(angles), 3, 3)
    hands = pose(shape, angles, eye, torch.zeros(len(angles), 3, device=device))
    share = torch.linspace(0, 1, 5, device=device)

    def deepest(pairs: Tensor) -> Tensor:
        first, second = pairs.to(device)
        start_m, end_m = hands.capsules_m[:, first, None].unbind(3)
        points_m = torch.lerp(start_m, end_m, share[:, None])
        radii_m = torch.lerp(hands.radii_m[:, first, :1], hands.radii_m[:, first, 1:], share)
        start_m, end_m = hands.capsules_m[:, second, None].unbind(3)
        axis = end_m - start_m
        along = ((points_m - start_m) * axis).sum(3) / axis.square().sum(3).clamp_min(1e-12)
        along = along.clamp(0, 1)
        distance_m = (points_m - start_m - along[..., None] * axis).norm(dim=3)
        other_m = torch.lerp(hands.radii_m[:, second, :1], hands.radii_m[:, second, 1:], along)
        deep_m: Tensor = (radii_m + other_m - distance_m).amax((1, 2))
        return deep_m.clamp_min(0)

    return deepest(_THUMB_CLASHES), deepest(_FINGER_CLASHES)


_EASE_DEG = (
    (40, 22, 5, 5),
    (6, 20, 30, 20),
    (1, 20, 30, 20),
    (-4, 20, 30, 20),
    (-8, 20, 30, 20),
)
"""A pose in which nothing touches."""


def untangled(angles: Tensor, rounds: int = 8, allowed_m: float = 0.004) -> Tensor:
    """Open hands, a little in each round, until no finger runs into another.

    Flesh gives way: up to `allowed_m` is left as it is. Judged on the hand of reference.

    Args:
        angles: (B, 24) radians.
        rounds: At most.
        allowed_m: How deep fingers may run into each other.
    """
    ease = torch.deg2rad(torch.tensor(_EASE_DEG, device=angles.device).flatten().float())
    ease = torch.cat([ease, torch.tensor([-1.2, 0, 0, 0], device=ease.device)])
    column = torch.arange(ANGLES, device=angles.device)
    of_thumb = (column < INDEX) | (column == ROLL)
    of_fingers = (column >= INDEX) & (column < ROLL)
    shape = Shape.reference(len(angles), angles.device)
    for _ in range(rounds):
        thumb_m, fingers_m = penetration_m(shape, angles)
        wrong = (thumb_m > allowed_m)[:, None] & of_thumb
        wrong |= (fingers_m > allowed_m)[:, None] & of_fingers
        angles = torch.where(wrong, torch.lerp(angles, ease, 0.2), angles)
    return angles


# ----------------------------------------------------------------------------------------- places


def sample_intrinsics(
    generator: torch.Generator | int, count: int, height: int = 480, width: int = 640
) -> Tensor:
    """Draw cameras like those of `cameras.SENSORS`, (B, 3, 3), for images of this size."""
    draw = Draw(generator)
    sensors = list(SENSORS.values())
    drawn = draw.choice(tuple(sensor.share for sensor in sensors), count)
    spans = torch.tensor([[f / s.width_px for f in s.focal_px] for s in sensors])
    spans = spans.to(draw.device)[drawn]
    focal = width * torch.lerp(spans[:, 0], spans[:, 1], draw.uniform(0, 1, count))
    result = torch.zeros(count, 3, 3, device=draw.device)
    result[:, 0, 0] = result[:, 1, 1] = focal
    result[:, 0, 2] = 0.5 * (width - 1) + draw.normal(0.01 * width, count)
    result[:, 1, 2] = 0.5 * (height - 1) + draw.normal(0.01 * width, count)
    result[:, 2, 2] = 1
    return result


def sample_turns(generator: torch.Generator | int, count: int) -> Tensor:
    """Draw rotations (B, 3, 3) from a hand's frame to that of a camera that looks at it.

    Most are of raised hands, palm towards the camera, and of backs of hands, seen from above or
    by their owner; the others are any. The forearm never comes from behind the camera.
    """
    draw = Draw(generator)
    device = draw.device
    about = math.radians(1)
    toward = torch.diag(torch.tensor([1.0, -1, -1], device=device))  # Palm to the camera, up.
    back = torch.diag(torch.tensor([-1.0, -1, 1], device=device))

    def jittered(base: Tensor, roll_deg: Tensor, spread_deg: float) -> Tensor:
        tilt = turn_x(about * draw.normal(spread_deg, count))
        yaw = turn_y(about * draw.normal(spread_deg, count))
        return turn_z(about * roll_deg) @ tilt @ yaw @ base

    raised = jittered(toward, draw.normal(35, count), 30)
    backs = jittered(back, draw.normal(40, count), 30)
    tables = jittered(back, draw.uniform(-180, 180, count), 25)
    axis, turn = draw.direction(count), draw.uniform(-math.pi, math.pi, count)
    skew = torch.zeros(count, 3, 3, device=device)
    skew[:, [2, 0, 1], [1, 2, 0]] = axis
    skew[:, [1, 2, 0], [2, 0, 1]] = -axis
    anyhow: Tensor = torch.linalg.matrix_exp(turn[:, None, None] * skew)
    drawn = draw.choice((0.4, 0.15, 0.2, 0.25), count)
    row = torch.arange(count, device=device)
    turns: Tensor = torch.stack([raised, backs, tables, anyhow], 1)[row, drawn]
    # Where fingers point far away from the camera, the arm would come from behind it.
    behind = turns[:, 2, 1] > 0.55
    half = torch.diag(torch.tensor([1.0, -1, -1], device=device))
    return torch.where(behind[:, None, None], half @ turns, turns)


_NEAREST_M = 0.1
"""No part of an arm is nearer to the camera."""


def sample_hands(
    generator: torch.Generator | int,
    count: int,
    *,
    intrinsics: Tensor | None = None,
    height: int = 480,
    width: int = 640,
    distance_m: tuple[float, float] = (0.25, 1.5),
    right: Tensor | None = None,
) -> tuple[Hands, Tensor]:
    """Draw hands of all shapes, poses and places.

    Args:
        generator: Or a seed; its device is the result's.
        count: Hands, one of each camera.
        intrinsics: (B, 3, 3) pixels; drawn by `sample_intrinsics` unless given.
        height: Rows of the cameras' images.
        width: Columns.
        distance_m: Depth of the knuckles of the middle fingers along the optical axes; more where
            the arm would reach the camera.
        right: (B,) bool, which hands; drawn unless given.

    Returns:
        The hands, and the intrinsics.
    """
    draw = Draw(generator)
    if intrinsics is None:
        intrinsics = sample_intrinsics(draw.generator, count, height, width)
    shape = sample_shapes(draw.generator, count)
    shape = shape if right is None else shape._replace(right=right)
    angles, _ = sample_angles(draw.generator, count)
    turn = sample_turns(draw.generator, count)
    # Log-uniform: the sizes in pixels are then spread evenly.
    z = torch.exp(draw.uniform(math.log(distance_m[0]), math.log(distance_m[1]), count))
    u = draw.uniform(0.12, 0.88, count) * width
    v = draw.uniform(0.12, 0.88, count) * height
    x = (u - intrinsics[:, 0, 2]) / intrinsics[:, 0, 0]
    y = (v - intrinsics[:, 1, 2]) / intrinsics[:, 1, 1]
    ray = torch.stack([x, y, torch.ones_like(x)], 1)
    # Hands are seen along the ray to them, not along the optical axis.
    turn = turn_y(torch.atan(x)) @ turn_x(-torch.atan(y)) @ turn
    hands = pose(shape, angles, turn, torch.zeros_like(ray))
    hands = moved(hands, z[:, None] * ray - hands.joints_m[:, 9])
    nearest_m = (hands.capsules_m[..., 2] - hands.radii_m).amin((1, 2))
    return moved(hands, (_NEAREST_M - nearest_m).clamp_min(0)[:, None] * ray), intrinsics


def moved(hands: Hands, offset_m: Tensor) -> Hands:
    """Return the hands elsewhere.

    Args:
        hands: Hands.
        offset_m: (B, 3).
    """
    return hands._replace(
        joints_m=hands.joints_m + offset_m[:, None],
        capsules_m=hands.capsules_m + offset_m[:, None, None],
    )
