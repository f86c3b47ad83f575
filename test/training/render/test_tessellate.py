import math

import numpy as np
import pytest

torch = pytest.importorskip('torch', reason="training needs torch: pip install '.[train]'")
pytest.importorskip('scipy', reason="training needs scipy: pip install '.[train]'")

from training.render.parts import hollow_box, hollow_cone
from training.render.raycast import superquadric_norm
from training.render.solids import (
    Kind,
    Material,
    Solid,
    box,
    cylinder,
    ellipsoid,
    frustum,
    prism,
    superquadric,
    waves,
)
from training.render.tessellate import smooth_normals, tessellated

STUFF = Material()


def volume(solid):
    """Volume that triangles enclose: right only if all face outward and no hole is left."""
    a, b, c = np.moveaxis(tessellated(solid).corners_m, 1, 0)
    return float((a * np.cross(b, c)).sum() / 6)


def is_closed(solid):
    """Every edge is walked once in each direction."""
    corners = tessellated(solid).corners_m.round(6) + 0.0
    edges = {}
    for triangle in corners:
        points = [tuple(p) for p in triangle]
        for p, q in zip(points, points[1:] + points[:1], strict=True):
            edges[p, q] = edges.get((p, q), 0) + 1
    return all(edges.get((q, p)) == count for (p, q), count in edges.items())


# What is round has 28 corners: its cross-section is this share of a circle.
POLYGON = 14 / math.pi * math.sin(math.pi / 14)

SOLIDS = {
    'box': (box((0, 0, 0), (1, 2, 3), STUFF), 48),
    'cylinder': (cylinder((0, 0, 0), 0.5, 1, STUFF), math.pi / 4 * 2 * POLYGON),
    'frustum': (frustum((0, 0, 0), 1, 0.5, 1, STUFF), math.pi * 2 / 3 * 1.75 * POLYGON),
    'prism': (prism((0, 0, 0), [(-1, -1), (1, -1), (0, 1)], 0.5, STUFF), 2),
    # 1 x 1 x 1 with a wall of 0.1, open at the top; the floor is a millimetre thicker.
    'open box': (hollow_box((0, 0, 0), (0.5, 0.5, 0.5), 0.1, STUFF), 1 - 0.64 * 0.899),
}


@pytest.mark.parametrize(('solid', 'wanted'), SOLIDS.values(), ids=SOLIDS)
def test_volumes_by_hand(solid, wanted):
    assert volume(solid) == pytest.approx(wanted, rel=1e-3)
    assert is_closed(solid)


def test_a_ball_is_nearly_round():
    ball = ellipsoid((0, 0, 0), (1, 1, 1), STUFF)
    assert volume(ball) == pytest.approx(4 / 3 * math.pi, rel=0.03)
    corners, normals, _ = tessellated(ball)
    np.testing.assert_allclose(np.linalg.norm(corners, axis=2), 1, atol=1e-9)
    assert (corners * normals).sum(2).min() > 0.99


def test_a_cup_is_hollow():
    cup = hollow_cone(0.04, 0.04, 0.05, 0.004, 0.006, STUFF)
    whole = math.pi * 0.04**2 * 0.1
    hole = math.pi * 0.036**2 * 0.094
    assert volume(cup) == pytest.approx((whole - hole) * POLYGON, rel=0.02)
    assert is_closed(cup)


def test_a_superquadric_lies_on_its_surface():
    solid = superquadric((0, 0, 0), (0.3, 0.2, 0.1), 0.4, 0.7, STUFF)
    corners = tessellated(solid).corners_m.reshape(-1, 3) / np.array(solid.half_m)
    norm, _ = superquadric_norm(
        torch.from_numpy(corners)[..., None], *(torch.tensor([[k]]) for k in solid.form)
    )
    np.testing.assert_allclose(norm, 1, atol=1e-3)


def test_cloth_has_the_height_of_its_waves():
    ripples = [(0.02, 9, 0, 0.3), (0.01, 0, 7, 1.0), (0, 0, 0, 0), (0, 0, 0, 0)]
    solid = waves((0, 0, 0), (0.5, 0.4, 0.05), ripples, STUFF)
    corners = tessellated(solid).corners_m.reshape(-1, 3)
    top = corners[corners[:, 2] > -0.049]
    height = 0.02 + 0.02 * np.sin(9 * top[:, 0] + 0.3) + 0.01 * np.sin(7 * top[:, 1] + 1)
    np.testing.assert_allclose(top[:, 2], height, atol=1e-9)


def test_a_wall_has_its_window():
    wall = Solid(
        Kind.HOLLOW, (0, 0, 1), (2, 0.1, 1), STUFF,
        hole_center_m=(0.5, 0, 0), hole_half_m=(0.3, 0.12, 0.4),
    )  # fmt: skip
    assert volume(wall) == pytest.approx(4 * 0.2 * 2 - 0.6 * 0.2 * 0.8)


def test_solids_are_turned_and_moved():
    turn = ((0.0, 1.0, 0.0), (-1.0, 0.0, 0.0), (0.0, 0.0, 1.0))
    corners = tessellated(box((5, 6, 7), (1, 2, 3), STUFF, turn)).corners_m.reshape(-1, 3)
    assert corners.min(0).tolist() == [3, 5, 4]
    assert corners.max(0).tolist() == [7, 7, 10]


def test_edges_stay_sharp_where_faces_crease():
    # A roof of two slopes of 20 degrees is smooth, one of 60 degrees is not.
    for degrees, sharp in ((20, False), (60, True)):
        z = math.tan(math.radians(degrees))
        corners = np.array(
            [[[-1, 0, 0], [0, 0, z], [0, 1, z]], [[1, 0, 0], [0, 1, z], [0, 0, z]]], float
        )
        flat = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
        flat /= np.linalg.norm(flat, axis=1, keepdims=True)
        ridge = smooth_normals(corners, flat)[0, 1]
        assert (abs(ridge[0]) > 1e-3) == sharp


def test_a_model_is_refused():
    with pytest.raises(ValueError, match='MODEL'):
        tessellated(Solid(Kind.MODEL, (0, 0, 0), (1, 1, 1), STUFF))
