from collections import defaultdict

import numpy as np
import pytest

pytest.importorskip('torch', reason="training needs torch: pip install '.[train]'")

from training.render.scenes import sample_scene
from training.render.solids import LAMPS, Material, box, prism, superquadric, waves

PAINT = Material()
REACH_M = 0.03
"""Kitchen cupboards and pictures hang up to this far from their wall."""


@pytest.mark.parametrize('first', [0, 60])
def test_no_object_of_a_room_floats(first):
    for index in range(first, first + 15):
        scene = sample_scene(0, index)
        low_m, high_m = defaultdict(list), defaultdict(list)
        for solid in scene.solids:
            center_m = np.array(solid.center_m)
            # Boxes around turned boxes are generous: what floats here floats for certain.
            half_m = np.abs(np.array(solid.turn)).T @ np.array(solid.half_m)
            low_m[solid.instance].append(center_m - half_m)
            high_m[solid.instance].append(center_m + half_m)
        for own in low_m:
            low, high = np.array(low_m[own]), np.array(high_m[own])
            middle = (low.min(0) + high.max(0)) / 2
            if (abs(middle[:2]) > np.array(scene.size_m[:2]) / 2).any():
                continue  # what windows and doors show
            others = [i for i in low_m if i != own]
            other_low = np.concatenate([low_m[i] for i in others])
            other_high = np.concatenate([high_m[i] for i in others])
            meets = (low[:, None] - REACH_M <= other_high) & (high[:, None] + REACH_M >= other_low)
            assert meets.all(2).any(), f'scene {index}, instance {own}'


def test_a_scene_is_its_seed_and_number():
    one, again, next_, other = (sample_scene(*key) for key in ((4, 9), (4, 9), (4, 10), (5, 9)))
    assert one == again
    assert one.solids != next_.solids
    assert one.solids != other.solids
    assert len(one.lamps) == LAMPS
    assert {sample_scene(4, index).name for index in range(40)} > {'tabletop', 'living', 'kitchen'}


def test_shapes_that_cannot_be_cast_are_refused():
    with pytest.raises(ValueError, match='exponents must be in'):
        superquadric((0, 0, 0), (1, 1, 1), 0.05, 1.0, PAINT)
    with pytest.raises(ValueError, match='counter-clockwise'):
        prism((0, 0, 0), [(0, 1), (1, 0), (-1, 0)], 1.0, PAINT)
    with pytest.raises(ValueError, match='3 to 6 corners'):
        prism((0, 0, 0), [(0, 1), (1, 0)], 1.0, PAINT)
    with pytest.raises(ValueError, match='four waves'):
        waves((0, 0, 0), (1, 1, 0.1), [(0.2, 1, 1, 0)] * 4, PAINT)
    assert box((0, 0, 0), (1, 1, 1), PAINT).row()[12:15] == [1, 1, 1]
