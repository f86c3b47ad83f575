import numpy as np
import pytest

torch = pytest.importorskip('torch', reason="training needs torch: pip install '.[train]'")
pytest.importorskip('lightning_fabric', reason="training needs Fabric: pip install '.[train]'")

from depth_refiner_ros.data import HAND_BONES, HAND_JOINTS, Header, PinholeCamera
from depth_refiner_ros.filters import hands as deployed
from training.hands import examples as hand_examples
from training.hands import network as hand_networks
from training.hands.network import Detections, HandDetector, HandJoints, Joints
from training.hands.samples import Frames, Windows, measured, nearest, normalised, shadow
from training.hands.shards import CENTER, UNIT_M, HandShards, frames, windows
from training.hands.train import Settings, detector_losses, joint_losses, train
from training.render import hand_skeleton


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp('hands')
    hand_examples.main(
        hand_examples.Settings(folder, windows=12, frames=12, shard_size=6, threads=1)
    )
    return folder


def test_training_and_stage_agree_on_what_a_window_is():
    assert deployed.WINDOW_PX == hand_networks.WINDOW_PX
    assert deployed.WINDOW_M == hand_networks.WINDOW_M
    assert deployed.CENTER == CENTER
    assert deployed.DETECTOR_FOCAL_PX == hand_networks.DETECTOR_FOCAL_PX
    assert deployed.DETECTOR_CELL_PX == hand_networks.DETECTOR_CELL_PX
    assert hand_skeleton.JOINTS == HAND_JOINTS
    assert hand_skeleton.BONES == HAND_BONES


def test_bone_lengths_are_those_of_the_rendered_hand():
    shape = hand_skeleton.Shape.reference()
    straight = torch.zeros(1, hand_skeleton.ANGLES)
    hand = hand_skeleton.pose(shape, straight, torch.eye(3)[None], torch.zeros(1, 3))
    ends = hand.joints_m[0].numpy()
    lengths_mm = [1e3 * np.linalg.norm(ends[b] - ends[a]) for a, b in HAND_BONES]
    np.testing.assert_allclose(lengths_mm, deployed.BONE_LENGTHS_MM, atol=0.06)


def test_the_stage_sees_what_the_network_was_trained_on(folder):
    """An unchanged sample is what the stage would cut from the same picture."""
    shards = HandShards(folder, 'windows')
    samples = Windows(shards, None, 0, range(len(shards)), len(shards), changed=False)
    for i in range(4):
        example, sample = shards[i], samples[i]
        k = example['intrinsics']
        height, width = example['depth'].shape
        camera = PinholeCamera(Header(0, ''), width, height, k[0, 0], k[1, 1], k[0, 2], k[1, 2])
        depth_m = example['depth'].astype(np.float32) * np.float32(UNIT_M)
        depth_m[depth_m == 0] = np.nan
        center_m = example['joints_m'][CENTER].astype(np.float64)
        seen = deployed.window(depth_m, camera, center_m)
        same = np.abs(seen - sample.window[0].numpy()) < 1e-4
        assert same.mean() > 0.99
        points_m, _ = deployed.joints_of(sample.place.numpy(), camera, center_m)
        np.testing.assert_allclose(points_m, example['joints_m'], atol=1e-4)


def test_shards_are_whole_and_gone_on_with(folder):
    before = {path: path.stat().st_mtime_ns for path in folder.iterdir()}
    hand_examples.main(
        hand_examples.Settings(folder, windows=12, frames=12, shard_size=6, threads=1)
    )
    assert {path: path.stat().st_mtime_ns for path in folder.iterdir()} == before
    assert len(HandShards(folder, 'windows')) == 12


def test_windows_hold_the_hand():
    made = windows(torch.Generator().manual_seed(0), 8, None)
    assert made['depth'].shape == (8, 128, 128)
    for depth, joints_m, k in zip(
        made['depth'], made['joints_m'], made['intrinsics'], strict=True
    ):
        image = joints_m @ k.T
        # The knuckle is in the middle, and something is measured about there.
        np.testing.assert_allclose(image[CENTER, :2] / image[CENTER, 2], 63.5, atol=0.6)
        at_m = depth[64, 64] * UNIT_M
        assert at_m > 0
        assert at_m < joints_m[CENTER, 2] + 0.05


def test_frames_tell_hands_that_are_seen():
    made = frames(torch.Generator().manual_seed(0), 16, None)
    height, width = made['depth'].shape[1:]
    count = 0
    for depth, centers_m, k in zip(
        made['depth'], made['centers_m'], made['intrinsics'], strict=True
    ):
        for center_m in centers_m[np.isfinite(centers_m).all(1)]:
            x, y, z = k @ center_m
            column, row = round(x / z), round(y / z)
            assert 0 <= column < width
            assert 0 <= row < height
            assert depth[row, column] * UNIT_M > center_m[2] - 0.1
            count += 1
    assert count > 4


def test_samples_are_functions_of_their_number(folder):
    shards, whole = HandShards(folder, 'windows'), HandShards(folder, 'frames')
    samples = Windows(shards, whole, 5, range(12), 1000)
    for a, b in zip(samples[17], samples[17], strict=True):
        assert torch.equal(a, b)
    nothing = [sample for sample in (samples[i] for i in range(60)) if sample.hand == 0]
    assert 2 <= len(nothing) <= 20
    image = Frames(whole, 5, range(12), 1000)
    for a, b in zip(image[17], image[17], strict=True):
        assert torch.equal(a, b)


