"""Gaze: the paper's layers, errors by hand, training that goes on, exports that say the same."""

from functools import partial
import math

import numpy as np
import pytest

torch = pytest.importorskip('torch', reason="training needs torch: pip install '.[train]'")
pytest.importorskip('lightning_fabric', reason="training needs Fabric: pip install '.[train]'")
pytest.importorskip('onnx', reason="export needs onnx: pip install '.[train]'")
onnxruntime = pytest.importorskip('onnxruntime', reason="needs onnxruntime: pip install '.[onnx]'")

from training.datasets.gaze import EyeSample, GazeDataset
from training.datasets.sample import Licence, Terms
from training.gaze import train as train_gaze
from training.gaze.network import GazeNetwork, UnitGaze, degrees_between, euclidean_loss
from training.gaze.train import (
    EyeBatch,
    RecordedEyes,
    RenderedEyes,
    Settings,
    sources,
    train,
    validate,
)
from training.networks.simgan import GreyRefiner
from training.render.eyes import gaze_of, render_eyes, sample_eyes


def settings(run, **changed):
    given = {'steps': 4, 'batch': 4, 'checked': 8, 'validate_every': 100, 'accelerator': 'cpu'}
    return Settings(run=run, **(given | changed))


def weights(run):
    return torch.load(run / 'checkpoint.pt', weights_only=True)['network']


SMALL = partial(GazeNetwork, maps=(8, 8, 16, 16, 24), hidden=64)


@pytest.fixture
def small(monkeypatch):
    """A network of a few weights."""
    monkeypatch.setattr(train_gaze, 'GazeNetwork', SMALL)


@pytest.fixture
def unexported(monkeypatch):
    """Leave out the export, which takes seconds, where it is not looked at."""
    monkeypatch.setattr(train_gaze, 'export', lambda *_: None)


# --------------------------------------------------------------------------- network and errors


def test_the_network_has_the_papers_layers():
    network = GazeNetwork()
    count = sum(p.numel() for p in network.parameters())
    convolutions = (9 + 1) * 32, (9 * 32 + 1) * 32, (9 * 32 + 1) * 64
    convolutions += ((9 * 64 + 1) * 80, (9 * 80 + 1) * 192)
    assert count == sum(convolutions) + (9600 + 1) * 1000 + (1000 + 1) * 3
    assert network(torch.rand(2, 1, 35, 55)).shape == (2, 3)


def test_errors_by_hand():
    ahead = torch.tensor([[0.0, 0, -1]])
    for angle_deg in (0.01, 7.0, 60.0, 135.0):
        angle = math.radians(angle_deg)
        turned = 3 * torch.tensor([[math.sin(angle), 0, -math.cos(angle)]])
        assert float(degrees_between(turned, ahead)) == pytest.approx(angle_deg, rel=1e-4)
    said = torch.tensor([[0.0, 0, 1], [1, 0, -1]])
    # Half of 4 and half of 1, of two eyes.
    assert float(euclidean_loss(said, ahead.expand(2, 3))) == pytest.approx(1.25)


class Oracle(torch.nn.Module):
    """Says what it is told to, a part at a time."""

    def __init__(self, said):
        super().__init__()
        self.parts = iter(said.split(256))

    def forward(self, grey):
        return next(self.parts)[: len(grey)]


def test_validation_counts_eyes_within_seven_degrees():
    wanted = gaze_of(torch.zeros(300), torch.zeros(300))
    off_deg = torch.tensor([1.0, 6.0, 8.0]).repeat(100)
    checked = EyeBatch(torch.zeros(300, 1, 35, 55), wanted)
    said = gaze_of(off_deg, torch.zeros(300))
    figures = validate(Oracle(said), checked, torch.device('cpu'))
    assert figures['mean_deg'] == pytest.approx(5, rel=1e-4)
    assert figures['median_deg'] == pytest.approx(6, rel=1e-4)
    assert figures['within_7deg'] == pytest.approx(2 / 3)
    # Half the square of a chord, 2 sin(a / 2) long.
    chords = [2 * math.sin(math.radians(a) / 2) ** 2 for a in (1, 6, 8)]
    assert figures['loss'] == pytest.approx(np.mean(chords), rel=1e-3)


# --------------------------------------------------------------------------------------- batches


class TenEyes(GazeDataset):
    """Eyes whose grey is their number."""

    kind = 'ten'
    sign = 'none'
    licence = Licence('own', Terms.OWN)

    def __init__(self, path):
        super().__init__(path, map(str, range(10)))

    @staticmethod
    def recognises(path):
        return True

    def _read(self, index):
        return EyeSample(
            self.names[index], np.full((35, 55), index / 10, np.float32), np.array([0, 0, -1.0])
        )


def test_each_epoch_shows_every_eye_once(tmp_path):
    batches = RecordedEyes(TenEyes(tmp_path), 4, seed=0)
    numbers = torch.cat([batches[n].grey[:, 0, 0, 0] for n in range(5)]).mul(10).round().tolist()
    assert sorted(numbers[:10]) == sorted(numbers[10:]) == list(range(10))
    assert numbers[:10] != numbers[10:]
    again = RecordedEyes(TenEyes(tmp_path), 4, seed=0)
    assert torch.equal(again[3].grey, batches[3].grey)
    assert batches[0].gaze.dtype == torch.float32


