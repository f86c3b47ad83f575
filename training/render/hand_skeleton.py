"""A hand that can be posed: its bones, the limits of its joints, and its skin of tapered capsules.

The frame of a right hand has x towards the thumb, y towards the fingertips and z out of the palm,
with its origin at the wrist; a left hand is its mirror image in x. Joints are the usual 21, as
MediaPipe orders them: the wrist, then four of each finger from the thumb, base to tip.
"""

from __future__ import annotations

from itertools import pairwise
from typing import NamedTuple

import torch
from torch import Tensor

FINGERS = ('thumb', 'index', 'middle', 'ring', 'pinky')
JOINTS = (
    'wrist',
    *(f'thumb_{joint}' for joint in ('cmc', 'mcp', 'ip', 'tip')),
    *(f'{finger}_{joint}' for finger in FINGERS[1:] for joint in ('mcp', 'pip', 'dip', 'tip')),
)
BONES = tuple((0 if n % 4 == 1 else n - 1, n) for n in range(1, 21))
"""Pairs of joints to draw lines between."""

PARTS = (
    'forearm',
    'palm',
    *(f'thumb_{bone}' for bone in ('metacarpal', 'proximal', 'distal')),
    *(f'{finger}_{bone}' for finger in FINGERS[1:] for bone in ('proximal', 'middle', 'distal')),
)
"""Labels of pixels; -1 is whatever is no part of the hand."""

# ------------------------------------------------------------------------------------ dimensions

REFERENCE_LENGTH_MM = 187.0
"""From the wrist to the end of the middle finger of the hand that lengths below describe: between
the means of women (181) and men (193) in ANSUR II, Gordon et al. 2014; hands of both sexes' 1st to
99th percentiles are 162 to 212 mm long."""
BASES_MM = (
    (17.0, 20.0, 9.0),
    (24.0, 96.0, 1.0),
    (2.5, 94.5, -1.5),
    (-16.0, 85.5, 0.0),
    (-33.5, 76.0, 3.0),
)
"""Where the chain of each finger starts: the saddle joint of the thumb, the knuckles (MCP) of the
others, as far from the carpus as metacarpal bones (68, 65, 58, 54 mm) are long, and as wide apart
as makes a hand's breadth of 82 mm (ANSUR II: 79 for women, 88 for men)."""
TIP_RADII_MM = (8.4, 7.0, 7.3, 7.0, 6.2)
LENGTHS_MM = (
    (46.2, 31.6, 27.3),
    (39.8, 22.4, 19.7),
    (44.6, 26.3, 21.4),
    (41.4, 25.7, 21.3),
    (32.7, 18.1, 19.7),
)
"""Bones of each chain; the last with the soft tissue of the fingertip: Buryanov and Kotiuk,
"Proportions of Hand Segments", Int. J. Morphology 28(3), 2010. The tip joint is the centre of the
sphere that ends the finger, one radius short of this."""
RADII_MM = (
    (13.5, 12.4, 10.6),
    (11.6, 9.8, 8.4),
    (11.8, 10.0, 8.6),
    (11.4, 9.6, 8.2),
    (10.4, 8.5, 7.3),
)
"""Half the thickness of each chain at its first three joints, chosen by eye: they make
fingers 16 to 20 mm thick, and a palm of 25."""
SPLAY_DEG = (0.0, 3.0, 0.0, -3.0, -8.0)
"""Where fingers point when they are neither spread nor closed, towards the thumb."""

# ---------------------------------------------------------------------------------------- angles

THUMB, INDEX, MIDDLE, RING, PINKY = range(0, 20, 4)
"""Columns of each finger's first angle. A finger has four: abduction (to the thumb's side), and
flexion of three joints. The thumb's are: away from the index finger within the palm's plane, out
of this plane, and flexion of two joints."""
ROLL, CUP, WRIST_FLEXION, WRIST_DEVIATION = range(20, 24)
"""Columns: turn of the thumb about itself, hollowing of the palm (CMC joints of ring and little
finger), bending of the wrist to the palm and to the thumb."""
ANGLES = 24

