import numpy as np
import pytest

torch = pytest.importorskip('torch', reason="training needs torch: pip install '.[train]'")

from training.sensors import View
from training.sensors.compare import (
    MODELS,
    RECORDINGS,
    Settings,
    _lines,
    _summary,
    compare,
    main,
    simulate,
)

MATRIX = torch.tensor([[[580.0, 0, 59.5], [0, 580.0, 23.5], [0, 0, 1]]])


def test_a_statistic_is_covered_where_simulated_cameras_surround_it():
    real = {'hole_share': np.array([0.2, 0.4]), 'flying_px': np.array([9.0])}
    simulated = [{'hole_share': np.array([share])} for share in (0.1, 0.2, 0.5, 0.6)]
    rows = compare(real, simulated)
    assert rows.keys() == {'hole_share'}  # no camera simulates the other
    row = rows['hole_share']
    assert row.real == pytest.approx(0.3)
    assert row.simulated == pytest.approx(0.35)
    assert (row.low, row.high) == pytest.approx((0.115, 0.585))
    assert row.covered
    # Two samples have no spread to speak of: relative to their mean.
    assert row.relative == pytest.approx(row.wasserstein / 0.3)
    assert not compare(real, simulated[:2])['hole_share'].covered
    text = _lines(rows)
    assert text[2].startswith('| hole_share | 1 | 0.3 | 0.35 (0.115 to 0.585) |')
    assert _summary({'one': rows})[1:] == (1, 1)


def test_many_samples_are_compared_with_their_own_spread():
    real = {'flying_px': np.linspace(0, 10, 101)}
    row = compare(real, [{'flying_px': np.linspace(0, 10, 101) + 3}])['flying_px']
    assert row.wasserstein == pytest.approx(3, abs=1e-6)
    assert row.relative == pytest.approx(3 / 9)  # from 0.5 to 9.5


@pytest.mark.parametrize('name', MODELS)
def test_every_camera_sees_every_scene(name):
    scenes = [View(torch.full((1, 1, 48, 120), z_m), MATRIX) for z_m in (1.0, 2.0)]
    sequences = simulate(scenes, MODELS[name], False, cameras=3, frames=2, seed=4)
    assert len(sequences) == 6
    assert all(len(sequence) == 2 for sequence in sequences)
    medians_m = [np.nanmedian(sequence[0]) for sequence in sequences]
    assert medians_m == pytest.approx([1.0] * 3 + [2.0] * 3, rel=0.05)
    again = simulate(scenes, MODELS[name], False, cameras=3, frames=2, seed=4)
    np.testing.assert_array_equal(sequences[5][1], again[5][1])
    assert not np.array_equal(sequences[0][0], sequences[1][0], equal_nan=True)


def test_recordings_that_are_not_there_are_named(tmp_path):
    with pytest.raises(SystemExit, match=r'Unknown recordings: kitchen. Known are kinect_v1'):
        main(Settings(tmp_path, tmp_path / 'out', recordings=('kitchen',)))
    with pytest.raises(SystemExit, match='holds none of the recordings kinect_v1_kitchen'):
        main(Settings(tmp_path, tmp_path / 'out'))
    assert not (tmp_path / 'out').exists()


def test_every_recording_names_a_model():
    assert {recording.model for recording in RECORDINGS.values()} <= MODELS.keys()
