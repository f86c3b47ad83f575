import math

import numpy as np
import pytest

torch = pytest.importorskip('torch', reason="training needs torch: pip install '.[train]'")
pytest.importorskip('lightning_fabric', reason="training needs Fabric: pip install '.[train]'")

from training.examples import Shards
from training.mono.network import Guess, MonocularDepth
from training.mono.recordings import relative_errors
from training.mono.samples import Appearance, Views, add_border
from training.mono.train import (
    Settings,
    faster_in_bfloat16,
    gradient_error,
    initial_network,
    losses,
    train,
)


def settings(rooms, run, **changed):
    given = {
        'encoder': 'scratch', 'steps': 4, 'batch': 2, 'height': 32, 'width': 64, 'held_out': 2,
        'validate_every': 100, 'accelerator': 'cpu', 'mixed': False,
    }  # fmt: skip
    return Settings(data=rooms, run=run, **(given | changed))


def guess_of(depth_m, log_spread=-2.0):
    log_m = torch.log(depth_m)
    return Guess(log_m - 1.3, log_m, torch.full_like(log_m, log_spread))


def test_a_perfect_guess_costs_nothing():
    truth_m = 1 + torch.rand(2, 1, 32, 48)
    parts = losses(guess_of(truth_m), truth_m)
    for name in ('metric', 'relative', 'edges'):
        assert float(parts[name]) == pytest.approx(0, abs=1e-4), name
    assert float(parts['spread']) == pytest.approx(-2.0)


def test_a_wrong_scale_is_metric_only():
    truth_m = 1 + torch.rand(2, 1, 32, 48)
    parts = losses(guess_of(1.1 * truth_m), truth_m)
    assert float(parts['metric']) == pytest.approx(math.log(1.1), rel=1e-4)
    assert float(parts['relative']) == pytest.approx(0, abs=1e-4)
    # 0.0953 e^2 - 2
    assert float(parts['spread']) == pytest.approx(math.log(1.1) * math.exp(2) - 2, rel=1e-4)


def test_unknown_truth_does_not_count():
    truth_m = 1 + torch.rand(1, 1, 32, 48)
    guess = guess_of(truth_m.clone())
    truth_m[..., :10, :] = 0
    parts = losses(guess, truth_m)
    assert float(parts['metric']) == pytest.approx(0, abs=1e-5)
    assert float(parts['edges']) == pytest.approx(0, abs=1e-4)


def test_gradient_error_by_hand():
    error = torch.tensor([[0.0, 0.1], [0.0, 0.1]]).reshape(1, 1, 2, 2)
    known = torch.ones_like(error, dtype=torch.bool)
    # Down nothing changes, across 0.1; the coarser scale has one pixel.
    assert float(gradient_error(error, known, scales=2)) == pytest.approx(0.1)


def test_relative_errors_by_hand():
    truth_m = np.full((10, 10), 2.0, np.float32)
    truth_m[0] = np.nan
    found = relative_errors(np.full((10, 10), 3.0, np.float32), truth_m)
    assert found['abs_rel'] == pytest.approx(0.5)
    assert found['delta1'] == 0
    assert found['aligned_abs_rel'] == pytest.approx(0, abs=1e-3)
    assert found['aligned_delta1'] == 1


def test_views_are_functions_of_their_number_and_keep_geometry(rooms):
    shards = Shards(rooms)
    views = Views(shards, 3, (32, 48), Appearance(), range(8), 100)
    for a, b in zip(views[7], views[7], strict=True):
        assert torch.equal(a, b)
    whole = Views(shards, 3, (64, 96), None, range(8), 8)[2]
    # As rendered: 525 px, centre between the middle pixels.
    assert whole.intrinsics.tolist() == [525.0, 525.0, 47.5, 31.5]
    half = Views(shards, 3, (32, 48), None, range(8), 8)[2]
    assert half.intrinsics.tolist() == [262.5, 262.5, 23.5, 15.5]
    assert sorted(np.unique(half.truth_m.numpy()).round(3)) == [1.0, 2.0]


def test_training_learns_and_a_stopped_run_goes_on_as_if_it_had_not(rooms, tmp_path):
    def weights(run):
        return torch.load(run / 'checkpoint.pt', weights_only=True)['network']

    train(settings(rooms, tmp_path / 'whole'))
    train(settings(rooms, tmp_path / 'parts', minutes=1e-9))
    first = torch.load(tmp_path / 'parts' / 'checkpoint.pt', weights_only=True)['step']
    assert first < 4
    train(settings(rooms, tmp_path / 'parts'))
    whole, parts = weights(tmp_path / 'whole'), weights(tmp_path / 'parts')
    for name, value in whole.items():
        assert torch.equal(value, parts[name]), name


def test_without_shards_it_says_how_to_make_some(tmp_path):
    with pytest.raises(SystemExit, match=r'training\.examples'):
        train(settings(tmp_path, tmp_path / 'run'))


def test_an_encoder_that_has_learned_learns_more_slowly(rooms, tmp_path, monkeypatch):
    rates = []

    def note(step, *_):
        rates.append(step)
        return 1e-3

    monkeypatch.setattr('training.mono.train.learning_rate', note)
    given = settings(rooms, tmp_path / 'first', steps=1, validate_every=9)
    checkpoint = torch.load(train(given), weights_only=True)
    # From scratch all is one group.
    assert [group['lr'] for group in checkpoint['optimizer']['param_groups']] == [1e-3]
    monkeypatch.setattr('training.mono.train.load_imagenet', lambda encoder, file: None)
    monkeypatch.setattr('training.mono.train.imagenet_file', lambda: None)
    given = settings(rooms, tmp_path / 'second', steps=1, encoder='imagenet', encoder_share=0.25)
    checkpoint = torch.load(train(given), weights_only=True)
    groups = checkpoint['optimizer']['param_groups']
    assert [group['lr'] for group in groups] == [1e-3, 2.5e-4]
    encoder = sum(1 for _ in MonocularDepth().encoder.parameters())
    assert len(groups[1]['params']) == encoder


def test_single_precision_where_bfloat16_is_slower(monkeypatch):
    clock = iter([0, 1, 1, 2, 0, 3, 3, 6] * 2)
    monkeypatch.setattr('training.mono.train.time.perf_counter', lambda: float(next(clock)))
    network = MonocularDepth()
    assert not faster_in_bfloat16(network, (2, 3, 32, 32))
    # It is a copy that was timed.
    assert not network.mixed
    assert all(parameter.grad is None for parameter in network.parameters())


def test_a_missing_file_to_start_from_is_one_sentence(rooms, tmp_path):
    with pytest.raises(SystemExit, match='cannot be read'):
        initial_network(settings(rooms, tmp_path, initial=tmp_path / 'none.onnx'))


def test_a_border_hides_colour_and_truth_alike():
    picture = np.full((48, 96, 3), 90, np.uint8)
    depth_m = np.full((48, 96), 2.0, np.float32)
    add_border(picture, depth_m, np.random.default_rng(1))
    hidden = depth_m == 0
    assert 0 < hidden.mean() < 0.3
    assert set(np.unique(picture[~hidden])) == {90}
    assert set(np.unique(picture[hidden])) in ({0}, {255})
    # The middle is never hidden.
    assert not hidden[4:-4, 4:-4].any()
