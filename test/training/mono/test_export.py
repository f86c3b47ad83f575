import numpy as np
import pytest

torch = pytest.importorskip('torch', reason="training needs torch: pip install '.[train]'")
pytest.importorskip('onnx', reason="export needs onnx: pip install '.[train]'")
pytest.importorskip('lightning_fabric', reason="training needs Fabric: pip install '.[train]'")

from depth_refiner_ros.inference import load_model, read_onnx
from training.mono import export
from training.mono.network import Deployed
from training.mono.train import Settings, initial_network, train
from training.render.assets import Asset, write_index

# Exporting takes a while.
pytestmark = pytest.mark.slow


@pytest.fixture(scope='module')
def exported(tmp_path_factory):
    """A network of a few steps, exported."""
    from test.training.conftest import write_rooms

    folder = tmp_path_factory.mktemp('exported')
    rooms = write_rooms(folder)
    given = Settings(
        data=rooms, run=folder / 'run', encoder='scratch', steps=3, batch=2, height=32, width=64,
        held_out=2, accelerator='cpu', mixed=False,
    )  # fmt: skip
    checkpoint = train(given)
    sofa = Asset(
        'sofa', 'Sofa', 'sofa', (2.0, 1.0, 0.9), 0.0, 0.0, 'Ann', 'CC BY 3.0', 'a package'
    )
    write_index(folder, [sofa])
    export.main(
        export.Settings(checkpoint, folder / 'tiny.onnx', command='train tiny', assets=folder)
    )
    return given, checkpoint, folder / 'tiny.onnx'


def test_what_is_exported_says_what_the_network_says(exported):
    _, checkpoint, path = exported
    network, _, _ = export.load(checkpoint)
    rng = np.random.default_rng(0)
    given = {
        'color': rng.integers(0, 256, (61, 83, 3), np.uint8),
        'intrinsics': np.array([80, 80, 41, 30], np.float32),
    }
    outputs = load_model(path, 'onnxruntime')(**given)
    with torch.no_grad():
        wanted = Deployed(network)(*(torch.from_numpy(v) for v in given.values()))
    for name, want in zip(export.OUTPUTS, wanted, strict=True):
        np.testing.assert_allclose(outputs[name], want.numpy(), rtol=5e-3, err_msg=name)


def test_its_card_names_authors_and_licences(exported):
    _, _, path = exported
    card = path.with_suffix('.md').read_text()
    assert 'CC BY 3.0, a package: Ann (1).' in card
    assert 'Made by: train tiny' in card
    assert read_onnx(path).metadata.stage == 'estimate_depth'


def test_training_goes_on_from_the_exported_file(exported):
    given, checkpoint, path = exported
    given.initial = path
    found = initial_network(given)
    network, _, _ = export.load(checkpoint)
    color, intrinsics = torch.rand(4, 3, 32, 64), torch.tensor([[60.0, 60, 31, 15]]).expand(4, 4)
    # By running statistics, and by those of a batch, which blow up the three digits of what is
    # stored where a picture has two pixels left.
    for mode, most in ((False, 5e-3), (True, 5e-2)):
        with torch.no_grad():
            a = found.train(mode)(color, intrinsics)
            b = network.train(mode)(color, intrinsics)
        torch.testing.assert_close(a.log_depth, b.log_depth, rtol=most, atol=most)
