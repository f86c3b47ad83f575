import re

import cv2
import numpy as np
import pytest
import yaml

pytest.importorskip('onnx', reason='makes the models of these tests: pip install onnx')
pytest.importorskip('onnxruntime', reason='runs the models of these tests')

from depth_refiner_ros.cli import main, models
from depth_refiner_ros.inference import compiling, load_model
from depth_refiner_ros.inference.published import published_models
from depth_refiner_ros.pictures import read_png

from ..inference import speaking
from ..inference.conftest import fake, install  # noqa: F401

FOCAL_PX = 60.0


def run(capsys, *arguments):
    assert main(['models', *map(str, arguments)]) == 0
    return capsys.readouterr().out


def metric(path, size=(120, 160)):
    """A model of known metres, in a size that is quickly run."""
    return speaking.depth_anything_v2_metric(path, size)


@pytest.fixture
def indoor(tmp_path, capsys):
    """The path of a model that was added."""
    path = metric(tmp_path / 'mine.onnx')
    run(capsys, 'add', path, '--as', 'depth_anything_v2_metric_indoor')
    return path


# ---------------------------------------------------------------------------------- list, describe


def test_the_list_has_every_model_with_its_licence(capsys):
    out = run(capsys, 'list')
    for name in ('depth_small', 'mono_base', *published_models()):
        assert name in out
    assert 'BSD-2-Clause' in out


def test_a_description_is_shown_by_name_and_by_file(capsys, tmp_path, indoor):
    shown = yaml.safe_load(run(capsys, 'describe', 'metric3d_v2'))
    assert shown['outputs']['pred_depth']['focal'] == 'f/1000'
    shown = yaml.safe_load(run(capsys, 'describe', indoor))
    assert shown['size'] == {
        'rule': 'stretch',
        'height': 120,
        'width': 160,
        'interpolation': 'cubic',
    }
    bare = metric(tmp_path / 'bare.onnx')
    assert 'pixel_values float32 [1, 3, 120, 160] -> predicted_depth' in run(
        capsys, 'describe', bare
    )


# --------------------------------------------------------------------------------------------- add


def test_adding_says_what_was_assumed_and_leaves_a_model_of_metres(capsys, tmp_path):
    path = metric(tmp_path / 'mine.onnx')
    out = run(capsys, 'add', path, '--as', 'depth_anything_v2_metric_indoor')
    assert out.splitlines() == [
        'mine.onnx is depth_anything_v2_metric_indoor: Metres of the cameras it was trained with, '
        'up to 20 m; the focal length is not asked for.',
        'assumed: that it is depth_anything_v2_metric_indoor, as given',
        'mine.npz: two frames that every back end must reproduce before it serves',
        'mine.yaml: how it is used',
        f'use it: estimate_depth.model: {path}',
        f'try it: depth-refiner models check {path}',
    ]
    with np.load(path.with_suffix('.npz')) as stored:
        assert sorted(stored.files) == [
            f'{number}/{name}' for number in (0, 1) for name in ('pixel_values', 'predicted_depth')
        ]
    told = []
    model = load_model(path, 'onnxruntime', log=told.append)
    assert told == [
        'depth_anything_v2_metric_indoor runs on onnxruntime (outputs compared with ONNX Runtime '
        'on 2 frames).'
    ]
    depth_m = np.kron([[1.0, 2.0], [3.0, 0.5]], np.ones((60, 80)))
    found_m = model(color=speaking.picture(depth_m))['estimate_m']
    np.testing.assert_allclose(found_m, depth_m, rtol=1e-5)


def test_what_a_file_does_not_tell_is_asked(refuse, tmp_path):
    error = refuse('models', 'add', metric(tmp_path / 'model.onnx'))
    assert 'which have the same inputs and outputs: name it with --as NAME' in error
    assert list(tmp_path.iterdir()) == [tmp_path / 'model.onnx']