_FINGER_LIMITS_DEG = [(-20, 20), (-10, 90), (0, 110), (-5, 80)]
LIMITS_DEG = torch.tensor(
    [
        (-5, 65), (-10, 60), (-10, 60), (-15, 80),
        *(_FINGER_LIMITS_DEG * 4),
        (-105, -25), (0, 15), (-70, 70), (-20, 30),
    ],
    dtype=torch.float32,
)  # fmt: skip
"""Anatomical limits, (24, 2): American Academy of Orthopaedic Surgeons, "Joint Motion", 1965,
rounded; also the ranges of Lin, Wu and Huang, "Modeling the Constraints of Human Hand Motion",
2000."""

# ------------------------------------------------------------------------------------------ skin

FOREARM_FRAME = 21


class Ball(NamedTuple):
    """An end of a capsule.

    Attributes:
        frame: Joint whose frame carries it (that of the bone after it), or `FOREARM_FRAME`.
        offset_mm: In this frame, on the hand of reference.
        radius_mm: On the hand of reference.
    """

    frame: int
    offset_mm: tuple[float, float, float]
    radius_mm: float


def _skin() -> list[tuple[int, Ball, Ball]]:
    palm, forearm = PARTS.index('palm'), PARTS.index('forearm')
    skin = []
    for finger in range(5):
        balls = [
            Ball(1 + 4 * finger + n, (0, 0, 0), radius)
            for n, radius in enumerate((*RADII_MM[finger], TIP_RADII_MM[finger]))
        ]
        skin += [(2 + 3 * finger + n, balls[n], balls[n + 1]) for n in range(3)]
    # Metacarpal bones and what covers them.
    bases = ((12, 29, 1), (1.5, 30, -1), (-8, 28, 0), (-16, 25, 3))
    for finger, base in enumerate(bases, 1):
        knuckle = RADII_MM[finger][0] + 0.8
        skin.append((palm, Ball(0, base, 13), Ball(1 + 4 * finger, (0, 0, 0), knuckle)))
    skin += [
        # Carpus, ball of the little finger, pad below the knuckles.
        (palm, Ball(0, (10, 12, 1), 16), Ball(0, (-10, 12, 1), 16)),
        (palm, Ball(0, (-15, 18, 4.5), 14), Ball(0, (-28, 62, 3.5), 12)),
        (palm, Ball(0, (19, 84, 2), 11.5), Ball(0, (-26, 70, 3.5), 11.5)),
        (palm, Ball(0, (12, 60, 1), 12.5), Ball(0, (-22, 52, 2), 12.5)),
        (palm, Ball(0, (10, 44, 1.5), 13), Ball(0, (-16, 36, 2), 13.5)),
        # Ball of the thumb, and its web.
        (palm, Ball(0, (9, 27, 9), 11.5), Ball(2, (0, -10, 0), 11.5)),
        (palm, Ball(0, (13, 40, 6), 11), Ball(2, (0, -16, 0), 11)),
        (palm, Ball(0, (19, 56, 2), 10), Ball(2, (0, -14, 0), 9)),
        (palm, Ball(0, (22, 68, 1), 9), Ball(2, (0, -8, 0), 8)),
    ]
    # Webs between the fingers.
    for finger in range(1, 4):
        skin.append(
            (
                palm,
                Ball(1 + 4 * finger, (0, 13, 1), 7.5),
                Ball(5 + 4 * finger, (0, 13 if finger < 3 else 10, 1), 7.2),
            )
        )
    for side in (1, 0, -1):
        balls = [
            Ball(FOREARM_FRAME, (side * across, along, 0), radius + (side == 0))
            for across, along, radius in (
                (10, 8, 17.5),
                (12, -50, 20),
                (13, -150, 32),
                (6, -240, 37),
            )
        ]
        skin += [(forearm, a, b) for a, b in pairwise(balls)]
    return skin


SKIN = _skin()
CAPSULE_PARTS = torch.tensor([part for part, _, _ in SKIN])
"""(C,) part of each capsule, an index into `PARTS`."""
_SKIN_FRAME = torch.tensor([[ball.frame for ball in balls] for _, *balls in SKIN])
_SKIN_OFFSET_MM = torch.tensor([[ball.offset_mm for ball in balls] for _, *balls in SKIN])
_SKIN_RADIUS_MM = torch.tensor([[float(ball.radius_mm) for ball in balls] for _, *balls in SKIN])


