"""Depth images of hands, with what is behind, around and in them.

    hands, intrinsics = sample_hands(0, 64)
    around = sample_surroundings(0, hands, intrinsics)
    images = render_hands(hands, intrinsics, regions_around(hands, intrinsics), around=around)

A `region` of None renders whole images; `background_m` takes any depth images, as of rendered
rooms, and the nearer surface is seen.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from .capsules import crop_intrinsics, rays, render_capsules
from .hand_skeleton import FOREARM_FRAME, PARTS, SKIN, Hands, pose, turn_x, turn_y, turn_z
from .hands import Draw, moved, sample_hands


class Surroundings(NamedTuple):
    """What is not the hand, in the frames of the cameras, metres.

    Attributes:
        capsules_m: (B, C, 2, 3) ends of tapered capsules.
        radii_m: (B, C, 2); 0 is no capsule.
        boxes_m: (B, K, 3) centres of boxes.
        turns: (B, K, 3, 3) whose columns are their axes.
        halves_m: (B, K, 3) half their edges; 0 is no box.
        planes: (B, P, 4) normals n and distances d of planes n p = d; infinite is no plane.
    """

    capsules_m: Tensor
    radii_m: Tensor
    boxes_m: Tensor
    turns: Tensor
    halves_m: Tensor
    planes: Tensor


class HandImages(NamedTuple):
    """Pictures of hands.

    Attributes:
        depth_m: (B, H, W) along the optical axis, NaN where nothing is.
        parts: (B, H, W) int64, an index into `PARTS`; -1 where no part of the hand is seen.
        visible: (B, 21) bool, joints in the picture with nothing else before them than skin.
        joints_px: (B, 21, 2) columns and rows.
        intrinsics: (B, 3, 3) of these pictures.
    """

    depth_m: Tensor
    parts: Tensor
    visible: Tensor
    joints_px: Tensor
    intrinsics: Tensor


SKIN_MARGIN_M = 0.015
"""A joint is visible if what is seen at its pixel is this much nearer than its skin, at most."""


def project(points_m: Tensor, intrinsics: Tensor) -> Tensor:
    """Return columns and rows, (B, N, 2), of points (B, N, 3)."""
    image = points_m @ intrinsics.mT
    return image[..., :2] / image[..., 2:]


def regions_around(hands: Hands, intrinsics: Tensor, margin: float = 1.3) -> Tensor:
    """Return squares around all joints, (B, 4): left, top, right, bottom, pixels.

    Args:
        hands: Hands.
        intrinsics: (B, 3, 3).
        margin: Edge of the square relative to the box that holds the joints.
    """
    joints_px = project(hands.joints_m, intrinsics)
    low, high = joints_px.amin(1), joints_px.amax(1)
    center, half = 0.5 * (low + high), 0.5 * margin * (high - low).amax(1, keepdim=True)
    return torch.cat([center - half, center + half], 1)


@torch.no_grad()
def render_hands(
    hands: Hands,
    intrinsics: Tensor,
    region: Tensor | None = None,
    *,
    height: int = 128,
    width: int = 128,
    around: Surroundings | None = None,
    background_m: Tensor | None = None,
) -> HandImages:
    """Render hands, at the resolution that is wanted.

    Args:
        hands: Hands, one of each camera.
        intrinsics: (B, 3, 3) of the cameras.
        region: (B, 4) left, top, right, bottom of the part of the image to render, pixels; it may
            reach over the edges. All of it unless given.
        height: Rows of the pictures.
        width: Columns.
        around: What else there is.
        background_m: (B, H, W) depth of what is behind, NaN where nothing is.
    """
    if region is not None:
        intrinsics = crop_intrinsics(intrinsics, region, height, width)
    ends_m, radii_m = hands.capsules_m, hands.radii_m
    count = ends_m.shape[1]
    if around is not None:
        ends_m = torch.cat([ends_m, around.capsules_m], 1)
        radii_m = torch.cat([radii_m, around.radii_m], 1)
    depth_m, capsule = render_capsules(ends_m, radii_m, intrinsics, height, width)
    other_m = torch.full_like(depth_m, torch.inf)
    if around is not None:
        other_m = _flat(around, rays(intrinsics, height, width))
    if background_m is not None:
        other_m = other_m.fmin(background_m)
    seen = (capsule >= 0) & (capsule < count) & (depth_m <= other_m)
    parts = torch.where(seen, hands.parts[capsule.clamp(0, count - 1)], -1)
    depth_m = depth_m.fmin(other_m)

    joints_px = project(hands.joints_m, intrinsics)
    column, row = joints_px.round().long().unbind(2)
    inside = (column >= 0) & (column < width) & (row >= 0) & (row < height)
    batch = torch.arange(len(depth_m), device=depth_m.device)[:, None]
    at_m = depth_m[batch, row.clamp(0, height - 1), column.clamp(0, width - 1)]
    reach_m = hands.joint_radii_m + SKIN_MARGIN_M
    visible = inside & ((at_m - hands.joints_m[..., 2]).abs() <= reach_m)
    depth_m = torch.where(depth_m.isfinite(), depth_m, torch.nan)
    return HandImages(depth_m, parts, visible, joints_px, intrinsics)


def _flat(around: Surroundings, ray: Tensor) -> Tensor:
    """Return the depth of boxes and planes along rays (B, H, W, 2), inf where none is."""
    height, width = ray.shape[1:3]
    direction = functional.pad(ray, (0, 1), value=1.0).flatten(1, 2)  # (B, P, 3)
    normals, distance = around.planes[..., :3], around.planes[..., 3:]
    result = torch.full_like(direction[..., 0], torch.inf)
    for plane in range(normals.shape[1]):
        depth_m = distance[:, plane] / (direction @ normals[:, plane, :, None])[..., 0]
        result = torch.where(depth_m > 0, result.fmin(depth_m), result)
    for box in range(around.boxes_m.shape[1]):
        turn = around.turns[:, box]
        own = direction @ turn
        start = -(around.boxes_m[:, box, None] @ turn)
        half = around.halves_m[:, box, None]
        ends = torch.stack([(-half - start) / own, (half - start) / own])
        enter, leave = ends.amin(0).amax(2), ends.amax(0).amin(2)
        hit = (enter < leave) & (enter > 0) & (half > 0).all(2)
        result = torch.where(hit, result.fmin(enter), result)
    return result.reshape(-1, height, width)


# ----------------------------------------------------------------------------------- surroundings

BODY_SHARE, WALL_SHARE, TABLE_SHARE, SECOND_HAND_SHARE = 0.8, 0.55, 0.35, 0.25
HELD_SHARE, OCCLUDER_SHARE = 0.5, 0.08
BOXES, RODS = 3, 3
"""Things of each form around a hand, at most."""
LEAST_SEEN = 0.4
"""Share of a hand that is seen, or nothing is around it."""


def sample_surroundings(
    generator: torch.Generator | int, hands: Hands, intrinsics: Tensor
) -> Surroundings:
    """Draw what is around hands: held objects, bodies, walls, tables, clutter, second hands.

    Args:
        generator: Or a seed.
        hands: Hands.
        intrinsics: (B, 3, 3) of the cameras.
    """
    draw = Draw(generator)
    held_ends, held_radii, held_box, held_turn, held_half = _held(draw, hands)
    body_ends, body_radii = _body(draw, hands)
    rod_ends, rod_radii, boxes, turns, halves = _clutter(draw, hands)
    other_ends, other_radii = _second_hand(draw, hands, intrinsics)
    around = Surroundings(
        torch.cat([held_ends, body_ends, rod_ends, other_ends], 1),
        torch.cat([held_radii, body_radii, rod_radii, other_radii], 1),
        torch.cat([held_box, boxes], 1),
        torch.cat([held_turn, turns], 1),
        torch.cat([held_half, halves], 1),
        _planes(draw, hands),
    )
    # A hand that is hardly to be seen teaches nothing: nothing stands before it then.
    region = regions_around(hands, intrinsics)
    alone, both = (
        (render_hands(hands, intrinsics, region, height=32, width=32, around=a).parts >= 0)
        for a in (None, around)
    )
    clear = both.sum((1, 2)) > LEAST_SEEN * alone.sum((1, 2))
    return around._replace(
        radii_m=around.radii_m * clear[:, None, None],
        halves_m=around.halves_m * clear[:, None, None],
    )


def _held(draw: Draw, hands: Hands) -> tuple[Tensor, ...]:
    """Things in closed hands, as wide as the fingers leave room for: rods, balls, boxes."""
    count, device = len(hands.right), hands.joints_m.device
    none = torch.zeros(count, 3, device=device)
    own = pose(
        hands.shape._replace(right=torch.ones_like(hands.right)),
        hands.angles,
        torch.eye(3, device=device).expand(count, 3, 3),
        none,
    )
    skin = hands.parts != PARTS.index('forearm')
    share = torch.linspace(0, 1, 4, device=device)
    points_m = torch.lerp(
        own.capsules_m[:, skin, None, 0], own.capsules_m[:, skin, None, 1], share[:, None]
    ).flatten(1, 2)
    radii_m = torch.lerp(own.radii_m[:, skin, :1], own.radii_m[:, skin, 1:], share).flatten(1, 2)
    y, z = torch.meshgrid(
        torch.linspace(0.055, 0.125, 8, device=device),
        torch.linspace(0.018, 0.07, 8, device=device),
        indexing='ij',
    )
    places_m = torch.stack([torch.full_like(y, -0.003), y, z], -1).reshape(-1, 3)
    places_m = places_m * hands.shape.scale[:, None, None]  # (B, N, 3)
    offsets_m = places_m[:, :, None] - points_m[:, None]
    ball = draw.chance(0.35, count)
    offsets_m[..., 0] *= ball[:, None, None]
    room_m = (offsets_m.norm(dim=3) - radii_m[:, None]).amin(2)
    room_m = room_m.minimum(draw.uniform(0.012, 0.045, count)[:, None])
    best = (room_m - 0.2 * places_m[..., 2]).argmax(1)
    row = torch.arange(count, device=device)
    radius_m, center_m = room_m[row, best], places_m[row, best]

    bend = hands.angles[:, 4:20].reshape(count, 4, 4)[..., 1:].sum(2).mean(1)
    closed = (bend > math.radians(85)) & (bend < math.radians(250))
    there = closed & (radius_m > 0.004) & draw.chance(HELD_SHARE, count)
    radius_m = torch.where(there, radius_m, 0.0)
    half_m = torch.where(ball, 0.0, draw.uniform(0.03, 0.12, count))
    shift_m = draw.normal(0.3, count) * half_m

    def seen(points_m: Tensor) -> Tensor:
        turned = points_m @ hands.camera_from_hand.mT
        return turned + hands.joints_m[:, :1]

    ends_m = center_m[:, None].repeat(1, 2, 1)
    ends_m[:, 0, 0] += shift_m - half_m
    ends_m[:, 1, 0] += shift_m + half_m
    box = ~ball & draw.chance(0.4, count)
    halves_m = torch.stack([half_m, 0.7 * radius_m, 0.7 * radius_m], 1) * (box & there)[:, None]
    middle_m = seen(ends_m.mean(1, keepdim=True))
    turn = hands.camera_from_hand @ turn_x(draw.uniform(0, math.pi, count))
    rod_radius_m = torch.where(box, 0.0, radius_m)
    return (
        seen(ends_m)[:, None],
        rod_radius_m[:, None, None].repeat(1, 1, 2),
        middle_m,
        turn[:, None],
        halves_m[:, None],
    )


_ELBOW = max(i for i, (_, a, b) in enumerate(SKIN) if b.frame == FOREARM_FRAME) - 3
"""The middle one of the forearm's last capsules."""


