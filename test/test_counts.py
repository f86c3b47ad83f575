from __future__ import annotations

import numpy as np

from depth_refiner_ros.counts import metres_from_counts


def test_every_count_in_every_unit_is_the_nearest_float():
    counts = np.arange(65536, dtype=np.uint16)
    for per_metre in (100, 1000, 4000, 5000, 8000, 10000):
        exact_m = (counts / np.float64(per_metre)).astype(np.float32)
        exact_m[0] = np.nan
        np.testing.assert_array_equal(metres_from_counts(counts, 1 / per_metre), exact_m)
