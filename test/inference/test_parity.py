import numpy as np
import pytest

from depth_refiner_ros.inference import check_parity


def answering(**outputs):
    return lambda **inputs: outputs


def report(got, want):
    frame = {'depth_m': want, 'estimate_m': want}
    return check_parity(answering(estimate_m=got), [frame], ('depth_m',))


def test_the_figures_are_in_millimetres():
    want = np.full((10, 10), 2.0, np.float32)
    got = want + np.float32(0.0003)
    found = report(got, want)
    assert found.agrees
    assert found.median_mm == pytest.approx(0.3, abs=1e-3)
    assert found.p99_mm == pytest.approx(0.3, abs=1e-3)


def test_a_bias_a_tail_and_other_holes_are_refused():
    want = np.full((10, 10), 2.0, np.float32)
    assert not report(want * np.float32(1.002), want).agrees  # 0.2 % everywhere
    tail = want.copy()
    tail[0, :3] = 3.0
    assert not report(tail, want).agrees
    many = np.full((40, 40), 2.0, np.float32)
    tie = many.copy()
    tie[0, 0] = 3.0  # a tie that fell otherwise
    assert report(tie, many).agrees
    holes = want.copy()
    holes[5, 5] = np.nan
    found = report(holes, want)
    assert not found.agrees
    assert 'not finite at other pixels' in found.text


def test_a_shape_that_differs_is_refused():
    want = np.ones((4, 4), np.float32)
    assert 'has shape (4, 3)' in report(want[:, :3], want).text


def test_probabilities_are_compared_as_they_are():
    want = np.zeros((4, 4), np.float32)
    frame = {'depth_m': want, 'wrong': want}
    assert check_parity(answering(wrong=want + 0.04), [frame], ('depth_m',)).agrees
    assert not check_parity(answering(wrong=want + 0.06), [frame], ('depth_m',)).agrees