def _body(draw: Draw, hands: Hands) -> tuple[Tensor, Tensor]:
    """The owner of the hand: upper arms, trunk, neck and head, as capsules; or the arm alone."""
    count, device = len(hands.right), hands.joints_m.device
    elbow_m = hands.capsules_m[:, _ELBOW, 1]
    side = torch.where(hands.right, 1.0, -1.0)[:, None]
    # The owner faces the camera, more or less, so the right shoulder is on the left of the image.
    yaw, roll, pitch = draw.normal(0.5, count), draw.normal(0.12, count), draw.normal(0.25, count)
    turn = turn_z(roll) @ turn_x(pitch) @ turn_y(yaw)
    size = draw.uniform(0.88, 1.12, count)[:, None]
    outward = -side * turn[..., 0]
    away = turn[..., 2]
    up = -turn[..., 1]
    mix = torch.stack(
        [draw.uniform(*span, count) for span in ((-0.3, 0.5), (0.4, 1), (0, 0.8))], 1
    )
    arm = mix[:, :1] * -outward + mix[:, 1:2] * away + mix[:, 2:] * up
    shoulder_m = elbow_m + 0.29 * size * functional.normalize(arm, dim=1)

    def at(across: float, above: float, behind: float = 0.0) -> Tensor:
        offset_m = -across * outward + above * up + behind * away
        return shoulder_m + size * offset_m

    other_elbow_m = at(0.42, -0.27) + draw.normal(0.04, count, 3)
    capsules = [
        (elbow_m, 0.042, shoulder_m, 0.056),
        (at(0.0, 0), 0.058, at(0.36, 0), 0.058),
        (at(0.09, -0.08, 0.01), 0.105, at(0.27, -0.08, 0.01), 0.105),
        (at(0.1, -0.1), 0.11, at(0.09, -0.45), 0.115),
        (at(0.26, -0.1), 0.11, at(0.27, -0.45), 0.115),
        (at(0.18, 0.02, 0.02), 0.058, at(0.18, 0.12, 0), 0.054),
        (at(0.18, 0.15, -0.02), 0.072, at(0.18, 0.24, 0.0), 0.088),
        (at(0.36, 0), 0.056, other_elbow_m, 0.042),
        (other_elbow_m, 0.042, at(0.3, -0.38, -0.12), 0.032),
    ]
    ends_m = torch.stack([torch.stack([a, b], 1) for a, _, b, _ in capsules], 1)
    radii_m = torch.tensor([[ra, rb] for _, ra, _, rb in capsules], device=device)
    thick = draw.uniform(0.85, 1.3, count)[:, None, None]
    radii_m = radii_m * size[..., None] * thick
    # A body beside or before the hand would be no background; an arm always goes on.
    knuckle_m = hands.joints_m[:, 9, 2]
    nearest_m = (ends_m[..., 2] - radii_m).amin(2)  # (B, 9)
    there = (nearest_m.amin(1) > knuckle_m) & draw.chance(BODY_SHARE, count)
    shown = there[:, None].repeat(1, len(capsules))
    shown[:, 0] = nearest_m[:, 0] > 0.1
    return ends_m, radii_m * shown[..., None]


