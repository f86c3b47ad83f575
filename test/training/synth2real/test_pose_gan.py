import math

import numpy as np
import pytest

torch = pytest.importorskip('torch', reason="training needs torch: pip install '.[train]'")
pytest.importorskip('lightning_fabric', reason="training needs Fabric: pip install '.[train]'")
onnxruntime = pytest.importorskip('onnxruntime', reason="export needs it: pip install '.[train]'")

from training.networks.cyclegan import HAND_CODE, Coded
from training.synth2real import style, train_pose_gan
from training.synth2real.pose_gan import (
    DeployedPoseGenerator,
    PoseDiscriminator,
    PoseGenerator,
    coded_around,
    drawn,
)
from training.synth2real.posed_hands import Posed, RenderedPoses, batch_of, error_mm
from training.synth2real.style import (
    Vgg19,
    content_loss,
    gram,
    grey_of,
    load_vgg19,
    style_loss,
    total_variation,
    train_depth_features,
)
from training.synth2real.train_pose_gan import Settings, export, squared, train


def poses(count=4, size=32):
    """Squares whose middle and distance the first joint says, the same for all joints."""
    generator = torch.Generator().manual_seed(0)
    joints = (torch.rand(count, 1, 3, generator=generator) - 0.5).expand(-1, 14, -1).contiguous()
    at = (torch.arange(size) + 0.5) * 2 / size - 1
    off = (at - joints[:, :1, :2, None]).abs() < 0.4
    hand = off[:, 0, 1, :, None] & off[:, 0, 0, None, :]
    distance_m = torch.linspace(0.5, 0.9, count)
    depth_m = distance_m[:, None, None] + 0.15 * joints[:, 0, 2, None, None]
    return Posed(torch.where(hand, depth_m - 2, 0.0)[:, None], joints, distance_m)


class Squares(torch.utils.data.Dataset):
    """Without end."""

    def __init__(self, count):
        self.all, self.count = poses(8), count

    def __len__(self):
        return self.count

    def __getitem__(self, number):
        return Posed(*(field[number % 8] for field in self.all))


@pytest.fixture
def squares(monkeypatch):
    """Learn squares, which need no rendering."""

    def sources(settings):
        return Squares(settings.steps * settings.batch), poses()

    monkeypatch.setattr(train_pose_gan, 'sources', sources)
    monkeypatch.setattr(train_pose_gan, 'style_crops', lambda _: poses(3).depth)


def settings(run, **changed):
    given = {
        'steps': 4, 'style_from': 2, 'batch': 4, 'size': 32, 'channels': 4, 'feature_steps': 3,
        'feature_width': 2, 'validate_every': 100, 'accelerator': 'cpu',
    }  # fmt: skip
    return Settings(run=run, **(given | changed))


def count(module):
    return sum(p.numel() for p in module.parameters())


# ------------------------------------------------------------------------------------- networks


def test_the_generator_makes_128_of_14_joints():
    generator = PoseGenerator(pictures=False)
    # 42 numbers to 512 x 4 x 4; 512, 256, 128, 64 and 64 channels at 8, 16, 32, 64 and 128 px.
    made = [(512, 512), (512, 256), (256, 128), (128, 64), (64, 64)]
    expected = 43 * 512 * 16 + sum(2 * i + 16 * i * o + o for i, o in made)
    expected += 2 * 64 + 9 * 64 * 2 + 2
    assert count(generator) == expected
    with torch.no_grad():
        depth = generator(torch.rand(2, 14, 3))
    assert depth.value.shape == depth.kept.shape == depth.logit.shape == (2, 1, 128, 128)
    assert depth.value.abs().max() <= 1
    with pytest.raises(ValueError, match='96 px is not 4 times a power of 2'):
        PoseGenerator(size_px=96)


def test_the_discriminator_has_two_heads():
    judge = PoseDiscriminator(width=4)
    said = judge(torch.rand(2, 3, 128, 128))
    assert said.logit.shape == (2, 1)
    assert said.joints.shape == (2, 14, 3)
    # Five halvings leave 4x4 of 4, 8, 16, 32, 32 channels.
    assert judge.logit.in_features == 32 * 16


