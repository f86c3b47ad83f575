import math

import pytest

torch = pytest.importorskip('torch', reason="training needs torch: pip install '.[train]'")
pytest.importorskip('lightning_fabric', reason="training needs Fabric: pip install '.[train]'")
pytest.importorskip('onnx', reason="export needs onnx: pip install '.[train]'")

from training.color_to_depth import train_pix2pix
from training.color_to_depth.export import DepthFromColor, estimator, score
from training.color_to_depth.train_pix2pix import Settings, mean_absolute, train
from training.networks.pix2pix import PatchDiscriminator, UNetGenerator, adversarial
from training.pairs import DepthCode, Pairs, open_frames


def settings(rooms, run, **changed):
    given = {
        'steps': 4, 'batch': 2, 'height': 32, 'width': 48, 'held_out': 0.1, 'levels': 4,
        'channels': 8, 'patch_layers': 1, 'validate_every': 100, 'accelerator': 'cpu',
        'mixed': False,
    }  # fmt: skip
    return Settings(run=run, data=(rooms,), **(given | changed))


def checkpoint(run):
    return torch.load(run / 'checkpoint.pt', weights_only=True)


@pytest.fixture
def unexported(monkeypatch):
    """Leave out the export, which takes seconds, where it is not looked at."""
    monkeypatch.setattr(train_pix2pix, 'export', lambda *_: None)


# ------------------------------------------------------------------------------------- networks


def count(module):
    return sum(p.numel() for p in module.parameters())


def convolution(inputs, outputs, normalised=True):
    """Parameters of a 4x4 convolution with bias, and of batch norm."""
    return 16 * inputs * outputs + outputs + (2 * outputs if normalised else 0)


def test_the_generator_is_the_papers():
    generator = UNetGenerator(3, 1)
    # C64-C128-C256-C512-C512-C512-C512-C512 down; the first and the last are not normalised.
    down = convolution(3, 64, False) + convolution(64, 128) + convolution(128, 256)
    down += convolution(256, 512) + 3 * convolution(512, 512) + convolution(512, 512, False)
    # CD512-CD1024-CD1024-C1024-C1024-C512-C256-C128 up, counted with what is handed across.
    up = convolution(512, 512) + 3 * convolution(1024, 512) + convolution(1024, 256)
    up += convolution(512, 128) + convolution(256, 64) + convolution(128, 1, False)
    assert count(generator) == down + up == 54_415_361
    dropped = [m.p for m in generator.modules() if isinstance(m, torch.nn.Dropout)]
    assert dropped == [0.5, 0.5, 0.5, 0, 0, 0, 0]
    with torch.no_grad():
        out = generator(torch.rand(2, 3, 256, 256))
    assert out.shape == (2, 1, 256, 256)
    assert out.abs().max() <= 1


def test_smaller_generators():
    generator = UNetGenerator(3, 2, width=4, levels=3).eval()
    assert generator(torch.rand(1, 3, 24, 40)).shape == (1, 2, 24, 40)
    with pytest.raises(ValueError, match='2 levels or more, not 1'):
        UNetGenerator(3, 1, levels=1)


@pytest.mark.parametrize(('layers', 'sees_px'), [(1, 16), (2, 34), (3, 70)])
def test_what_a_patch_sees(layers, sees_px):
    # Backwards from one output: a 4x4 convolution of stride s sees s * (n - 1) + 4.
    expected = 1
    for stride in (1, 1, *[2] * layers):
        expected = stride * (expected - 1) + 4
    assert expected == sees_px
    judge = PatchDiscriminator(2, width=2, layers=layers, norm=lambda _: torch.nn.Identity())
    image = torch.rand(1, 2, 128, 128, requires_grad=True)
    logits = judge(image)
    logits[0, 0, logits.shape[2] // 2, logits.shape[3] // 2].backward()
    seen = image.grad.abs().sum(1)[0] > 0
    rows, columns = seen.any(1).nonzero(), seen.any(0).nonzero()
    assert rows.max() - rows.min() + 1 == sees_px
    assert columns.max() - columns.min() + 1 == sees_px


def test_the_discriminator_is_the_papers():
    # C64-C128-C256-C512 and a last convolution to a logit, on colour and depth.
    expected = convolution(4, 64, False) + convolution(64, 128) + convolution(128, 256)
    expected += convolution(256, 512) + convolution(512, 1, False)
    judge = PatchDiscriminator(4)
    assert count(judge) == expected == 2_767_553
    assert judge(torch.rand(1, 4, 256, 256)).shape == (1, 1, 30, 30)


# --------------------------------------------------------------------------------------- losses


def test_losses():
    assert adversarial(torch.zeros(2, 1, 3, 3), real=True) == pytest.approx(math.log(2))
    sure = torch.full((1, 1, 2, 2), 20.0)
    assert adversarial(sure, real=True) < 1e-6
    assert adversarial(sure, real=False) == pytest.approx(20)
    known = torch.tensor([[True, False]])[None, None]
    wrong = torch.tensor([[0.5, 1e6]])[None, None]
    assert mean_absolute(wrong, torch.zeros_like(wrong), known) == 0.5


# ------------------------------------------------------------------------------------- training


@pytest.mark.slow
def test_it_learns_and_exports(rooms, tmp_path, training_seed, check_learned):
    given = settings(
        rooms, tmp_path / 'run', steps=100, batch=4, learning_rate=2e-3, seed=training_seed
    )
    torch.manual_seed(training_seed)
    generator = UNetGenerator(3, 1, width=8, levels=4)
    code = DepthCode(given.near_m, given.far_m, logarithmic=True)
    untaught = DepthFromColor(generator, code, signed=True).eval().estimate
    taught = estimator(train(given))
    frames = open_frames((rooms,))
    pairs = Pairs(frames, range(len(frames.scenes)), (32, 48))
    before, after = (score(estimate, pairs)['absrel'] for estimate in (untaught, taught))
    check_learned('absrel', before, after, 0.3)  # 0.106, deviation 0.033


@pytest.mark.parametrize(('loss', 'moves'), [('l1', False), ('cgan', True)])
def test_only_a_gan_has_a_judge(rooms, tmp_path, loss, moves, unexported):
    train(settings(rooms, tmp_path / 'run', loss=loss, steps=1))
    torch.manual_seed(0)
    UNetGenerator(3, 1, width=8, levels=4)
    fresh = PatchDiscriminator(4, width=8, layers=1).state_dict()
    after = checkpoint(tmp_path / 'run')['discriminator']
    assert any(not torch.equal(fresh[n], after[n]) for n in fresh) == moves


def test_a_stopped_run_goes_on_as_if_it_had_not_stopped(rooms, tmp_path, stopped, unexported):
    train(settings(rooms, tmp_path / 'whole'))
    with stopped(2):
        train(settings(rooms, tmp_path / 'parts'))
    assert checkpoint(tmp_path / 'parts')['step'] == 2
    train(settings(rooms, tmp_path / 'parts'))
    for kind in ('generator', 'discriminator'):
        one, other = (checkpoint(tmp_path / name)[kind] for name in ('whole', 'parts'))
        assert all(torch.equal(one[name], other[name]) for name in one)


def test_it_says_what_it_cannot_do(rooms, tmp_path):
    with pytest.raises(SystemExit, match='48x36 cannot be halved 4 times'):
        train(settings(rooms, tmp_path / 'run', height=36))