def _clutter(draw: Draw, hands: Hands) -> tuple[Tensor, ...]:
    """Rods, balls and boxes behind and beside the hand, and now and then a rod before it."""
    count = len(hands.right)
    center_m = hands.joints_m.mean(1, keepdim=True)
    far_m = hands.joints_m[..., 2].amax(1)[:, None, None]

    def behind(number: int, reach_m: Tensor) -> Tensor:
        around_m = draw.uniform(-0.4, 0.4, count, number, 3)
        place_m = center_m + around_m
        depth_m = far_m[..., 0] + 0.03 + reach_m + draw.uniform(0, 0.7, count, number)
        return torch.stack([place_m[..., 0], place_m[..., 1], depth_m], -1)

    busy = draw.chance(0.6, count, 1)
    halves_m = torch.exp(draw.uniform(math.log(0.015), math.log(0.15), count, BOXES, 3))
    boxes_m = behind(BOXES, halves_m.norm(dim=2))
    angles = draw.uniform(-math.pi, math.pi, 3, count, BOXES)
    turns = turn_x(angles[0]) @ turn_y(angles[1]) @ turn_z(angles[2])
    halves_m = halves_m * (busy & draw.chance(0.5, count, BOXES))[..., None]

    radii_m = torch.exp(draw.uniform(math.log(0.006), math.log(0.09), count, RODS, 1))
    radii_m = radii_m * draw.uniform(0.6, 1, count, RODS, 2)
    axis_m = draw.uniform(0, 0.15, count, RODS, 1) * draw.direction(count * RODS).reshape(
        count, RODS, 3
    )
    middle_m = behind(RODS, axis_m[..., 2].abs() + radii_m.amax(2))
    ends_m = torch.stack([middle_m - axis_m, middle_m + axis_m], 2)
    radii_m = radii_m * (busy & draw.chance(0.5, count, RODS))[..., None]
    # A cable, a pen, another's finger: the first rod moves between the hand and the camera.
    before = draw.chance(OCCLUDER_SHARE, count)[:, None, None]
    share = draw.uniform(0.6, 0.85, count, 1, 1)
    reach_m = draw.uniform(0.05, 0.25, count, 1) * draw.direction(count)
    aside_m = draw.uniform(-0.06, 0.06, count, 1, 3)
    near_m = share * (center_m + aside_m + torch.stack([-reach_m, reach_m], 1))
    ends_m[:, 0] = torch.where(before, near_m, ends_m[:, 0])
    thin_m = draw.uniform(0.003, 0.012, count, 1).expand(-1, 2)
    radii_m[:, 0] = torch.where(before[..., 0], thin_m, radii_m[:, 0])
    return ends_m, radii_m, boxes_m, turns, halves_m