def test_drawn_joints():
    joints = torch.zeros(1, 14, 3)
    joints[0, 0] = torch.tensor([0.5, -0.25, 0.3])
    maps = drawn(joints, 16)
    assert maps.shape == (1, 28, 16, 16)
    # Pixel 11 is at -1 + 11.5 / 8 = 0.4375, pixel 6 at -0.1875; 0.0625 is the way to both.
    bump = math.exp(-0.5 * 2 * (0.0625 / 0.12) ** 2)
    assert maps[0, 0, 6, 11] == pytest.approx(bump, rel=1e-5)
    assert maps[0, 14, 6, 11] == pytest.approx(0.3 * bump, rel=1e-5)
    assert maps[0, 0, 6, 11] == maps[0, 0].max()


def test_depth_is_around_the_middle_of_the_hand():
    batch = poses()
    coded = coded_around(batch.depth, batch.distance_m)
    hand = coded.kept[:, 0] > 0
    for number in range(4):
        # Both are in units of 150 mm.
        wanted = batch.joints[number, 0, 2]
        np.testing.assert_allclose(coded.value[number, 0][hand[number]], wanted, atol=1e-5)


def test_errors_are_millimetres():
    joints = torch.zeros(1, 14, 3)
    assert error_mm(joints + torch.tensor([0.1, 0, 0]), joints) == pytest.approx(15)


# ------------------------------------------------------------------------------------- the hands


def test_rendered_joints_are_where_the_hand_is():
    hands = RenderedPoses(0, 40, size_px=32, keep=16)
    batch = batch_of(hands.__getitem__, 16)
    assert batch.joints.mean(1).abs().max() < 0.2
    # Joints lie in the hand, behind its surface by half a finger or more, and none before it.
    column, row = ((batch.joints[..., axis] + 1) * 16 - 0.5 for axis in (0, 1))
    one = torch.arange(16)[:, None]
    inside = ((column > 0) & (column < 31) & (row > 0) & (row < 31)).bool()
    surface = batch.depth[
        one, 0, row.round().long().clamp(0, 31), column.round().long().clamp(0, 31)
    ]
    seen = inside & (surface != 0)
    assert seen.float().mean() > 0.85
    behind_m = batch.distance_m[:, None] + 0.15 * batch.joints[..., 2] - 2 - surface
    assert (behind_m[seen] > -0.01).float().mean() > 0.95
    assert all(torch.equal(*pair) for pair in zip(hands[3], hands[19], strict=True))
    with pytest.raises(IndexError):
        hands[40]


# ---------------------------------------------------------------------------------------- style


def test_vgg19_is_vgg19():
    network = Vgg19()
    # Torchvision's numbers of the convolutions up to conv5_1, and their sizes.
    convolutions = {0: (3, 64), 2: (64, 64), 5: (64, 128), 7: (128, 128), 10: (128, 256)}
    convolutions |= dict.fromkeys((12, 14, 16), (256, 256)) | {19: (256, 512)}
    convolutions |= dict.fromkeys((21, 23, 25, 28), (512, 512))
    wanted = {}
    for number, (inputs, outputs) in convolutions.items():
        wanted[f'features.{number}.weight'] = (outputs, inputs, 3, 3)
        wanted[f'features.{number}.bias'] = (outputs,)
    assert {name: tuple(v.shape) for name, v in network.state_dict().items()} == wanted
    named = {name: number for number, name in network.names.items()}
    picked = ('relu1_1', 'relu2_1', 'relu3_1', 'relu4_1', 'relu4_2', 'relu5_1')
    assert [named[name] for name in picked] == [1, 6, 11, 20, 22, 29]


def test_features_have_the_sizes_of_vgg19():
    found = Vgg19(2)(torch.rand(1, 1, 32, 32))
    assert found['relu1_1'].shape == (1, 2, 32, 32)
    assert found['relu4_2'].shape == (1, 16, 4, 4)
    assert found['relu5_1'].shape == (1, 16, 2, 2)


