from __future__ import annotations

import numpy as np
import pytest

from depth_refiner_ros.evaluation.speed import back_ends as module
from depth_refiner_ros.evaluation.speed.back_ends import measure_back_ends
from depth_refiner_ros.evaluation.speed.clips import simulated_frames
from depth_refiner_ros.inference import BACK_ENDS, ModelError
from depth_refiner_ros.stage import compose
from depth_refiner_ros.stages import STAGES


@pytest.fixture
def clip():
    return simulated_frames(3, 32, 24, compose({'inpaint_depth': STAGES['inpaint_depth']}))


@pytest.fixture
def loaded(monkeypatch):
    """Replace the back ends; return the inputs that each was given."""
    given = {}

    def load(model, name, log):
        if name.startswith('tensorrt'):
            raise ModelError('it was not compiled')
        log(f'{model} runs on {name}')
        return lambda **inputs: given.setdefault(name, []).append(inputs)

    monkeypatch.setattr(module, 'load_model', load)
    monkeypatch.setattr(
        module,
        'bare_back_end',
        lambda name, file: given.setdefault('bare', []).append if name == 'onnxruntime' else None,
    )
    monkeypatch.setattr(module, 'librealsense', lambda frame: 'not here')
    return given


def test_auto_is_all_of_them_and_a_refusal_is_a_reason(loaded, clip):
    found = measure_back_ends('depth_small', ['auto', 'openvino'], clip, 4)
    assert list(found) == list(BACK_ENDS)
    assert found['tensorrt-fp16'] == {'reason': 'it was not compiled'}
    assert found['openvino']['agreement'] == 'depth_small runs on openvino'
    assert found['openvino']['times'] == {}
    assert found['openvino']['cpu_ms'] >= 0
    assert set(found['onnxruntime']['times']['bare']) == {'wall', 'cpu'}


def test_both_sides_are_given_the_same_frames(loaded, clip):
    measure_back_ends('depth_small', ['onnxruntime'], clip, 4)
    (first, *_), (bare, *_) = loaded['onnxruntime'], loaded['bare']
    assert first['depth_m'].shape == (24, 32)
    assert first['color'].dtype == np.uint8
    assert first['color'].any()
    for name in first:
        np.testing.assert_array_equal(first[name], bare[name])
    measure_back_ends('depth_small', ['openvino'], clip, 1, reduction=2)
    assert loaded['openvino'][0]['depth_m'].shape == (12, 16)
    assert loaded['openvino'][0]['color'].shape == (12, 16, 3)
    # Every frame had its turn.
    assert len({inputs['depth_m'].tobytes() for inputs in loaded['onnxruntime']}) == 3


def test_a_model_that_is_not_there_is_no_reason_but_an_error(clip):
    with pytest.raises(ModelError, match='no model none'):
        measure_back_ends('none', ['auto'], clip, 1)