def _second_hand(draw: Draw, hands: Hands, intrinsics: Tensor) -> tuple[Tensor, Tensor]:
    """Another hand beside the first, mostly of the other side; it has no labels."""
    count = len(hands.right)
    same = draw.chance(0.15, count)
    others, _ = sample_hands(
        draw.generator, count, intrinsics=intrinsics, right=hands.right ^ ~same
    )
    angle, reach_m = draw.uniform(-math.pi, math.pi, count), draw.uniform(0.12, 0.35, count)
    offset_m = torch.stack(
        [reach_m * angle.cos(), reach_m * angle.sin(), draw.uniform(-0.05, 0.15, count)], 1
    )
    others = moved(others, hands.joints_m[:, 9] + offset_m - others.joints_m[:, 9])
    there = draw.chance(SECOND_HAND_SHARE, count)
    there &= (others.capsules_m[..., 2] - others.radii_m).amin((1, 2)) > 0.08
    return others.capsules_m, others.radii_m * there[:, None, None]


def _planes(draw: Draw, hands: Hands) -> Tensor:
    """A wall behind and a table below, (B, 2, 4); the hand and the arm never cut them."""
    count, device = len(hands.right), hands.joints_m.device
    facing = torch.zeros(count, 3, device=device)
    facing[:, 2] = 1
    tilt = turn_y(draw.normal(0.4, count)) @ turn_x(draw.normal(0.3, count))
    wall = (tilt @ facing[..., None])[..., 0]
    # A table is seen at anything from a glancing angle to straight from above.
    pitch, roll = draw.uniform(0.15, 1.6, count), draw.normal(0.15, count)
    down = torch.stack([roll.sin() * pitch.cos(), roll.cos() * pitch.cos(), pitch.sin()], 1)

    def beyond(normal: Tensor, gap_m: Tensor) -> Tensor:
        reach_m = (hands.capsules_m @ normal[:, None, :, None])[..., 0] + hands.radii_m
        return reach_m.amax((1, 2)) + gap_m

    touching = draw.chance(0.35, count)
    gaps_m = torch.where(touching, 0.0, draw.uniform(0, 0.4, count))
    wall_m = beyond(wall, torch.exp(draw.uniform(math.log(0.02), math.log(2.5), count)))
    table_m = beyond(down, gaps_m)
    wall_m = torch.where(draw.chance(WALL_SHARE, count), wall_m, torch.inf)
    table_m = torch.where(draw.chance(TABLE_SHARE, count), table_m, torch.inf)
    return torch.stack(
        [torch.cat([wall, wall_m[:, None]], 1), torch.cat([down, table_m[:, None]], 1)], 1
    )