def test_a_description_is_not_overwritten(refuse, indoor):
    before = indoor.with_suffix('.yaml').read_text()
    assert 'delete it to describe mine.onnx anew' in refuse('models', 'add', indoor)
    assert indoor.with_suffix('.yaml').read_text() == before


def test_without_onnx_runtime_nothing_is_compared_and_that_is_said(capsys, tmp_path, monkeypatch):
    monkeypatch.setattr(models, 'find_spec', lambda name: None)
    path = metric(tmp_path / 'mine.onnx')
    out = run(capsys, 'add', path, '--as', 'depth_anything_v2_metric_indoor')
    assert 'were stored: pip install onnxruntime' in out
    assert not path.with_suffix('.npz').exists()
    assert path.with_suffix('.yaml').exists()


def test_what_is_missing_is_said(refuse, tmp_path):
    assert 'models add needs an .onnx file' in refuse('models', 'add')
    assert 'no model' in refuse('models', 'add', tmp_path / 'none.onnx')
    assert 'did you mean metric3d_v2' in refuse(
        'models', 'add', metric(tmp_path / 'mine.onnx'), '--as', 'metric3d'
    )


# ------------------------------------------------------------------------------------------- check


def test_a_check_says_what_comes_out_and_paints_it(capsys, indoor, tmp_path):
    depth_m = np.full((120, 160), 1.0)
    depth_m[:, 80:] = 3.0
    picture = tmp_path / 'room.png'
    cv2.imwrite(str(picture), speaking.picture(depth_m)[..., ::-1])
    out = run(capsys, 'check', indoor, '--picture', picture, '--camera', '150,150,79.5,59.5')
    assert '100.0 % of the pixels have depth, from 1.00 to 3.00, median 2.00 m' in out
    sheet = read_png(tmp_path / 'mine.check.png')
    # Beside the colour near is red and far is blue.
    reds = ((sheet[..., 0] > 100) & (sheet[..., 1] < 30) & (sheet[..., 2] < 30)).sum()
    blues = ((sheet[..., 2] > 50) & (sheet[..., 1] < 40) & (sheet[..., 0] < 70)).sum()
    assert reds > 120 * 80 * 0.9
    assert blues > 120 * 80 * 0.9


def test_a_check_in_the_simulated_room_needs_no_picture(capsys, indoor, tmp_path):
    out = run(capsys, 'check', indoor, '--output', tmp_path / 'sheet.png')
    assert re.search(r'100\.0 % of the pixels have depth, from 0\.\d+ to \d\.\d+', out)
    assert read_png(tmp_path / 'sheet.png').shape[1] > 2 * 640


def test_a_relative_model_is_not_said_to_be_metric(capsys, tmp_path):
    path = speaking.depth_anything_v2(tmp_path / 'depth_anything_v2.onnx', (120, 160))
    run(capsys, 'add', path)
    assert '(of no unit: relative)' in run(capsys, 'check', path)


def test_a_check_without_what_it_takes_is_one_sentence(capsys, refuse, indoor, tmp_path):
    bare = metric(tmp_path / 'bare.onnx')
    assert f'bare.onnx is not described: depth-refiner models add {bare}' in refuse(
        'models', 'check', bare
    )
    picture = tmp_path / 'room.png'
    cv2.imwrite(str(picture), np.zeros((120, 160, 3), np.uint8))
    for camera in ('', '1,2,3', '0,1,2,3', 'a,b,c,d', 'nan,1,1,1'):
        assert '--camera must be fx,fy,cx,cy' in refuse(
            'models', 'check', indoor, '--picture', picture, '--camera', camera
        )
    prompt = speaking.prompt_depth_anything(tmp_path / 'promptda.onnx', (84, 112))
    run(capsys, 'add', prompt)
    assert 'needs measured depth beside the colour; check it without --picture' in refuse(
        'models', 'check', prompt, '--picture', picture, '--camera', '1,1,1,1'
    )


# --------------------------------------------------------------------------------------- bad files


