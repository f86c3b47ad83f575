import json

import numpy as np
import pytest

torch = pytest.importorskip('torch', reason="training needs torch: pip install '.[train]'")
pytest.importorskip('lightning_fabric', reason="training needs Fabric: pip install '.[train]'")
onnx = pytest.importorskip('onnx', reason="export needs onnx: pip install '.[train]'")
import cv2

from training.networks.simgan import Discriminator
from training.refiners import EYES, Deployed, load_refiner
from training.synth2real import simgan, simgan_domains
from training.synth2real.simgan import Best, psi_of, train
from training.synth2real.simgan_domains import Rounds, gaze_sheet, hand_sheet
from training.synth2real.simgan_settings import GazeSettings, HandSettings, rate, updates


def settings(run, **changed):
    given = {
        'steps': 8, 'batch': 2, 'size': 48, 'kernel': 3, 'blocks': 1, 'maps': 8, 'checked': 4,
        'refiner_alone': 2, 'discriminator_alone': 2, 'validate_every': 4, 'history': 4,
        'kept_batches': 4, 'accelerator': 'cpu',
    }  # fmt: skip
    return HandSettings(run=run, **(given | changed))


def checkpoint(run):
    return torch.load(run / 'checkpoint.pt', weights_only=True)


def assert_same(a, b):
    assert type(a) is type(b)
    if isinstance(a, dict):
        assert a.keys() == b.keys()
        for key in a:
            assert_same(a[key], b[key])
    elif isinstance(a, list | tuple):
        for one, other in zip(a, b, strict=True):
            assert_same(one, other)
    elif isinstance(a, torch.Tensor):
        assert torch.equal(a, b)
    else:
        assert a == b


PARTS = (
    'refiner', 'discriminator', 'refiner_optimizer', 'discriminator_optimizer', 'history', 'best',
)  # fmt: skip


@pytest.fixture
def unexported(monkeypatch):
    """Leave out the export, which takes seconds, where it is not looked at."""
    monkeypatch.setattr(simgan, 'export_refiner', lambda *_, **__: None)


# ------------------------------------------------------------------------------------- schedule


def test_the_schedule_is_the_papers():
    hands = HandSettings(run=None)
    assert [updates(step, hands) for step in (1, 500)] == [(1, 0)] * 2
    assert [updates(step, hands) for step in (501, 700)] == [(0, 1)] * 2
    assert [updates(step, hands) for step in (701, 9999)] == [(2, 1)] * 2
    assert (hands.kernel, hands.blocks, hands.maps, hands.size) == (7, 10, 64, 224)
    eyes = GazeSettings(run=None, synthetic=None, real=None)
    assert [updates(step, eyes) for step in (1000, 1001, 1200, 1201)] == [
        (1, 0), (0, 1), (0, 1), (50, 1),
    ]  # fmt: skip
    assert (eyes.kernel, eyes.blocks, eyes.maps) == (3, 4, 64)


def test_the_learning_rate_drops():
    some = HandSettings(run=None, steps=100, drop_after=0.6, learning_rate=1e-3)
    assert [rate(step, some) for step in (1, 60)] == [1e-3, 1e-3]
    assert [rate(step, some) for step in (61, 100)] == pytest.approx([1e-4, 1e-4])
    assert (
        rate(100, HandSettings(run=None, steps=100, drop_after=1.0)) == HandSettings.learning_rate
    )


def test_no_batch_is_seen_twice(tmp_path):
    class Numbers:
        def __getitem__(self, number):
            return torch.tensor([number])

    rounds = Rounds(Numbers(), Numbers(), settings(tmp_path, discriminator_steps=2, steps=6))
    assert len(rounds) == 6
    found = [rounds[i] for i in range(6)]
    assert [len(x) for x, _ in found] == [1, 1, 1, 1, 4, 4]  # two and two
    assert [len(y) for _, y in found] == [0, 0, 1, 1, 2, 2]
    for side in (0, 1):
        numbers = torch.cat([pair[side].flatten() for pair in found])
        assert len(numbers.unique()) == len(numbers)


def test_who_is_trained_when(tmp_path, unexported):
    train(settings(tmp_path / 'a', steps=2))
    train(settings(tmp_path / 'b', steps=2, refiner_alone=0))
    torch.manual_seed(0)
    at_first = simgan.simgan_refiner(vars(settings(tmp_path)))
    judge_at_first = Discriminator(3, simgan_domains.GAZE_LAYERS, (48, 48))
    a, b = checkpoint(tmp_path / 'a'), checkpoint(tmp_path / 'b')

    def same(state, network):
        return all(torch.equal(v, state[k]) for k, v in network.state_dict().items())

    assert not same(a['refiner'], at_first)
    assert same(a['discriminator'], judge_at_first)
    assert len(a['history']['images']) == 0
    assert same(b['refiner'], at_first)
    assert not same(b['discriminator'], judge_at_first)
    assert b['history']['images'].shape == (2, 1, 48, 48)  # half of a batch of 2, twice


