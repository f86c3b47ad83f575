import json
import shutil

import numpy as np
import pytest

torch = pytest.importorskip('torch', reason="training needs torch: pip install '.[train]'")
onnx = pytest.importorskip('onnx', reason="export needs onnx: pip install '.[train]'")

from depth_refiner_ros.inference import load_model, read_onnx
from training.depth import export
from training.depth.network import Deployed
from training.depth.train import Settings, train

# Exporting what looks for candidates takes a minute.
pytestmark = pytest.mark.slow


@pytest.fixture(scope='module')
def exported(tmp_path_factory):
    """A network of a few steps, exported."""
    from test.training.conftest import write_rooms

    folder = tmp_path_factory.mktemp('exported')
    rooms = write_rooms(folder)
    checkpoint = train(
        Settings(
            data=rooms, run=folder / 'run', size='nano', steps=3, batch=2, height=32, width=64,
            held_out=2, pixels=200, accelerator='cpu', mixed=False,
        )
    )  # fmt: skip
    export.main(export.Settings(checkpoint, folder / 'tiny.onnx', command='train tiny'))
    return checkpoint, folder / 'tiny.onnx'


def frame(height=61, width=83):
    rng = np.random.default_rng(0)
    depth_m = rng.uniform(1, 3, (height, width)).astype(np.float32)
    depth_m[depth_m < 1.5] = np.nan
    return {'depth_m': depth_m, 'color': rng.integers(0, 256, (height, width, 3), np.uint8)}


def test_what_is_exported_says_what_the_network_says(exported):
    checkpoint, path = exported
    network, _ = export.load(checkpoint)
    given = frame()
    outputs = load_model(path, 'onnxruntime')(**given)
    with torch.no_grad():
        wanted = Deployed(network)(*(torch.from_numpy(v) for v in given.values()))
    for name, want in zip(export.OUTPUTS, wanted, strict=True):
        assert outputs[name].shape == (61, 83)
        off = np.abs(outputs[name] - want.numpy())
        # A tie may fall either way.
        assert np.quantile(off, 0.99) < 1e-4, name


def test_it_describes_itself_and_keeps_frames_that_prove_it(exported):
    _, path = exported
    file = read_onnx(path)
    assert file.metadata.stage == 'inpaint_depth'
    assert file.metadata.sizes == ((240, 320), (480, 640))
    assert file.metadata.units['estimate_m'] == 'm'
    told = []
    load_model(path, 'onnxruntime', log=told.append)
    assert '0.000 mm, 99 % within 0.00 mm on 3 frames' in told[0]
    card = path.with_suffix('.md').read_text()
    assert 'train tiny' in card
    assert 'seed 0' in card
    props = {p.key: p.value for p in onnx.load(str(path)).metadata_props}
    assert json.loads(props['depth_refiner'])['difference_mm']['p999'] < 1


def test_a_model_that_differs_is_not_exported(exported, tmp_path, monkeypatch):
    checkpoint, path = exported
    monkeypatch.setattr(export, 'to_onnx', lambda _, to: shutil.copy(path, to))
    monkeypatch.setattr(export.onnx_export, 'check_against_torch', lambda *a: (0.005, 0.005))
    settings = export.Settings(checkpoint, tmp_path / 'bad.onnx')
    with pytest.raises(SystemExit, match='shall be within 1'):
        export.main(settings)
    assert not (tmp_path / 'bad.md').exists()