def broken(speaker, value, path, rank=3):
    speaker.image('predicted_depth', value, rank)
    return speaker.save(path)


def not_a_number(path):
    speaker = speaking.Speaker((28, 28))
    z = speaker.depth('pixel_values')
    zero = speaker.times(z, 0.0)
    return broken(speaker, speaker.node('Div', zero, zero), path)


def too_many_dimensions(path):
    speaker = speaking.Speaker((28, 28))
    z = speaker.node('Unsqueeze', speaker.depth('pixel_values'), speaker.constant([0], np.int64))
    speaker.leaves('predicted_depth', z, [1, 1, 1, 28, 28])
    return speaker.save(path)


def no_image(path):
    speaker = speaking.Speaker((28, 28))
    mean = speaker.node('ReduceMean', speaker.depth('pixel_values'), keepdims=0)
    speaker.leaves('predicted_depth', mean, [])
    return speaker.save(path)


@pytest.mark.parametrize(
    ('make', 'why'),
    [
        (not_a_number, 'puts out predicted_depth without a finite number'),
        (too_many_dimensions, 'the output predicted_depth has 5 dimensions'),
        (no_image, 'the output predicted_depth is no image, it has shape ()'),
    ],
)
def test_a_file_that_cannot_be_depth_is_one_sentence_and_leaves_nothing(
    capsys, tmp_path, make, why
):
    path = make(tmp_path / 'bad.onnx')
    assert main(['models', 'add', str(path), '--as', 'depth_anything_v2_metric_indoor']) == 2
    error = capsys.readouterr().err
    assert why in error
    assert error.count('\n') == 1
    assert list(tmp_path.iterdir()) == [path]


def test_a_size_that_the_file_does_not_take_is_one_sentence(refuse, capsys, tmp_path):
    # Takes any size by its declaration, and multiples of 14 by what it is made of.
    speaker = speaking.Speaker()
    z = speaker.depth('image')
    tiles = speaker.node('SpaceToDepth', z, blocksize=14)
    speaker.image('depth', speaker.node('DepthToSpace', tiles, blocksize=14))
    path = speaker.save(tmp_path / 'depth_anything_v2.onnx')
    run(capsys, 'add', path)
    content = yaml.safe_load(path.with_suffix('.yaml').read_text())
    content['size'] = {'rule': 'keep'}
    path.with_suffix('.yaml').write_text(yaml.safe_dump(content))
    path.with_suffix('.npz').unlink()
    error = refuse('models', 'check', path)
    assert 'does not run on 640x480 with size.rule keep: ' in error
    assert 'multiple of block_size' in error


def test_free_axes_without_a_size_are_asked_for_before_compiling(
    fake,  # noqa: F811
    refuse,
    tmp_path,
    capsys,
    monkeypatch,
):
    path = speaking.depth_anything_v2(tmp_path / 'depth_anything_v2.onnx')
    monkeypatch.setattr(models, 'find_spec', lambda name: None)
    run(capsys, 'add', path)
    assert 'names no size of images: say which, --size WIDTH HEIGHT' in refuse('compile', path)


def test_an_added_transformer_is_compiled(fake, tmp_path, capsys):  # noqa: F811
    pytest.importorskip('torch', reason='exports the transformer of this test')
    from ..inference.vision_transformer import export

    path = export(tmp_path / 'depth_anything_v2_vits.onnx')
    run(capsys, 'add', path)
    assert main(['compile', str(path)]) == 0
    out = capsys.readouterr().out
    assert 'depth_anything_v2 is ready for tensorrt-fp16: 98x70' in out
    model = load_model(path, 'tensorrt-fp16')
    assert model.back_end == 'tensorrt-fp16'
    color = np.random.default_rng(1).integers(0, 255, (48, 64, 3), dtype=np.uint8)
    want = load_model(path, 'onnxruntime')(color=color)['estimate_m']
    np.testing.assert_allclose(model(color=color)['estimate_m'], want, rtol=5e-3)
    assert not compiling.lacking()
