import json
import math

import pytest

torch = pytest.importorskip('torch', reason="training needs torch: pip install '.[train]'")
pytest.importorskip('lightning_fabric', reason="training needs Fabric: pip install '.[train]'")
onnx = pytest.importorskip('onnx', reason="export needs onnx: pip install '.[train]'")

from training.color_to_depth import train_cascade
from training.color_to_depth.cascade import Cascade, Stack, gradients, gradients_known
from training.color_to_depth.export import DepthFromColor, estimator, score
from training.color_to_depth.train_cascade import Settings, mean_square, targets, train
from training.pairs import Pairs, open_frames


def settings(rooms, run, **changed):
    given = {
        'steps': 6, 'batch': 2, 'height': 32, 'width': 48, 'held_out': 0.1,
        'validate_every': 3, 'accelerator': 'cpu', 'mixed': False,
    }  # fmt: skip
    return Settings(run=run, data=(rooms,), **(given | changed))


def checkpoint(run):
    return torch.load(run / 'checkpoint.pt', weights_only=True)


@pytest.fixture
def unexported(monkeypatch):
    """Leave out the export, which takes seconds, where it is not looked at."""
    monkeypatch.setattr(train_cascade, 'export', lambda *_: None)


# ------------------------------------------------------------------------------------- networks


def count(module):
    return sum(p.numel() for p in module.parameters())


def test_a_stack_has_eight_convolutions_and_a_transposed_one():
    stack = Stack(3, 1)
    plain = [m for m in stack.modules() if isinstance(m, torch.nn.Conv2d)]
    assert [m.out_channels for m in plain] == [50, 80, 120, 120, 80, 50, 25, 1]
    assert {m.kernel_size for m in plain} == {(3, 3)}
    # 9 weights an input and a bias for every output; batch norm has 2 an output, the last none.
    assert count(plain[0]) == 50 * (9 * 3 + 1) == 1400
    inputs, outputs = (3, 50, 80, 120, 120, 80, 50, 25), (50, 80, 120, 120, 80, 50, 25, 1)
    convolutions = sum(o * (9 * i + 1) for i, o in zip(inputs, outputs, strict=True))
    assert convolutions == 387_751
    transposed = 50 * (16 * 50 + 1)
    assert count(stack) == convolutions + transposed + 2 * (sum(outputs[:-1]) + 50) == 428_951


def test_the_fine_network_takes_gradients_in_at_its_second_layer():
    cascade = Cascade()
    assert cascade.fine.first[0].in_channels == 4
    assert cascade.fine.second[0].in_channels == 50 + 2
    assert count(cascade.fine) == 428_951 + 50 * 9 + 80 * 2 * 9
    assert count(cascade.gradient) == 428_951 + 25 * 9 + 1
    assert cascade(torch.rand(2, 3, 32, 48)).shape == (2, 1, 32, 48)


def test_gradients_are_slopes():
    ramp = (3.0 * torch.arange(6.0)[None, :] - 2.0 * torch.arange(5.0)[:, None])[None, None]
    found = gradients(ramp)[0, :, 1:-1, 1:-1]
    torch.testing.assert_close(found[0], torch.full((3, 4), 3.0))
    torch.testing.assert_close(found[1], torch.full((3, 4), -2.0))


def test_gradients_are_known_where_all_around_is():
    known = torch.ones(1, 1, 5, 6, dtype=torch.bool)
    known[0, 0, 2, 2] = False
    found = gradients_known(known)[0, 0]
    assert not found[1:4, 1:4].any()
    assert found.sum() == 30 - 9
    # What a derivative does not know cannot change it where it is said to be known.
    depth = torch.rand(1, 1, 5, 6)
    other = torch.where(known, depth, 100.0)
    same = (gradients(depth) == gradients(other)).all(1)[0]
    assert (same | ~found).all()


# -------------------------------------------------------------------------------------- targets