class Shape(NamedTuple):
    """Sizes of a batch of hands, right or left.

    Attributes:
        right: (B,) bool.
        scale: (B,) size relative to the hand of reference.
        girth: (B,) thickness relative to that of a hand of this size.
        bases_m: (B, 5, 3) where the chains of the fingers start, of a right hand.
        lengths_m: (B, 5, 3) bones of the chains, the last to the centre of the fingertip.
    """

    right: Tensor
    scale: Tensor
    girth: Tensor
    bases_m: Tensor
    lengths_m: Tensor

    @classmethod
    def reference(cls, count: int = 1, device: torch.device | str = 'cpu') -> Shape:
        """Right hands, 187 mm long."""
        ones = torch.ones(count, device=device)
        return cls.scaled(ones > 0, ones, ones, ones[:, None, None])

    @classmethod
    def scaled(cls, right: Tensor, scale: Tensor, girth: Tensor, bones: Tensor) -> Shape:
        """Hands of a size.

        Args:
            right: (B,) bool.
            scale: (B,).
            girth: (B,).
            bones: (B, 5, 3) or broadcast to it, factors of the lengths of bones.
        """
        device, size = scale.device, scale[:, None, None]
        lengths_mm = torch.tensor(LENGTHS_MM, device=device) * bones
        lengths_mm = lengths_mm * size
        lengths_mm[..., 2] -= torch.tensor(TIP_RADII_MM, device=device) * (scale * girth)[:, None]
        bases_mm = torch.tensor(BASES_MM, device=device) * size
        return cls(right, scale, girth, 1e-3 * bases_mm, 1e-3 * lengths_mm)

    @property
    def joint_radii_m(self) -> Tensor:
        """(B, 21) how far the skin is from each joint, about."""
        device = self.scale.device
        tips_mm = torch.tensor(TIP_RADII_MM, device=device)[:, None]
        chains_mm = torch.cat([torch.tensor(RADII_MM, device=device), tips_mm], 1)
        radii_mm = torch.cat([torch.tensor([18.0], device=device), chains_mm.flatten()])
        return 1e-3 * radii_mm * (self.scale * self.girth)[:, None]


class Hands(NamedTuple):
    """A batch of posed hands in the frames of their cameras (x right, y down, z forward), metres.

    Attributes:
        joints_m: (B, 21, 3), ordered as `JOINTS`.
        right: (B,) bool.
        capsules_m: (B, C, 2, 3) the ends of the tapered capsules that skin them.
        radii_m: (B, C, 2) radii at the ends.
        parts: (C,) what each capsule belongs to, an index into `PARTS`.
        joint_radii_m: (B, 21) how far the skin is from each joint, about.
        camera_from_hand: (B, 3, 3) rotation from the hand's frame, a mirroring for left hands.
        angles: (B, 24) of the joints, radians.
        shape: Sizes.
    """

    joints_m: Tensor
    right: Tensor
    capsules_m: Tensor
    radii_m: Tensor
    parts: Tensor
    joint_radii_m: Tensor
    camera_from_hand: Tensor
    angles: Tensor
    shape: Shape

    def take(self, rows: Tensor) -> Hands:
        """Return some of the hands."""
        shape = Shape(*(value[rows] for value in self.shape))
        picked = {
            name: value[rows]
            for name, value in self._asdict().items()
            if name not in ('parts', 'shape')
        }
        return Hands(parts=self.parts, shape=shape, **picked)

    def to(self, device: torch.device | str) -> Hands:
        """Return the same hands on another device."""
        shape = Shape(*(value.to(device) for value in self.shape))
        moved = {k: v.to(device) for k, v in self._asdict().items() if k != 'shape'}
        return Hands(shape=shape, **moved)


# ------------------------------------------------------------------------------------ kinematics


def turn_x(angle: Tensor) -> Tensor:
    """Rotations (..., 3, 3) about x, from y towards z."""
    return _turn(angle, 1, 2)


def turn_y(angle: Tensor) -> Tensor:
    """Rotations (..., 3, 3) about y, from z towards x."""
    return _turn(angle, 2, 0)


def turn_z(angle: Tensor) -> Tensor:
    """Rotations (..., 3, 3) about z, from x towards y."""
    return _turn(angle, 0, 1)


