import numpy as np
import pytest

from depth_refiner_ros.inference import read_onnx
from depth_refiner_ros.inference.bare import bare_back_end


@pytest.mark.parametrize('name', ['onnxruntime', 'openvino'])
def test_a_bare_back_end_computes_the_same(tiny, frame, name):
    pytest.importorskip(name, reason=f"runs the model of this test: pip install '{name}'")
    outputs = bare_back_end(name, read_onnx(tiny))(frame)
    estimate_m = outputs[0]
    np.testing.assert_array_equal(estimate_m, np.nan_to_num(frame['depth_m'], nan=2.0))


@pytest.mark.parametrize('name', ['tensorrt-fp16', 'openvino-bf16'])
def test_some_have_no_bare_way(tiny, name):
    assert bare_back_end(name, read_onnx(tiny)) is None
