import numpy as np
import pytest

from depth_refiner_ros.inference import BACK_ENDS, ModelError, load_model, loading
from depth_refiner_ros.inference.loading import BackEnd

from .conftest import tiny_model


class Crooked:
    """A back end that is 3 cm off."""

    inputs = ('depth_m', 'color')
    name = 'tiny'
    back_end = 'crooked'

    def __init__(self, file, threads):
        self._model = load_model(file.path, 'onnxruntime', threads=threads)

    def __call__(self, **inputs):
        outputs = self._model(**inputs)
        return outputs | {'estimate_m': outputs['estimate_m'] + np.float32(0.03)}


@pytest.fixture
def only_onnxruntime(monkeypatch):
    monkeypatch.setattr(loading, 'BACK_ENDS', {'onnxruntime': BACK_ENDS['onnxruntime']})


def test_a_model_runs_on_arrays(tiny, frame):
    outputs = load_model(tiny, 'onnxruntime')(**frame)
    assert outputs['estimate_m'][2, 3] == 2.0
    assert outputs['estimate_m'][0, 0] == 1.5
    assert outputs['stddev_m'][2, 3] == pytest.approx(0.02)
    assert outputs['wrong'][4, 4] == 1.0


@pytest.mark.parametrize('device', ['openvino', 'openvino-mixed', 'openvino-bf16'])
def test_openvino_says_the_same(tiny, frame, device):
    openvino = pytest.importorskip('openvino', reason="pip install '.[openvino]'")
    able = openvino.Core().get_property('CPU', 'OPTIMIZATION_CAPABILITIES')
    if device != 'openvino' and 'BF16' not in able:
        with pytest.raises(ModelError, match='bfloat16'):
            load_model(tiny, device)
        return
    model = load_model(tiny, device)
    assert model.back_end == device.replace('openvino', 'openvino-f32', device == 'openvino')
    np.testing.assert_allclose(
        model(**frame)['estimate_m'], np.nan_to_num(frame['depth_m'], nan=2.0), rtol=1e-2
    )


def test_auto_takes_what_is_there_and_says_so(tiny, only_onnxruntime):
    told = []
    assert load_model(tiny, log=told.append).back_end == 'onnxruntime'
    assert told == ['tiny runs on onnxruntime (median 0.000 mm, 99 % within 0.00 mm on 1 frames).']


def test_a_back_end_that_disagrees_is_refused_with_its_figures(tiny, monkeypatch):
    crooked = BackEnd('onnxruntime', '', ('onnx_runtime', 'Crooked'), {})
    monkeypatch.setattr('depth_refiner_ros.inference.onnx_runtime.Crooked', Crooked, raising=False)
    table = {'crooked': crooked, 'onnxruntime': BACK_ENDS['onnxruntime']}
    monkeypatch.setattr(loading, 'BACK_ENDS', table)
    told = []
    assert load_model(tiny, log=told.append).back_end == 'onnxruntime'
    # 3 cm are 2 % of 1.5 m.
    assert 'Not crooked: it does not agree with ONNX Runtime' in told[0]
    assert 'differs by 2.00 % (median)' in told[0]
    with pytest.raises(ModelError, match='does not agree'):
        load_model(tiny, 'crooked')


def test_a_library_that_is_missing_is_named(tiny, monkeypatch):
    missing = BackEnd('no_such_library', 'such>=1', ('onnx_runtime', 'OnnxRuntimeModel'), {})
    monkeypatch.setattr(loading, 'BACK_ENDS', {'x': missing})
    with pytest.raises(ModelError, match="no_such_library is not installed: pip install 'such"):
        load_model(tiny, 'x')


def test_cuda_that_is_not_there_is_named(tiny):
    with pytest.raises(ModelError, match='onnxruntime-gpu'):
        load_model(tiny, 'onnxruntime-cuda')


def test_names_and_devices_are_checked(tmp_path):
    with pytest.raises(ModelError, match=r'no model depth_smal; .*[Oo]r give the path'):
        load_model('depth_smal')
    with pytest.raises(ModelError, match='no model'):
        load_model(tmp_path / 'none.onnx')


def test_an_unknown_back_end_is_named(tiny):
    with pytest.raises(ModelError, match='no back end tpu; there are auto, '):
        load_model(tiny, 'tpu')


def test_damaged_reference_frames_are_told(tiny):
    tiny.with_suffix('.npz').write_bytes(b'PK\x03\x04 cut')
    with pytest.raises(ModelError, match='copy it again beside the model'):
        load_model(tiny)


def test_without_reference_frames_it_runs_and_says_so(tiny, only_onnxruntime):
    tiny.with_suffix('.npz').unlink()
    told = []
    load_model(tiny, log=told.append)
    assert 'no frames to compare with' in told[0]


def test_a_model_that_the_back_end_cannot_load_is_an_error(tmp_path):
    model = tiny_model()
    model.graph.node[1].input[1] = 'nobody_makes_this'
    path = tmp_path / 'broken.onnx'
    path.write_bytes(model.SerializeToString())
    with pytest.raises(ModelError, match='ONNX Runtime cannot load'):
        load_model(path, 'onnxruntime')