def _turn(angle: Tensor, first: int, second: int) -> Tensor:
    turn = torch.zeros(*angle.shape, 3, 3, device=angle.device)
    cosine, sine = angle.cos(), angle.sin()
    turn[..., 3 - first - second, 3 - first - second] = 1
    turn[..., first, first] = turn[..., second, second] = cosine
    turn[..., second, first], turn[..., first, second] = sine, -sine
    return turn


def frames(shape: Shape, angles: Tensor) -> tuple[Tensor, Tensor]:
    """Return the frames of all joints and of the forearm, in the frame of a right hand.

    Args:
        shape: Of B hands.
        angles: (B, 24) radians.

    Returns:
        Rotations (B, 22, 3, 3), whose columns are the axes of the bone after each joint, and
        positions (B, 22, 3), metres.
    """
    device, count = angles.device, len(angles)
    none = torch.zeros(count, device=device)
    cup = angles[:, CUP]
    # The palm hollows where the metacarpal bones of ring and little finger start.
    hollow = turn_x(torch.stack([none, none, none, 0.5 * cup, cup], 1))  # (B, 5, 3, 3)
    root = shape.scale[:, None, None] * torch.tensor([0, 0.028, 0], device=device)
    bases = (hollow @ (shape.bases_m - root)[..., None])[..., 0] + root

    splay = torch.deg2rad(torch.tensor(SPLAY_DEG, device=device))
    chains = angles[:, :20].reshape(count, 5, 4)
    turn = hollow @ turn_z(-(chains[..., 0] + splay)) @ turn_x(chains[..., 1])
    thumb = turn[:, 0] @ turn_y(angles[:, ROLL])
    turn = torch.cat([thumb[:, None], turn[:, 1:]], 1)
    turns, places = [turn], [bases]
    for n in range(3):
        places.append(places[-1] + turns[-1][..., 1] * shape.lengths_m[..., n : n + 1])
        bend = turn_x(chains[..., n + 2]) if n < 2 else None
        turns.append(turns[-1] if bend is None else turns[-1] @ bend)

    wrist = torch.eye(3, device=device).expand(count, 1, 3, 3)
    forearm = turn_z(angles[:, WRIST_DEVIATION]) @ turn_x(-angles[:, WRIST_FLEXION])
    origin = torch.zeros(count, 1, 3, device=device)
    rotation = torch.cat([wrist, torch.stack(turns, 2).flatten(1, 2), forearm[:, None]], 1)
    return rotation, torch.cat([origin, torch.stack(places, 2).flatten(1, 2), origin], 1)


def pose(shape: Shape, angles: Tensor, turn: Tensor, wrist_m: Tensor) -> Hands:
    """Return hands with their joints bent, turned and moved in front of cameras.

    Args:
        shape: Of B hands.
        angles: (B, 24) radians.
        turn: (B, 3, 3) rotations from the hand's frame to the camera's.
        wrist_m: (B, 3) in the camera's frame.
    """
    device = angles.device
    rotation, place = frames(shape, angles)
    mirror = torch.ones(len(angles), 3, device=device)
    mirror[~shape.right, 0] = -1
    camera_from_hand = turn * mirror[:, None, :]

    frame = _SKIN_FRAME.to(device)
    offsets_m = 1e-3 * _SKIN_OFFSET_MM.to(device) * shape.scale[:, None, None, None]
    balls_m = place[:, frame] + (rotation[:, frame] @ offsets_m[..., None])[..., 0]
    size = (shape.scale * shape.girth)[:, None, None]

    def seen(points_m: Tensor) -> Tensor:
        flat = points_m.reshape(len(points_m), -1, 3) @ camera_from_hand.mT + wrist_m[:, None]
        return flat.reshape(points_m.shape)

    return Hands(
        joints_m=seen(place[:, :21]),
        right=shape.right,
        capsules_m=seen(balls_m),
        radii_m=1e-3 * _SKIN_RADIUS_MM.to(device) * size,
        parts=CAPSULE_PARTS.to(device),
        joint_radii_m=shape.joint_radii_m,
        camera_from_hand=camera_from_hand,
        angles=angles,
        shape=shape,
    )
