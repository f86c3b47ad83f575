import numpy as np
import pytest

onnx = pytest.importorskip('onnx', reason='makes the models of these tests: pip install onnx')
onnxruntime = pytest.importorskip('onnxruntime', reason='runs the models of these tests')

from onnx import TensorProto, helper, numpy_helper

from depth_refiner_ros.inference import check_parity, typed_graph
from depth_refiner_ros.inference.model import model_path
from depth_refiner_ros.inference.parity import reference_frames

from .conftest import convolving_model

HALF = np.float16


def run(model, **inputs):
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), providers=['CPUExecutionProvider']
    )
    names = [value.name for value in session.get_outputs()]
    return dict(zip(names, session.run(names, inputs), strict=True))


def image(depth_m=1.5, height=6, width=8):
    depth = np.full((height, width), depth_m, np.float32)
    depth[2, 3] = np.nan
    return {'depth_m': depth, 'color': np.full((height, width, 3), 51, np.uint8)}


def small(nodes, outputs, constants, inputs=(('x', TensorProto.FLOAT, [1, 1, 2, 2]),)):
    graph = helper.make_graph(
        nodes,
        'small',
        [helper.make_tensor_value_info(*value) for value in inputs],
        [helper.make_tensor_value_info(name, kind, None) for name, kind in outputs],
        [numpy_helper.from_array(values, name) for name, values in constants.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid('', 18)], ir_version=9)


def producers(model):
    return {name: node for node in model.graph.node for name in node.output}


def test_images_of_bytes_are_cast_at_once_and_nothing_changes():
    model = convolving_model()
    ready = typed_graph.for_tensorrt(model)
    readers = [node for node in ready.graph.node if 'color' in node.input]
    assert [node.op_type for node in readers] == ['Cast']
    assert 'color' in [name for node in model.graph.node for name in node.input]  # not in place
    for name, want in run(model, **image()).items():
        np.testing.assert_array_equal(run(ready, **image())[name], want)


def test_convolutions_and_what_lies_between_compute_in_half_precision():
    half = typed_graph.half_convolutions(typed_graph.for_tensorrt(convolving_model()))
    onnx.checker.check_model(half, full_check=True)
    inferred = onnx.shape_inference.infer_shapes(half).graph
    kinds = {
        v.name: v.type.tensor_type.elem_type for v in (*inferred.value_info, *inferred.output)
    }
    kinds |= {value.name: value.data_type for value in half.graph.initializer}
    for node in half.graph.node:
        if node.op_type in ('Conv', 'Relu', 'Resize'):
            assert kinds[node.output[0]] == TensorProto.FLOAT16, node.name
        if node.op_type in ('Add', 'Exp', 'Where', 'Mul'):
            # The Add that corrects the depth has an input that no convolution made.
            expected = TensorProto.FLOAT16 if node.output[0] == 'joined' else TensorProto.FLOAT
            assert kinds[node.output[0]] == expected, node.name
    assert {kinds[value.name] for value in half.graph.output} == {TensorProto.FLOAT}
    casts = [node for node in half.graph.node if node.output[0].endswith(('/half', '/float'))]
    assert {node.output[0] for node in casts} == {'color/float', 'features/half', 'head/float'}


def test_half_precision_errs_by_its_digits_and_not_more():
    model = convolving_model()
    got = run(typed_graph.half_convolutions(typed_graph.for_tensorrt(model)), **image(3.0))
    want = run(model, **image(3.0))
    off = np.abs(got['estimate_m'] - want['estimate_m']) / want['estimate_m']
    assert 0 < off.max() < 2**-11  # a correction of some per cent, to eleven bits


def test_the_shipped_model_passes_the_gate_in_half_precision():
    path = model_path('depth_small')
    half = typed_graph.half_convolutions(typed_graph.for_tensorrt(onnx.load(str(path))))

    def model(**inputs):
        return run(half, **inputs)

    report = check_parity(model, reference_frames(path), ('depth_m', 'color'))
    assert report.agrees, report.text
    assert 0 < report.p99_mm < 1


def test_a_model_without_convolutions_has_nothing_to_lower():
    model = small([helper.make_node('Relu', ['x'], ['y'])], [('y', TensorProto.FLOAT)], {})
    with pytest.raises(ValueError, match='no convolution'):
        typed_graph.half_convolutions(model)
    with pytest.raises(ValueError, match='calibrate again'):
        typed_graph.quantized_convolutions(model, {'x': 1.0})