def test_a_second_eye_does_not_see_behind_what_is_near():
    # At 1 m columns shift by 6, at 2 m by 3: three more are hidden, on the side away from it.
    depth_m = np.full((1, 20), 2, np.float32)
    depth_m[0, 8:12] = 1
    hidden = shadow(depth_m, 6.0, right=True)
    assert np.flatnonzero(hidden[0]).tolist() == [5, 6, 7]
    hidden = shadow(depth_m, 6.0, right=False)
    assert np.flatnonzero(hidden[0]).tolist() == [12, 13, 14]
    assert not shadow(np.full((2, 9), 1.5, np.float32), 6.0, right=True).any()


def test_measured_depth_is_about_the_depth():
    depth_m = np.full((64, 64), 1.0, np.float32)
    depth_m[:, :20] = np.nan
    for seed in range(20):
        seen_m = measured(depth_m, 140.0, 7.0, np.random.default_rng(seed))
        assert seen_m.shape == depth_m.shape
        middle = seen_m[:, 34:]
        assert np.isfinite(middle).mean() > 0.6
        np.testing.assert_allclose(middle[np.isfinite(middle)], 1, atol=0.05)


def test_a_refiner_measures_half_of_the_hands(folder):
    shards = HandShards(folder, 'windows')
    calls = []

    def nearer(depth):
        calls.append(depth)
        return torch.where(depth != 0, depth - 0.02, 0.0)

    def samples(refiner):
        return Windows(shards, None, 0, range(len(shards)), 40, refiner=refiner)

    for number in range(40):
        samples(nearer)[number]
    assert 10 <= len(calls) <= 30
    for depth in calls:
        # Units of crops, and their scale: 380 mm at 1.34 mm.
        hand = depth[depth != 0]
        assert hand.max() - hand.min() <= 0.3
        assert abs(depth.shape[2] - 380 / (300 / 224)) < 40
    # Off, samples are what they were.
    for a, b in zip(samples(None)[3], Windows(shards, None, 0, range(12), 40)[3], strict=True):
        assert torch.equal(a, b)


def test_a_window_by_hand():
    values = normalised(np.float32([np.nan, 0.5, 0.645, 2.0]), 0.5, 0.145)
    np.testing.assert_allclose(values, [1, 0, 1, 1], atol=1e-6)
    cells = nearest(np.array([[3, 1, 2, np.nan] * 2] * 4, np.float32))
    assert cells.tolist() == [[1.0, 1.0]]


def test_votes_by_hand():
    """With all votes listened to alike, the answer is their mean."""
    network = HandJoints(8).eval()
    with torch.no_grad():
        network.votes.weight.zero_()
        network.votes.bias.zero_()
        network.votes.bias[2] = 0.25  # rows of the wrist
        said = network(torch.rand(2, 1, 96, 96))
    np.testing.assert_allclose(said.place[:, 0].numpy(), [[0, 0.25, 0]] * 2, atol=1e-6)
    np.testing.assert_allclose(said.place[:, 5].numpy(), [[0, 0, 0]] * 2, atol=1e-6)


def test_joint_losses_by_hand(folder):
    shards = HandShards(folder, 'windows')
    sample = Windows(shards, None, 0, range(4), 4, changed=False)[0]
    batch = type(sample)(*(value[None] for value in sample))
    exact = Joints(batch.place + 0.1, torch.zeros(1, 21), torch.tensor([9.0]), torch.zeros(1))
    parts = joint_losses(exact, batch)
    assert float(parts['place']) == pytest.approx(0.3, rel=1e-4)
    assert float(parts['spread']) == pytest.approx(0.1 * 3**0.5, rel=1e-4)
    assert float(parts['right']) == pytest.approx(np.log(2), rel=1e-4)
    nothing = batch._replace(hand=torch.zeros(1))
    assert float(joint_losses(exact, nothing)['place']) == 0


def test_a_perfect_detector_costs_little(folder):
    shards = HandShards(folder, 'frames')
    samples = Frames(shards, 0, range(len(shards)), len(shards), changed=False)
    sample = next(s for s in (samples[i] for i in range(12)) if s.hand.max() > 0.95)
    batch = type(sample)(*(value[None] for value in sample))
    sure = torch.where(batch.hand > 0.95, 12.0, -12.0)
    right = detector_losses(Detections(sure, batch.offset, batch.behind_m), batch)
    assert all(float(value) < 1e-3 for value in right.values())
    wrong = detector_losses(Detections(-sure, batch.offset + 1, batch.behind_m), batch)
    assert float(wrong['hand']) > 5
    assert float(wrong['offset']) == pytest.approx(2.0)


def test_any_multiple_of_sixteen_is_looked_at():
    found = HandDetector(8).eval()(torch.full((1, 1, 48, 80), 0.7))
    assert found.hand.shape == (1, 1, 12, 20)
    assert found.offset.shape == (1, 2, 12, 20)


@pytest.mark.parametrize('network', ['joints', 'detector'])
def test_a_stopped_run_goes_on_as_if_it_had_not(folder, tmp_path, network):
    def settings(run, **changed):
        return Settings(
            data=folder, run=tmp_path / run, network=network, width=8, steps=3, batch=2,
            held_out=4, accelerator='cpu', mixed=False, **changed,
        )  # fmt: skip

    train(settings('whole'))
    train(settings('parts', minutes=1e-9))
    train(settings('parts'))
    whole, parts = (
        torch.load(tmp_path / run / 'checkpoint.pt', weights_only=True)['network']
        for run in ('whole', 'parts')
    )
    for name, value in whole.items():
        assert torch.equal(value, parts[name]), name


def test_without_shards_it_says_how_to_make_some(tmp_path):
    with pytest.raises(SystemExit, match=r'training\.hands\.examples'):
        train(Settings(data=tmp_path, run=tmp_path / 'run'))
