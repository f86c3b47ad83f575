import contextlib

import hypothesis
from hypothesis import strategies
import numpy as np
import pytest

from depth_refiner_ros.inference import ModelError, read_onnx

from .conftest import tiny_model

onnx = pytest.importorskip('onnx', reason='makes the models of these tests: pip install onnx')

from onnx import helper, numpy_helper


def test_a_model_says_what_it_is(tiny):
    file = read_onnx(tiny)
    assert file.metadata.name == 'tiny'
    assert file.metadata.stage == 'inpaint_depth'
    assert file.metadata.sizes == ((12, 16),)
    assert file.operators == {'IsNaN', 'Where', 'Mul', 'Greater', 'Cast'}


def test_a_model_without_description_has_its_files_name(tmp_path):
    path = tmp_path / 'plain.onnx'
    path.write_bytes(tiny_model(metadata=False).SerializeToString())
    assert read_onnx(path).metadata.name == 'plain'


@pytest.mark.parametrize(
    ('told', 'why'),
    [('{"format": 2}', 'format 2'), ('[1]', 'does not understand'), ('{"for', 'does not underst')],
)
def test_a_description_of_another_version_is_refused(tmp_path, told, why):
    model = tiny_model(metadata=False)
    helper.set_model_props(model, {'depth_refiner': told})
    path = tmp_path / 'new.onnx'
    path.write_bytes(model.SerializeToString())
    with pytest.raises(ModelError, match=why):
        read_onnx(path)


def test_what_no_model_needs_is_refused(tmp_path):
    custom = helper.make_node('Run', ['depth_m'], ['x'], domain='evil')
    path = tmp_path / 'bad.onnx'
    path.write_bytes(tiny_model(operators=[custom], domain='evil').SerializeToString())
    with pytest.raises(ModelError, match=r'outside of standard ONNX \(evil\)'):
        read_onnx(path)


def test_operators_hidden_in_a_branch_are_seen(tmp_path):
    inner = helper.make_graph(
        [helper.make_node('Run', [], ['y'], domain='evil')], 'branch', [], []
    )
    branch = helper.make_node('If', ['hole'], ['x'], then_branch=inner, else_branch=inner)
    path = tmp_path / 'bad.onnx'
    path.write_bytes(tiny_model(operators=[branch]).SerializeToString())
    with pytest.raises(ModelError, match='evil'):
        read_onnx(path)


def test_weights_may_lie_beside_the_model_and_nowhere_else(tmp_path):
    model = tiny_model()
    tensor = numpy_helper.from_array(np.zeros(4096, np.float32), 'big')
    model.graph.initializer.append(tensor)
    path = str(tmp_path / 'split.onnx')
    onnx.save(model, path, save_as_external_data=True, location='weights.bin', size_threshold=0)
    assert read_onnx(tmp_path / 'split.onnx').weights == (tmp_path / 'weights.bin',)
    (tmp_path / 'weights.bin').rename(tmp_path / 'other.bin')
    with pytest.raises(ModelError, match=r'weights\.bin, which is not beside it; copy both'):
        read_onnx(tmp_path / 'split.onnx')
    (tmp_path / 'weights.bin').symlink_to(tmp_path / 'other.bin')
    with pytest.raises(ModelError, match='save it as one file'):
        read_onnx(tmp_path / 'split.onnx')


@pytest.mark.parametrize('place', ['../weights.bin', '/etc/hosts', ''])
def test_weights_in_other_folders_are_refused(tmp_path, place):
    model = tiny_model()
    tensor = numpy_helper.from_array(np.zeros(4, np.float32), 'big')
    tensor.data_location = onnx.TensorProto.EXTERNAL
    tensor.ClearField('raw_data')
    tensor.external_data.add(key='location', value=place)
    model.graph.initializer.append(tensor)
    (tmp_path / 'split.onnx').write_bytes(model.SerializeToString())
    with pytest.raises(ModelError, match='save it as one file'):
        read_onnx(tmp_path / 'split.onnx')


def test_inputs_and_outputs_are_read(tiny):
    file = read_onnx(tiny)
    assert file.signature.inputs == {
        'depth_m': ('float32', ('h', 'w')),
        'color': ('uint8', ('h', 'w', 3)),
    }
    assert list(file.signature.outputs) == ['estimate_m', 'stddev_m', 'wrong']


def test_damaged_files_are_told_apart_from_missing_ones(tmp_path, tiny):
    whole = tiny.read_bytes()
    tiny.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ModelError, match='copy it again'):
        read_onnx(tiny)
    tiny.write_bytes(b'version https://git-lfs.github.com/spec/v1\noid sha256:0\n')
    with pytest.raises(ModelError, match='Git LFS'):
        read_onnx(tiny)
    with pytest.raises(ModelError, match='No such file'):
        read_onnx(tmp_path / 'none.onnx')


WHOLE = tiny_model().SerializeToString()


@hypothesis.given(strategies.binary(max_size=200))
def test_any_bytes_end_in_a_clear_error(tmp_path_factory, data):
    path = tmp_path_factory.getbasetemp() / 'any.onnx'
    path.write_bytes(data)
    with pytest.raises(ModelError):
        read_onnx(path)


@hypothesis.given(
    strategies.lists(
        strategies.tuples(strategies.integers(0, len(WHOLE) - 1), strategies.integers(0, 255)),
        min_size=1,
        max_size=8,
    )
)
def test_a_model_with_changed_bytes_is_read_or_refused(tmp_path_factory, changes):
    data = bytearray(WHOLE)
    for at, value in changes:
        data[at] = value
    path = tmp_path_factory.getbasetemp() / 'changed.onnx'
    path.write_bytes(bytes(data))
    with contextlib.suppress(ModelError):
        read_onnx(path)
