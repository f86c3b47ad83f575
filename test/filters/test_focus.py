import math

import numpy as np
import pytest

from depth_refiner_ros.filters.focus import FocusPull, depth_around_m, nearest_object_m


def room():
    """A wall at 3 m, seen with a focal length of 300 px."""
    return np.full((240, 320), 3, np.float32)


def test_nearest_object_is_as_large_as_a_face():
    depth_m = room()
    assert nearest_object_m(depth_m, 300) == 3
    depth_m[:, 40:46] = 0.6  # a pole of 12 mm
    depth_m[100:115, 60:75] = 0.8  # a thing of 40 mm
    depth_m[60:120, 200:260] = 1.2  # 60 px at 1.2 m are 240 mm
    assert nearest_object_m(depth_m, 300) == pytest.approx(1.2)
    # A head is no plane, and its hair gives no return.
    depth_m[60:120, 200:260] += np.linspace(0, 0.1, 60, dtype=np.float32)
    depth_m[70:110:9, 205:255:9] = np.nan
    assert nearest_object_m(depth_m, 300) == pytest.approx(1.25, abs=0.02)


def test_a_receding_floor_is_no_object():
    # A camera 1 m above the floor: a row v pixels below the horizon sees it at 300 / v metres.
    depth_m = room()
    rows = np.arange(1, 121)
    depth_m[120:] = np.minimum(300 / rows, 3)[:, None]
    assert nearest_object_m(depth_m, 300) == pytest.approx(3, abs=0.15)


def test_nearest_object_where_there_is_none():
    assert math.isnan(nearest_object_m(np.full((48, 64), np.nan, np.float32), 300))
    specks = np.full((480, 640), np.nan, np.float32)
    specks[::40, ::40] = 1
    assert math.isnan(nearest_object_m(specks, 500))
    assert nearest_object_m(np.full((1, 1), 2, np.float32), 1) == 2


def test_depth_around_a_point():
    depth_m = room()
    depth_m[100:110, 100:110] = 1
    depth_m[104, 104] = 9
    assert depth_around_m(depth_m, 104, 104) == 1
    # The window grows until something is seen in it.
    depth_m[80:130, 80:130] = np.nan
    assert depth_around_m(depth_m, 104, 104) == 3
    assert math.isnan(depth_around_m(np.full((9, 9), np.nan, np.float32), 4, 4))
    assert depth_around_m(np.full((1, 1), 2, np.float32), 0, 0) == 2
    with pytest.raises(ValueError, match=r'\(320, 4\), is outside the image, 320x240'):
        depth_around_m(depth_m, 320, 4)


def test_focus_is_pulled_evenly_in_dioptres():
    pull = FocusPull()
    assert pull(1, 10**9, time_s=0.1) == 1
    # After one time constant: 0.5 + 0.5 / e = 0.68394 dioptres.
    assert pull(2, 1_100_000_000, time_s=0.1) == pytest.approx(1 / 0.68394, rel=1e-4)
    held_m = pull(math.nan, 1_200_000_000, time_s=0.1)
    assert held_m == pytest.approx(1 / 0.68394, rel=1e-4)
    assert pull(4, 1_300_000_000, time_s=0) == pytest.approx(4)


@pytest.mark.parametrize('stamp_ns', [10**9 - 1, 10**9 + 500_000_001])
def test_focus_starts_anew_when_time_jumps(stamp_ns):
    pull = FocusPull()
    pull(1, 10**9, time_s=5)
    assert pull(3, stamp_ns, time_s=5) == pytest.approx(3)


def test_no_focus_before_anything_was_wanted():
    pull = FocusPull()
    assert math.isnan(pull(math.nan, 5, time_s=0.3))
    assert pull(2, 6, time_s=0.3) == 2