# ------------------------------------------------------------------------------------- training


@pytest.mark.slow
def test_a_run_refines_and_exports(tmp_path, capsys, training_seed):
    given = settings(
        tmp_path, steps=20, validate_every=20, learning_rate=2e-3, self_weight=0.002,
        seed=training_seed,
    )  # fmt: skip
    torch.manual_seed(training_seed)
    untaught = Deployed(simgan.simgan_refiner(vars(given))).eval()
    model = train(given)
    said = capsys.readouterr().out
    for name in ('change_edges_mm', 'holes_real', 'kid_rendered', 'refined_found', 'real_found'):
        assert name in said
    assert 'holes the same' in said
    about = json.loads(onnx.load(model).metadata_props[0].value)
    assert about['name'] == 'simgan_hands'
    crops = simgan_domains.CleanHands(14, 4, 9, size_px=56)[0].depth
    exported, loaded = load_refiner(model)(crops), load_refiner(tmp_path / 'checkpoint.pt')(crops)
    both = (exported != 0) & (loaded != 0)
    assert 1e3 * (exported - loaded).abs()[both].max() < 1e-2
    # Not black, nothing where nothing was, and not what it was before; how far from that 20 steps
    # come, chance decides.
    with torch.no_grad():
        before = untaught(crops)
    assert (exported != 0).sum() > 0.3 * (before != 0).sum()
    assert not torch.equal(loaded, before)
    assert (exported[crops == 0] == 0).all()


def test_what_real_hands_lack():
    whole = torch.full((2, 1, 2, 2), -1.0)
    synthetic = [whole, whole]
    real = [whole * torch.tensor([[1.0, 0.0], [1.0, 1.0]]), whole]
    assert simgan_domains.lacking_share(synthetic, real, 2) == 0.125  # 2 of 16
    assert simgan_domains.lacking_share(synthetic, real, 1) == 0.25
    assert simgan_domains.lacking_share(real, synthetic, 1) == 0


def test_mixed_precision_leaves_depth_alone(tmp_path, unexported, capsys):
    train(settings(tmp_path, steps=3, mixed=True))
    before = capsys.readouterr().out.split('step 0:')[1]
    # In bfloat16, a metre is known to within 4 mm.
    assert float(before.split('change_flats_mm')[1].split(',')[0]) < 0.1


def test_a_stopped_run_goes_on_as_if_it_had_not(tmp_path, unexported, monkeypatch):
    train(settings(tmp_path / 'whole'))

    class AfterFive(simgan.Run):
        def _ends(self, step):
            return step == 5 or super()._ends(step)

    monkeypatch.setattr(simgan, 'Run', AfterFive)
    train(settings(tmp_path / 'parts'))
    assert checkpoint(tmp_path / 'parts')['step'] == 5
    monkeypatch.undo()
    monkeypatch.setattr(simgan, 'export_refiner', lambda *_, **__: None)
    train(settings(tmp_path / 'parts'))
    whole, parts = checkpoint(tmp_path / 'whole'), checkpoint(tmp_path / 'parts')
    assert parts['step'] == 8
    for name in PARTS:
        assert_same(whole[name], parts[name])
    train(settings(tmp_path / 'parts'))  # nothing is left to do
    again = checkpoint(tmp_path / 'parts')
    for name in PARTS:
        assert_same(whole[name], again[name])
    with pytest.raises(SystemExit, match='history was 4 and is 0'):
        train(settings(tmp_path / 'parts', history=0))


@pytest.mark.parametrize(
    'changed',
    [{'history': 0}, {'adversarial': 'global'}, {'psi': 'derivatives'}, {'psi': 'mean'},
     {'holes': True, 'grain': False}, {'holes': True, 'area_weight': 3.0}, {'direct': True}],
)  # fmt: skip
def test_ablations_run(tmp_path, unexported, changed, capsys):
    train(settings(tmp_path, steps=3, refiner_alone=1, discriminator_alone=1, **changed))
    state = checkpoint(tmp_path)
    if 'history' in changed:
        assert len(state['history']['images']) == 0
    if 'adversarial' in changed:
        assert 'classified in (1, 1) patches' in capsys.readouterr().out
    load_refiner(tmp_path / 'checkpoint.pt')