def test_weights_are_of_a_file(tmp_path, monkeypatch):
    # 64 channels take a second or two; the names are the same with fewer.
    monkeypatch.setattr(style, 'Vgg19', lambda: Vgg19(2))
    given = Vgg19(2).state_dict() | {'classifier.0.weight': torch.zeros(2, 2)}
    torch.save(given, tmp_path / 'vgg19.pth')
    network = load_vgg19(tmp_path / 'vgg19.pth')
    assert all(torch.equal(given[name], v) for name, v in network.state_dict().items())
    assert not any(p.requires_grad for p in network.parameters())
    torch.save({'features.0.weight': torch.zeros(2, 3, 3, 3)}, tmp_path / 'other.pth')
    with pytest.raises(SystemExit, match=r'other.pth is not VGG-19 .* no such features.0.bias'):
        load_vgg19(tmp_path / 'other.pth')


def test_gram_matrices_by_hand():
    features = torch.tensor([[[[1.0, 2.0]], [[3.0, 4.0]]]])
    # 1 + 4, 3 + 8, 9 + 16, over 2 channels of 1x2.
    np.testing.assert_allclose(gram(features)[0], np.array([[5, 11], [11, 25]]) / 4)


def test_style_and_content_by_hand():
    one = {name: torch.zeros(1, 1, 1, 2) for name in (*style.STYLE_LAYERS, 'relu4_2')}
    made = one | {
        'relu2_1': torch.tensor([[[[2.0, 0.0]]]]), 'relu4_2': torch.tensor([[[[1.0, 2.0]]]]),
    }  # fmt: skip
    # Gram: 4 / 2 = 2, squared; the mean style of two pictures, 0 and 2, is 1 from both.
    assert style_loss(made, one) == pytest.approx(4)
    assert style_loss(made, one, (1, 0.5, 1, 1, 1)) == pytest.approx(2)
    both = {name: torch.cat([one[name], made[name]]) for name in one}
    assert style_loss(made, both) == pytest.approx(1)
    # Where pixels are does not matter to style.
    moved = made | {'relu2_1': made['relu2_1'].flip(3)}
    assert style_loss(moved, made) == 0
    assert content_loss(made, one) == pytest.approx(2.5)


def test_variation_by_hand():
    value = torch.tensor([[[[0.0, 0.5, 9.0], [0.2, 0.1, 9.0]]]])
    kept = torch.tensor([[[[1.0, 1.0, 0.0], [1.0, 1.0, 0.0]]]])
    # 0.5 and 0.1 across, 0.2 and 0.4 down; the others have a hole.
    assert total_variation(Coded(value, kept, kept)) == pytest.approx(1.2 / 4)
    assert squared(Coded(value, kept, kept), Coded(0 * value, kept, kept)) == pytest.approx(
        (0.25 + 0.04 + 0.01) / 4
    )
    assert grey_of(Coded(value, kept, kept))[0, 0, 0].tolist() == pytest.approx([0.625, 0.4375, 0])


@pytest.mark.slow
def test_features_are_trained_on_depth(training_seed, check_learned):
    torch.manual_seed(training_seed)
    fresh, first = train_depth_features(iter([poses()]), width=4)
    torch.manual_seed(training_seed)
    network, last = train_depth_features((poses() for _ in range(30)), width=4)
    check_learned('loss', first, last, 0.2)  # 0.025, deviation 0.012
    assert not torch.equal(fresh.features[0].weight, network.features[0].weight)


# ------------------------------------------------------------------------------------- training


def checkpoint(run):
    return torch.load(run / 'checkpoint.pt', weights_only=True)


def test_a_stopped_run_goes_on_as_if_it_had_not_stopped(
    squares, tmp_path, monkeypatch, stopped, capsys
):
    monkeypatch.setattr(train_pose_gan, 'export', lambda *_: None)
    train(settings(tmp_path / 'whole'))
    assert 'no --vgg, so the layers of VGG-19 with 2 channels' in capsys.readouterr().out
    with stopped(2):
        train(settings(tmp_path / 'parts'))
    assert checkpoint(tmp_path / 'parts')['step'] == 2
    train(settings(tmp_path / 'parts'))
    one, other = (checkpoint(tmp_path / name) for name in ('whole', 'parts'))
    for part in ('generator', 'discriminator', 'estimator', 'features'):
        assert all(torch.equal(one[part][name], other[part][name]) for name in one[part]), part