def test_quantisation_rounds_to_the_grid_of_its_scales():
    conv = helper.make_node('Conv', ['x', 'w'], ['y'], kernel_shape=[1, 1])
    weights = np.array([127.0, 0.5], np.float32).reshape(2, 1, 1, 1)
    model = small([conv], [('y', TensorProto.FLOAT)], {'w': weights})
    quantized = typed_graph.quantized_convolutions(model, {'x': 12.7})
    constants = {v.name: numpy_helper.to_array(v) for v in quantized.graph.initializer}
    assert constants['x/scale'] == pytest.approx(0.1)
    # Every output channel has a scale of its own.
    np.testing.assert_allclose(constants['w/scale'], [1.0, 0.5 / 127])
    assert constants['x/zero'].dtype == np.int8
    x = np.array([0.26, -0.04, 12.7, 99.0], np.float32).reshape(1, 1, 2, 2)
    y = run(quantized, x=x)['y']
    # 0.3, 0, 12.7, and what is beyond the range at its end.
    np.testing.assert_allclose(y[0, 0].ravel(), 127 * np.array([0.3, 0, 12.7, 12.7]), rtol=1e-5)
    np.testing.assert_allclose(y[0, 1].ravel(), 0.5 * np.array([0.3, 0, 12.7, 12.7]), rtol=1e-5)


def test_convolutions_that_saw_only_zeros_stay_as_they_are():
    model = typed_graph.for_tensorrt(convolving_model())
    first, second = [node.input[0] for node in typed_graph.convolutions(model)][:2]
    quantized = typed_graph.quantized_convolutions(model, {first: 2.0, second: 0.0})
    made_by = producers(quantized)
    kinds = [
        made_by[node.input[0]].op_type for node in quantized.graph.node if node.op_type == 'Conv'
    ]
    assert kinds == ['DequantizeLinear', 'Relu', 'Resize']


def test_a_tensor_read_twice_is_quantised_once():
    nodes = [
        helper.make_node('Conv', ['x', 'w'], ['a'], kernel_shape=[1, 1]),
        helper.make_node('Conv', ['x', 'w'], ['b'], kernel_shape=[1, 1]),
    ]
    weights = np.ones((1, 1, 1, 1), np.float32)
    outputs = [('a', TensorProto.FLOAT), ('b', TensorProto.FLOAT)]
    quantized = typed_graph.quantized_convolutions(small(nodes, outputs, {'w': weights}), {'x': 1})
    assert sum(node.op_type == 'QuantizeLinear' for node in quantized.graph.node) == 2


def test_what_is_inside_can_be_put_out():
    model = typed_graph.for_tensorrt(convolving_model())
    names = [node.input[0] for node in typed_graph.convolutions(model)]
    found = run(typed_graph.with_outputs(model, [*names, *names]), **image())
    assert set(names) <= found.keys()
    assert found['features'].shape == (1, 4, 6, 8)


def test_a_transformer_keeps_residuals_norms_and_softmax_in_float32(tmp_path):
    pytest.importorskip('torch', reason='exports the transformer of this test')
    from .vision_transformer import MASSIVE, export

    model = onnx.load(str(export(tmp_path / 'transformer.onnx')))
    half = typed_graph.half_convolutions(typed_graph.for_tensorrt(model), typed_graph.PRODUCTS)
    onnx.checker.check_model(half, full_check=True)
    inferred = onnx.shape_inference.infer_shapes(half).graph
    kinds = {value.name: value.type.tensor_type.elem_type for value in inferred.value_info}
    count = dict.fromkeys(('Conv', 'MatMul', 'LayerNormalization', 'Softmax', 'Erf', 'Mul'), 0)
    for node in half.graph.node:
        if node.op_type in count:
            count[node.op_type] += 1
            products = node.op_type in ('Conv', 'MatMul')
            wanted = TensorProto.FLOAT16 if products else TensorProto.FLOAT
            assert kinds[node.output[0]] == wanted, node.name
    # Three blocks of four linear layers and two products of attention each.
    assert (count['MatMul'], count['Softmax'], count['LayerNormalization']) == (18, 3, 7)
    image = {'image': np.random.default_rng(0).normal(0, 1, (1, 3, 70, 98)).astype(np.float32)}
    want, got = run(model, **image)['depth'], run(half, **image)['depth']
    assert 0 < np.abs(got - want).max() < 1e-3 * np.ptp(want)
    # Were its residuals in half precision there would be nothing left of it.
    assert float(np.finfo(HALF).max) < MASSIVE