def test_rendered_batches_are_functions_of_their_number():
    eyes = RenderedEyes(3, seed=1)
    assert torch.equal(eyes[5].grey, eyes[5].grey)
    assert not torch.equal(eyes[5].gaze, eyes[6].gaze)
    clean = RenderedEyes(3, seed=1, clean=True)
    assert torch.equal(clean[5].gaze, eyes[5].gaze)
    assert not torch.equal(clean[5].grey, eyes[5].grey)


def test_research_data_needs_a_word(tmp_path, monkeypatch):
    monkeypatch.setattr(TenEyes, 'licence', Licence('lent', Terms.RESEARCH_ONLY))
    monkeypatch.setattr(train_gaze, 'open_gaze', TenEyes)
    with pytest.raises(SystemExit, match='Weights trained on it may not be shipped'):
        sources(settings(tmp_path, data=tmp_path), 4)
    learned, checked = sources(settings(tmp_path, data=tmp_path, test=tmp_path, research=True), 4)
    assert learned[0].grey.shape == (4, 1, 35, 55)
    # 8 of 10, spread over all.
    assert checked.grey[:, 0, 0, 0].mul(10).round().tolist() == [0, 1, 3, 4, 5, 6, 8, 9]
    # What is only validated on leaves no trace in weights.
    assert len(sources(settings(tmp_path, test=tmp_path), 4)[1].gaze) == 8


def test_what_is_no_dataset_is_told(tmp_path):
    with pytest.raises(SystemExit, match='looks like no dataset of eyes'):
        train(settings(tmp_path / 'run', data=tmp_path))


# -------------------------------------------------------------------------------------- training


def test_eyes_are_refined_and_look_where_they_did(tmp_path):
    torch.manual_seed(0)
    of = {'domain': 'gaze', 'kernel': 3, 'blocks': 1, 'maps': 4, 'direct': False}
    network = GreyRefiner(kernel=3, blocks=1, maps=4)
    network.layers[-1].bias.data[0] = 0.5  # of a tenth of the range
    state = {'settings': of, 'refiner': network.state_dict(), 'best': {'weights': {}}}
    torch.save(state, tmp_path / 'simgan.pt')
    learned, checked = sources(settings(tmp_path, refiner=tmp_path / 'simgan.pt'), 4)
    plainly, validated = sources(settings(tmp_path), 4)
    assert torch.equal(checked.grey, validated.grey)
    assert torch.equal(learned[3].gaze, plainly[3].gaze)
    change = learned[3].grey - plainly[3].grey
    lit = plainly[3].grey < 0.9
    assert change[lit].sub(0.05).abs().max() < 0.01
    assert learned[3].grey.max() <= 1


def test_what_is_no_refiner_is_refused(tmp_path):
    torch.save({'network': {}}, tmp_path / 'other.pt')
    with pytest.raises(SystemExit, match='has no refiner'):
        sources(settings(tmp_path, refiner=tmp_path / 'other.pt'), 4)


@pytest.mark.slow
def test_training_learns(tmp_path, small, unexported, training_seed, check_learned):
    eyes = sample_eyes(9, 64)
    checked = EyeBatch(render_eyes(eyes), eyes.gaze)
    given = settings(
        tmp_path, steps=60, batch=16, learning_rate=3e-3, clean=True, seed=training_seed
    )
    torch.manual_seed(training_seed)
    untaught, network = SMALL(), SMALL()
    train(given)
    network.load_state_dict(weights(tmp_path))
    before, after = (
        validate(one, checked, torch.device('cpu'))['mean_deg'] for one in (untaught, network)
    )
    check_learned('mean_deg', before, after, 0.8)  # 0.295, deviation 0.124


def test_a_stopped_run_goes_on_as_if_it_had_not_been(tmp_path, stopped, small, unexported):
    train(settings(tmp_path / 'whole'))
    with stopped(2):
        train(settings(tmp_path / 'parts'))
    train(settings(tmp_path / 'parts'))
    whole, parts = weights(tmp_path / 'whole'), weights(tmp_path / 'parts')
    assert all(torch.equal(whole[name], parts[name]) for name in whole)
    with pytest.raises(SystemExit, match='clean was False and is True'):
        train(settings(tmp_path / 'parts', clean=True))


def test_what_is_exported_says_what_the_network_says(tmp_path, small, capsys):
    model = train(settings(tmp_path, steps=1))
    assert 'degrees of PyTorch' in capsys.readouterr().out
    network = SMALL()
    network.load_state_dict(weights(tmp_path))
    grey = render_eyes(sample_eyes(2, 5))
    session = onnxruntime.InferenceSession(str(model), providers=['CPUExecutionProvider'])
    (said,) = session.run(['gaze'], {'grey': grey.numpy()})
    with torch.no_grad():
        wanted = UnitGaze(network)(grey)
    np.testing.assert_allclose(said, wanted.numpy(), atol=1e-5)
    np.testing.assert_allclose(np.linalg.norm(said, axis=1), 1, atol=1e-5)


def test_a_model_that_differs_is_not_exported(tmp_path, monkeypatch):
    path = tmp_path / 'model.onnx'

    def wrong(*_):
        monkeypatch.undo()
        train_gaze.onnx_export.to_onnx(
            UnitGaze(SMALL()).eval(), path, (torch.rand(2, 1, 35, 55),), ['grey'], ['gaze'],
            {'grey': {0: torch.export.Dim.DYNAMIC}},
        )  # fmt: skip

    monkeypatch.setattr(train_gaze.onnx_export, 'to_onnx', wrong)
    with pytest.raises(SystemExit, match='degrees off PyTorch'):
        train_gaze.export(SMALL(), path, torch.rand(2, 1, 35, 55))
    assert not path.exists()