def test_style_changes_what_is_learned(squares, tmp_path, monkeypatch):
    monkeypatch.setattr(train_pose_gan, 'export', lambda *_: None)
    for name, weight in (('with', 1e4), ('without', 0.0)):
        train(settings(tmp_path / name, style_from=0, steps=1, style_weight=weight))
    one, other = (checkpoint(tmp_path / name)['generator'] for name in ('with', 'without'))
    assert any(not torch.equal(one[name], other[name]) for name in one)


def test_vgg_is_said_and_not_kept(squares, tmp_path, monkeypatch, stopped, capsys):
    monkeypatch.setattr(train_pose_gan, 'export', lambda *_: None)
    monkeypatch.setattr(train_pose_gan, 'load_vgg19', lambda _: Vgg19(2).requires_grad_(False))
    train(settings(tmp_path / 'run', vgg=tmp_path / 'vgg19.pth', steps=1))
    assert 'Features: VGG-19, weights of' in capsys.readouterr().out
    assert 'features' not in checkpoint(tmp_path / 'run')


@pytest.mark.slow
def test_it_learns_places_and_is_exported(squares, tmp_path, capsys, training_seed, check_learned):
    torch.manual_seed(training_seed)
    untaught = DeployedPoseGenerator(PoseGenerator(width=8, size_px=32)).eval()
    model = train(settings(
        tmp_path / 'run', steps=120, style_from=120, channels=8, learning_rate=2e-3, batch=8,
        seed=training_seed,
    ))  # fmt: skip
    assert 'mm of PyTorch' in capsys.readouterr().out
    session = onnxruntime.InferenceSession(str(model), providers=['CPUExecutionProvider'])
    batch = poses(8)
    wanted = batch.depth.numpy() != 0
    feeds = {'joints_m': (0.15 * batch.joints).numpy(), 'distance_m': batch.distance_m.numpy()}

    def missed(depth):
        """The share of pixels of the hand in either that are in only one."""
        hand = depth != 0
        return (hand != wanted).sum() / (hand | wanted).sum()

    with torch.no_grad():
        before = untaught(0.15 * batch.joints, batch.distance_m).numpy()
    (depth,) = session.run(['depth'], feeds)
    check_learned('outline', missed(before), missed(depth), 0.4)  # 0.066, deviation 0.039
    # The same hand 1 mm farther away is 1 mm farther away.
    feeds['distance_m'] = feeds['distance_m'] + np.float32(0.001)
    (farther,) = session.run(['depth'], feeds)
    np.testing.assert_allclose((farther - depth)[depth != 0], 0.001, atol=1e-6)


def test_export_is_refused_if_it_differs(tmp_path, monkeypatch):
    generator = PoseGenerator(width=2, size_px=32).eval()

    class Nearer:
        """Says what the generator says, 0.2 mm nearer."""

        def __init__(self, *_, **__):
            self.generator = DeployedPoseGenerator(generator)

        @torch.no_grad()
        def run(self, _, feeds):
            depth = self.generator(*(torch.from_numpy(value) for value in feeds.values()))
            return [torch.where(depth != 0, depth - 2e-4, 0.0).numpy()]

    # What is written is not looked at: exporting takes seconds.
    monkeypatch.setattr(train_pose_gan, 'to_onnx', lambda _, path, *__: path.touch())
    monkeypatch.setattr(train_pose_gan, 'describe', lambda *_: None)
    monkeypatch.setattr(train_pose_gan, 'open_onnx', Nearer)
    with pytest.raises(SystemExit, match=r'Not exported: .* by 0\.2 mm'):
        export(generator, tmp_path / 'model.onnx', poses(), {'name': 'x'})
    assert not (tmp_path / 'model.onnx').exists()


def test_nothing_is_exactly_nothing():
    generator = PoseGenerator(width=2, size_px=32).eval()
    deployed = DeployedPoseGenerator(generator)
    batch = poses()
    with torch.no_grad():
        depth = deployed(0.15 * batch.joints, batch.distance_m)
        coded = generator(batch.joints)
    assert torch.equal(depth == 0, coded.logit <= 0)
    middle = batch.distance_m[:, None, None, None] - 2
    wanted = (middle + HAND_CODE.unit * coded.value)[depth != 0]
    assert torch.equal(depth[depth != 0], wanted)