@pytest.mark.slow
def test_eyes(tmp_path):
    for name, low in (('synthetic', 0), ('real', 40)):
        (tmp_path / name).mkdir()
        rng = np.random.default_rng(low)
        for i in range(6):
            image = rng.integers(low, 200, (35, 55), np.uint8)
            cv2.imwrite(str(tmp_path / name / f'{i}.png'), cv2.GaussianBlur(image, (5, 5), 0))
    given = GazeSettings(
        run=tmp_path / 'run', synthetic=tmp_path / 'synthetic', real=tmp_path / 'real', steps=4,
        batch=4, maps=4, blocks=1, refiner_alone=1, discriminator_alone=1, refiner_steps=2,
        checked=4, history=8, accelerator='cpu',
    )  # fmt: skip
    model = train(given)
    image = torch.rand(2, 1, 35, 55)
    assert load_refiner(model, EYES)(image).shape == image.shape
    assert checkpoint(tmp_path / 'run')['history']['images'].shape == (6, 1, 35, 55)


def test_what_cannot_be_run_is_refused(tmp_path):
    with pytest.raises(SystemExit, match='one device'):
        train(settings(tmp_path, devices=2))
    with pytest.raises(SystemExit, match='neither a file nor one of identity, derivatives, mean'):
        psi_of('nothing.pt')
    with pytest.raises(SystemExit, match='has no images'):
        train(GazeSettings(run=tmp_path / 'run', synthetic=tmp_path, real=tmp_path))
    with pytest.raises(SystemExit, match='nowhere'):
        train(settings(tmp_path / 'run', real=tmp_path / 'nowhere'))


def test_recordings_are_what_hands_shall_look_like(tmp_path, recording):
    real = simgan_domains.real_hands(settings(tmp_path, real=recording('hands_kinect_v2')), 0)
    depth = real[0].depth
    assert depth.shape == (2, 1, 48, 48)
    for hand in depth:
        z_m = hand[hand != 0] + 2
        assert 0.3 < z_m.min() < z_m.max() < 2
        assert z_m.max() - z_m.min() < 0.3


# -------------------------------------------------------------------------------------- looking


def test_the_best_weights_are_kept():
    best, network = Best(), torch.nn.Linear(1, 1, bias=False)
    offered = []
    for step, score in enumerate((3.0, float('inf'), 1.0, 2.0, float('nan')), 1):
        network.weight.data.fill_(step)
        offered.append(best.update(score, step, network))
    assert offered == [True, False, True, False, False]
    assert (best.step, best.score, float(best.weights['weight'])) == (3, 1.0, 3.0)
    again = Best()
    again.load_state_dict(best.state_dict())
    assert again.update(1.5, 9, network) is False


def test_what_moves_joints_is_not_kept(tmp_path, monkeypatch):
    monkeypatch.setattr(simgan_domains, 'load_hourglass', lambda _: torch.nn.Identity())
    domain = simgan_domains.hands(settings(tmp_path, pose=tmp_path))
    good = {'kid': 0.2, 'drift_px': 0.9, 'dropped': 0.2}
    assert domain.score(good) == 0.2
    assert domain.score(good | {'drift_px': 1.1}) == float('inf')
    assert domain.score(good | {'dropped': 0.3}) == float('inf')
    assert domain.checked.shape == domain.wanted.shape == (4, 1, 48, 48)
    assert not torch.equal(domain.checked[:2], domain.synthetic[0])


def test_pictures():
    before = torch.zeros(2, 1, 24, 32)
    before[..., 4:20, 4:20] = -1.2
    after = torch.where(before != 0, before + 0.02, 0.0)
    after[..., 10, 10] = 0
    picture = hand_sheet(before, after, before)
    assert picture.shape == (2 * 2 * 24, 4 * 32, 3)
    assert picture.dtype == np.uint8
    change, lost = picture[:24, 64:96], picture[24:48, 64:96]
    assert change[6, 6].tolist() == [103, 0, 31]  # 20 mm farther is the scale's red end
    assert (lost[10, 10] == 255).all()
    assert (lost == 255).all(2).sum() == 1
    eyes = [torch.full((2, 1, 4, 5), level) for level in (0.4, 0.6, 1.0)]
    grey = gaze_sheet(*eyes)
    assert grey.shape == (8, 20, 3)
    assert grey[0, ::5, 0].tolist() == [102, 153, 230, 255]
