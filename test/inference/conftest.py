import json
import sys

import numpy as np
import pytest

from depth_refiner_ros import inference
from depth_refiner_ros.inference import compiling


def tiny_model(depth_m=2.0, operators=(), domain='', metadata=True):
    """A model that fills every hole with one depth, and doubts what is farther than 5 m."""
    # Not at the top: pytest cannot skip what a conftest raises.
    pytest.importorskip('onnx', reason='makes the models of these tests: pip install onnx')
    from onnx import TensorProto, helper

    image = ['h', 'w']
    nodes = [
        helper.make_node('IsNaN', ['depth_m'], ['hole']),
        helper.make_node('Where', ['hole', 'fill', 'depth_m'], ['estimate_m']),
        helper.make_node('Mul', ['estimate_m', 'share'], ['stddev_m']),
        helper.make_node('Greater', ['estimate_m', 'far'], ['is_far']),
        helper.make_node('Cast', ['is_far'], ['wrong'], to=TensorProto.FLOAT),
        *operators,
    ]
    constants = {'fill': depth_m, 'share': 0.01, 'far': 5.0}
    graph = helper.make_graph(
        nodes,
        'tiny',
        [
            helper.make_tensor_value_info('depth_m', TensorProto.FLOAT, image),
            helper.make_tensor_value_info('color', TensorProto.UINT8, [*image, 3]),
        ],
        [
            helper.make_tensor_value_info(name, TensorProto.FLOAT, image)
            for name in ('estimate_m', 'stddev_m', 'wrong')
        ],
        [helper.make_tensor(k, TensorProto.FLOAT, [], [v]) for k, v in constants.items()],
    )
    opsets = [helper.make_opsetid('', 18)]
    if domain:
        opsets.append(helper.make_opsetid(domain, 1))
    model = helper.make_model(graph, opset_imports=opsets, ir_version=9)
    if metadata:
        told = {'format': 1, 'name': 'tiny', 'stage': 'inpaint_depth', 'sizes': [[12, 16]]}
        helper.set_model_props(model, {'depth_refiner': json.dumps(told)})
    return model


def convolving_model():
    """A model with what ours are made of: bytes in, metres through, convolutions that correct."""
    pytest.importorskip('onnx', reason='makes the models of these tests: pip install onnx')
    from onnx import TensorProto, helper, numpy_helper

    rng = np.random.default_rng(0)
    weights = {
        'w1': rng.normal(0, 0.3, (4, 4, 3, 3)),
        'b1': rng.normal(0, 0.1, 4),
        'w2': rng.normal(0, 0.3, (4, 4, 3, 3)),
        'w3': rng.normal(0, 0.3, (1, 4, 1, 1)),
        'fill': np.array(2.0),
        'share': np.array(0.01),
        'most': np.array(255.0),
        'scales': np.array([1.0, 1.0, 1.0, 1.0]),
    }
    constants = [numpy_helper.from_array(v.astype(np.float32), k) for k, v in weights.items()]
    axes = {'front': [0], 'both': [0, 1]}
    constants += [numpy_helper.from_array(np.array(v, np.int64), k) for k, v in axes.items()]
    wide = {'kernel_shape': [3, 3], 'pads': [1, 1, 1, 1]}
    nodes = [
        helper.make_node('IsNaN', ['depth_m'], ['hole']),
        helper.make_node('Where', ['hole', 'fill', 'depth_m'], ['filled_m']),
        helper.make_node('Unsqueeze', ['filled_m', 'both'], ['depth_image']),
        helper.make_node('Transpose', ['color'], ['planes'], perm=[2, 0, 1]),
        helper.make_node('Cast', ['planes'], ['levels'], to=TensorProto.FLOAT),
        helper.make_node('Div', ['levels', 'most'], ['rgb']),
        helper.make_node('Unsqueeze', ['rgb', 'front'], ['color_image']),
        helper.make_node('Concat', ['depth_image', 'color_image'], ['features'], axis=1),
        helper.make_node('Conv', ['features', 'w1', 'b1'], ['first'], **wide),
        helper.make_node('Relu', ['first'], ['first_out']),
        helper.make_node('Conv', ['first_out', 'w2'], ['second'], **wide),
        helper.make_node('Add', ['first_out', 'second'], ['joined']),
        helper.make_node('Resize', ['joined', '', 'scales'], ['resized'], mode='nearest'),
        helper.make_node('Conv', ['resized', 'w3'], ['head'], kernel_shape=[1, 1]),
        helper.make_node('Squeeze', ['head', 'both'], ['raw']),
        helper.make_node('Mul', ['raw', 'share'], ['correction']),
        helper.make_node('Exp', ['correction'], ['factor']),
        helper.make_node('Mul', ['filled_m', 'factor'], ['estimate_m']),
        helper.make_node('Mul', ['estimate_m', 'share'], ['stddev_m']),
    ]
    graph = helper.make_graph(
        nodes,
        'convolving',
        [
            helper.make_tensor_value_info('depth_m', TensorProto.FLOAT, ['h', 'w']),
            helper.make_tensor_value_info('color', TensorProto.UINT8, ['h', 'w', 3]),
        ],
        [
            helper.make_tensor_value_info(name, TensorProto.FLOAT, ['h', 'w'])
            for name in ('estimate_m', 'stddev_m')
        ],
        constants,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid('', 18)], ir_version=9)
    told = {'format': 1, 'name': 'convolving', 'sizes': [[12, 16]]}
    helper.set_model_props(model, {'depth_refiner': json.dumps(told)})
    return model


