"""Training of the hourglass: learns, goes on where it was, refuses what it must."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip('torch', reason="training needs torch: pip install '.[train]'")
pytest.importorskip('lightning_fabric', reason="training needs Fabric: pip install '.[train]'")

from training.datasets.hands import CROP_PX
from training.networks.hourglass import heatmap_loss, heatmaps_of
from training.synth2real.crops import HandCrops
from training.synth2real.train_hourglass import Settings, sheet, sources, train, validate

TINY = Settings(
    run=Path(), steps=4, batch=2, features=16, checked=1, validate_every=100, accelerator='cpu'
)


def state(run):
    return torch.load(run / 'checkpoint.pt', weights_only=True)


def test_the_loss_of_a_missed_joint_is_its_heatmaps_square():
    joints_px = torch.tensor([[[111.5, 60.0], [50.0, 70.0]]])
    wanted = heatmaps_of(joints_px, CROP_PX)
    right = torch.stack([wanted, wanted], 1)
    assert heatmap_loss(right, joints_px, CROP_PX) == 0
    # Sum of exp(-r^2) over pixels is about pi; half the joints of all stacks miss it.
    wrong = right.clone()
    wrong[:, :, 0] = 0
    assert float(heatmap_loss(wrong, joints_px, CROP_PX)) == pytest.approx(np.pi / 2, rel=1e-3)


class Oracle(torch.nn.Module):
    """Finds every joint, the first one 10 px too far right."""

    def __init__(self, joints_px):
        super().__init__()
        self.joints_px = joints_px.clone()
        self.joints_px[:, 0, 0] += 10

    def forward(self, depth):
        return heatmaps_of(self.joints_px, CROP_PX)[:, None]


def test_validation_counts_joints_within_five_pixels():
    joints_px = torch.full((3, 14, 2), 100.0)
    crops = HandCrops(torch.zeros(3, 1, CROP_PX, CROP_PX), joints_px)
    figures = validate(Oracle(joints_px), [crops], torch.device('cpu'))
    assert figures['pck_5px'] == pytest.approx(13 / 14)
    # Heatmaps are 3.5 px coarse, so joints are found within a quarter of that.
    assert figures['error_px'] == pytest.approx(10 / 14, abs=1)


def test_a_stopped_run_goes_on_as_if_it_had_not_been(tmp_path):
    train(replace(TINY, run=tmp_path / 'whole', steps=2))
    train(replace(TINY, run=tmp_path / 'parts', steps=1))
    train(replace(TINY, run=tmp_path / 'parts', steps=2))
    whole, parts = state(tmp_path / 'whole'), state(tmp_path / 'parts')
    assert whole['step'] == parts['step'] == 2
    for name, value in whole['network'].items():
        assert torch.equal(value, parts['network'][name]), name
    with pytest.raises(SystemExit, match='features was 16 and is 32'):
        train(replace(TINY, run=tmp_path / 'parts', steps=2, features=32))


def test_research_data_needs_a_word(tmp_path):
    scipy_io = pytest.importorskip('scipy.io', reason='NYU labels need scipy: pip install scipy')
    import cv2

    uvd = np.full((3, 2, 36, 3), 520.0)
    uvd[..., :2] = np.random.default_rng(0).uniform(200, 300, (3, 2, 36, 2))
    scipy_io.savemat(tmp_path / 'joint_data.mat', {'joint_uvd': uvd})
    for number in (1, 2):
        image = np.full((480, 640, 3), 2, np.uint8)  # 2 * 256 + 2 mm
        assert cv2.imwrite(str(tmp_path / f'depth_1_{number:07d}.png'), image)
    with pytest.raises(SystemExit, match='Weights trained on it may not be shipped'):
        sources(replace(TINY, data=tmp_path), 2)
    with pytest.raises(SystemExit, match='labels 14 joints: give --joints'):
        sources(replace(TINY, data=tmp_path, joints=21, research=True), 2)
    learned, checked = sources(replace(TINY, data=tmp_path, test=tmp_path, research=True), 2)
    assert learned[0].joints_px.shape == (2, 14, 2)
    assert len(checked) == 1
    assert (learned[0].depth != 0).any()
    train(
        replace(TINY, run=tmp_path / 'run', data=tmp_path, test=tmp_path, research=True, steps=1)
    )
    assert state(tmp_path / 'run')['step'] == 1


def test_pictures_have_a_column_for_each_hand():
    joints_px = torch.full((2, 14, 2), 100.0)
    depth = torch.zeros(2, 1, CROP_PX, CROP_PX)
    depth[0, 0, 50:150, 50:150] = -1.3
    picture = sheet(HandCrops(depth, joints_px), heatmaps_of(joints_px, CROP_PX))
    assert picture.shape == (2 * CROP_PX, 2 * CROP_PX, 3)
    assert (picture[100, 100] == 255).all()
