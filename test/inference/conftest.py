import json

import numpy as np
import pytest


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