def test_the_original_learns_holes_and_the_repaired_does_not(tmp_path):
    depth_m = torch.tensor([0.0, 2.0, 5.0, 20.0]).reshape(1, 1, 2, 2)
    original = settings(tmp_path, tmp_path, method='original', far_m=10.0)
    code, known = targets(depth_m, original)
    # 0.2 of 255 is 51; 0.5 is 127.5, which becomes 128; 20 m is beyond what is written.
    assert code.flatten().tolist() == pytest.approx([0, 51 / 255, 128 / 255, 1])
    assert known.all()
    repaired = settings(tmp_path, tmp_path, near_m=0.5, far_m=8.0)
    code, known = targets(depth_m, repaired)
    assert code[0, 0, 0, 1] == pytest.approx(0.5)
    assert known.flatten().tolist() == [False, True, True, True]


def test_unknown_pixels_do_not_count():
    target = torch.zeros(1, 1, 2, 2)
    known = torch.tensor([[True, True], [False, True]])[None, None]
    prediction = torch.tensor([[1.0, 2.0], [1e6, 1.0]])[None, None].requires_grad_()
    loss = mean_square(prediction, target, known)
    assert loss == 2
    loss.backward()
    assert prediction.grad[0, 0, 1, 0] == 0
    assert mean_square(prediction, target, torch.zeros_like(known)) == 0


# ------------------------------------------------------------------------------------- training


@pytest.mark.slow
def test_it_learns_and_exports(rooms, tmp_path, capsys, training_seed, check_learned):
    given = settings(
        rooms, tmp_path / 'run', steps=90, batch=4, height=16, width=24, learning_rate=3e-3,
        validate_every=45, seed=training_seed,
    )  # fmt: skip
    torch.manual_seed(training_seed)
    untaught = DepthFromColor(Cascade(), train_cascade.code_of(given)).eval().estimate
    model = train(given)
    assert 'millionths of PyTorch' in capsys.readouterr().out
    (entry,) = onnx.load(str(model)).metadata_props
    assert json.loads(entry.value)['sizes'] == [[16, 24]]
    frames = open_frames((rooms,))
    pairs = Pairs(frames, range(len(frames.scenes)), (16, 24))
    before, after = (score(estimate, pairs)['absrel'] for estimate in (untaught, estimator(model)))
    check_learned('absrel', before, after, 0.7)  # 0.307, deviation 0.074


def test_a_stopped_run_goes_on_as_if_it_had_not_stopped(rooms, tmp_path, stopped, unexported):
    train(settings(rooms, tmp_path / 'whole'))
    # In the first steps of the gradient network.
    with stopped(4):
        train(settings(rooms, tmp_path / 'parts'))
    assert checkpoint(tmp_path / 'parts')['step'] == 4
    train(settings(rooms, tmp_path / 'parts'))
    whole, parts = (checkpoint(tmp_path / name) for name in ('whole', 'parts'))
    assert whole['best']['absrel'] == parts['best']['absrel'] < math.inf
    for one, other in (
        (whole['network'], parts['network']),
        (whole['best']['weights'], parts['best']['weights']),
    ):
        assert all(torch.equal(one[name], other[name]) for name in one)


def test_only_the_network_whose_turn_it_is_moves(rooms, tmp_path, stopped, unexported):
    # In the first steps of the gradient network.
    with stopped(4):
        train(settings(rooms, tmp_path / 'run'))
    moved = checkpoint(tmp_path / 'run')['network']
    torch.manual_seed(0)
    fresh = Cascade().state_dict()
    changed = {n.split('.')[0] for n in fresh if not torch.equal(fresh[n], moved[n])}
    assert changed == {'coarse', 'gradient'}


def test_it_says_what_it_cannot_do(rooms, tmp_path, unexported):
    with pytest.raises(SystemExit, match='there is no'):
        train(settings(tmp_path / 'absent', tmp_path / 'run'))
    train(settings(rooms, tmp_path / 'run', steps=1))
    with pytest.raises(SystemExit, match='method was repaired and is original'):
        train(settings(rooms, tmp_path / 'run', steps=1, method='original'))