@pytest.fixture
def convolving(tmp_path, frame):
    """The path of a model with convolutions, with stored frames beside it."""
    onnxruntime = pytest.importorskip('onnxruntime', reason='runs the models of these tests')
    path = tmp_path / 'convolving.onnx'
    path.write_bytes(convolving_model().SerializeToString())
    session = onnxruntime.InferenceSession(str(path), providers=['CPUExecutionProvider'])
    names = ['estimate_m', 'stddev_m']
    stored = frame | dict(zip(names, session.run(names, frame), strict=True))
    np.savez(path.with_suffix('.npz'), **{f'0/{k}': v for k, v in stored.items()})
    return path


@pytest.fixture
def frame():
    depth_m = np.full((6, 8), 1.5, np.float32)
    depth_m[2, 3], depth_m[4, 4] = np.nan, 6.0
    return {'depth_m': depth_m, 'color': np.zeros((6, 8, 3), np.uint8)}


@pytest.fixture
def tiny(tmp_path, frame):
    """The path of a model, with stored frames beside it."""
    pytest.importorskip('onnxruntime', reason='runs the models of these tests')
    path = tmp_path / 'tiny.onnx'
    path.write_bytes(tiny_model().SerializeToString())
    estimate_m = np.nan_to_num(frame['depth_m'], nan=2.0)
    stored = frame | {
        'estimate_m': estimate_m,
        'stddev_m': np.float32(0.01) * estimate_m,
        'wrong': (np.nan_to_num(frame['depth_m']) > 5).astype(np.float32),
    }
    np.savez(path.with_suffix('.npz'), **{f'0/{k}': v for k, v in stored.items()})
    return path


MODULES = ('tensor_rt', 'tensor_rt_build')


def forget_modules():
    for name in MODULES:
        sys.modules.pop(f'{inference.__name__}.{name}', None)
        vars(inference).pop(name, None)


@pytest.fixture
def install(monkeypatch, tmp_path):
    """Install a fake TensorRT and CUDA."""
    pytest.importorskip('onnx', reason='the fake reads models with it: pip install onnx')
    monkeypatch.setenv('DEPTH_REFINER_CACHE', str(tmp_path / 'cache'))

    def install(*arguments, **options):
        from .fake_tensorrt import Fake

        fake = Fake(*arguments, **options)
        for name, module in fake.modules().items():
            monkeypatch.setitem(sys.modules, name, module)
        monkeypatch.setattr(compiling, '_DEVICES', ('/dev/null',))
        forget_modules()
        return fake

    yield install
    forget_modules()


@pytest.fixture
def fake(install):
    return install()
