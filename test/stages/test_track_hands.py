import numpy as np
import pytest

from depth_refiner_ros.data import HAND_BONES, DepthImage, Header, PinholeCamera
from depth_refiner_ros.filters.hands import BONE_LENGTHS_MM, WINDOW_M, projected
from depth_refiner_ros.stages.track_hands import TrackHands, TrackHandsParameters

CAMERA = PinholeCamera(Header(0, 'camera'), 160, 120, 140.0, 140.0, 79.5, 59.5)


def flat_hand():
    """Joints about the knuckle of the middle finger, with bones as long as the reference."""
    points_m = np.zeros((21, 3), np.float32)
    for number, (start, end) in enumerate(HAND_BONES):
        angle, step = 0.3 * (number // 4 - 2), 1e-3 * BONE_LENGTHS_MM[number]
        points_m[end] = points_m[start] + [step * np.sin(angle), -step * np.cos(angle), 0]
    return points_m - points_m[9]


HAND = flat_hand()


class World:
    """Hands at places, and the two models that would see them perfectly."""

    def __init__(self, *places_m):
        self.places_m = [np.array(place_m) for place_m in places_m]
        self.detections = 0
        self.right = 0.9

    def depth_m(self):
        """A blob of 5 cm about every hand before a wall, 10 mm before the knuckle."""
        depth_m = np.full((120, 160), 2.0, np.float32)
        rows, columns = np.indices(depth_m.shape)
        for x, y, z in self.places_m:
            u, v = x / z * 140 + 79.5, y / z * 140 + 59.5
            near = np.hypot(columns - u, rows - v) < 0.05 * 140 / z
            depth_m[near] = z - 0.01
        return depth_m

    def detector(self, depth_m):
        self.detections += 1
        shape = (depth_m.shape[0] // 4, depth_m.shape[1] // 4)
        hand, offset = np.zeros(shape, np.float32), np.zeros((2, *shape), np.float32)
        for x, y, z in self.places_m:
            u, v = (x / z * 140 + 80) / 4, (y / z * 140 + 60) / 4
            row, column = int(v), int(u)
            hand[row, column] = 0.9
            offset[:, row, column] = u - column - 0.5, v - row - 0.5
        return {'hand': hand, 'offset': offset, 'behind_m': np.full(shape, 0.01, np.float32)}

    def joints(self, window):
        """Say the hand whose blob is in the middle of each window; half of them are mirrored."""
        places, kinds = [], []
        for number, each in enumerate(window):
            mirrored = number >= len(window) // 2
            there = each < 0.9
            right = 1 - self.right if mirrored else self.right
            kinds.append([0.95 if there.any() else 0.02, right])
            rows, columns = np.nonzero(there)
            middle = np.zeros(2)
            if len(rows):
                middle = (np.array([columns.mean(), rows.mean()]) + 0.5) / 48 - 1
            place = np.zeros((21, 3), np.float32)
            # Seen from straight ahead, so columns and rows are metres but for perspective.
            place[:] = HAND / WINDOW_M * [-1 if mirrored else 1, 1, 1]
            place[:, :2] += middle
            places.append(place)
        count = len(places)
        spread = np.full((count, 21), 0.005 / WINDOW_M, np.float32)
        return {'place': np.array(places, np.float32), 'spread': spread, 'kind': np.array(kinds)}


def run(world, count=1, stage=None, start_ns=0, step_ns=33_000_000, **changed):
    stage = stage or TrackHands(TrackHandsParameters(**changed), world.joints, world.detector)
    found = []
    for i in range(count):
        depth = DepthImage(Header(start_ns + i * step_ns, 'camera'), world.depth_m(), '16UC1')
        found.append(stage(depth, CAMERA))
    return stage, found


def test_a_hand_is_found_where_it_is():
    world = World((0.1, 0.0, 0.6))
    _, (out,) = run(world)
    hands = out['hands']
    assert hands.ids.tolist() == [0]
    np.testing.assert_allclose(hands.points_m[0, 9], [0.1, 0.0, 0.6], atol=0.006)
    np.testing.assert_allclose(hands.pixels_px[0], projected(hands.points_m[0], CAMERA), atol=0.1)
    # 5 mm of spread, and 95 % sure that it is a hand at all.
    np.testing.assert_allclose(hands.confidence, 0.95 * (1 - np.exp(-4)), rtol=1e-3)
    assert hands.right[0] == pytest.approx(0.9)
    assert out['markers'].hands is hands
    assert out['poses'].hands is hands


def test_no_hand_is_no_guess():
    _, (out,) = run(World())
    assert out['hands'].points_m.shape == (0, 21, 3)


def test_two_hands_keep_their_numbers_as_they_move():
    world = World((0.15, 0.0, 0.6), (-0.15, 0.0, 0.6))
    stage, (first,) = run(world)
    assert sorted(first['hands'].ids) == [0, 1]
    where = {i: p[9, 0] for i, p in zip(first['hands'].ids, first['hands'].points_m, strict=True)}
    for i in range(1, 6):
        world.places_m[0][1] += 0.01
        _, (out,) = run(world, stage=stage, start_ns=33_000_000 * i)
    for number, points_m in zip(out['hands'].ids, out['hands'].points_m, strict=True):
        assert points_m[9, 0] == pytest.approx(where[number], abs=0.01)


def test_a_followed_hand_spares_the_detector():
    world = World((0.0, 0.0, 0.6))
    run(world, 10, max_hands=1)
    assert world.detections == 1
    world = World((0.0, 0.0, 0.6))
    # Others are looked for every 150 ms: at 0, 165 and 330 ms of 363.
    run(world, 12, detection_interval_s=0.15)
    assert world.detections == 3


def test_a_hand_that_left_is_looked_for_and_gets_a_new_number():
    world = World((0.0, 0.0, 0.6))
    stage, _ = run(world, 3)
    world.places_m = []
    _, gone = run(world, 5, stage=stage, start_ns=100_000_000)
    assert all(len(out['hands'].ids) == 0 for out in gone)
    world.places_m = [np.array([0.2, 0.0, 0.6])]
    _, back = run(world, 3, stage=stage, start_ns=300_000_000)
    assert back[-1]['hands'].ids.tolist() == [1]


def test_the_side_does_not_flicker():
    world = World((0.0, 0.0, 0.6))
    stage, _ = run(world, 3)
    world.right = 0.1
    _, (glimpse,) = run(world, stage=stage, start_ns=120_000_000)
    assert glimpse['hands'].right[0] == pytest.approx(0.9 - 0.15 * 0.8)


@pytest.mark.parametrize('shape', [(1, 1), (3, 200), (120, 160)])
def test_nothing_measured(shape):
    camera = PinholeCamera(Header(0, 'camera'), shape[1], shape[0], 140.0, 140.0, 1.0, 1.0)
    depth = DepthImage(Header(0, 'camera'), np.full(shape, np.nan, np.float32), '32FC1')
    world = World()
    stage = TrackHands(TrackHandsParameters(), world.joints, world.detector)
    assert len(stage(depth, camera)['hands'].ids) == 0


def test_without_models_nothing_is_said_but_why():
    stage = TrackHands(TrackHandsParameters(joints_model='no_such', detector_model='no_such'))
    depth = DepthImage(Header(0, 'camera'), World().depth_m(), '16UC1')
    assert len(stage(depth, CAMERA)['hands'].ids) == 0
    assert 'no_such' in stage.capabilities.trouble


def test_a_jump_in_time_starts_anew():
    world = World((0.0, 0.0, 0.6))
    stage, _ = run(world, 2, start_ns=10**10)
    _, (out,) = run(world, stage=stage, start_ns=0)
    assert out['hands'].ids.tolist() == [1]
