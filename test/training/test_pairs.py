import json

import cv2
import numpy as np
import pytest

torch = pytest.importorskip('torch', reason="training needs torch: pip install '.[train]'")

from training.datasets import DatasetError
from training.pairs import (
    DepthCode,
    Pairs,
    RenderedFrames,
    fitted,
    open_frames,
    split,
    spread,
)


def test_no_scene_is_in_two_parts():
    scenes = [f'scene {i // 3}' for i in range(60)]
    parts = split(scenes, 0.1)
    shown = {part: {scenes[i] for i in indices} for part, indices in parts.items()}
    assert shown['test'] == {'scene 18', 'scene 19'}
    assert shown['validation'] == {'scene 16', 'scene 17'}
    assert len(shown['train']) == 16
    assert sorted(n for part in parts.values() for n in part) == list(range(60))


def test_every_part_has_a_scene():
    assert split(['a', 'b', 'b', 'c'], 0.01) == {'train': [0], 'validation': [1, 2], 'test': [3]}
    # Half of three scenes each would leave none to train on.
    assert split(['a', 'b', 'c'], 0.5) == {'train': [0], 'validation': [1], 'test': [2]}


def test_one_recording_is_cut_into_consecutive_pieces():
    parts = split(['one'] * 40, 0.1)
    assert parts == {
        'train': list(range(32)), 'validation': [32, 33, 34, 35], 'test': [36, 37, 38, 39],
    }  # fmt: skip
    with pytest.raises(ValueError, match='2 frames cannot'):
        split(['one'] * 2, 0.1)


def test_spread():
    assert spread(range(10), 4) == [0, 3, 6, 9]
    assert spread([5, 7], 4) == [5, 7]


def test_a_picture_is_averaged_and_depth_is_picked():
    rgb = np.zeros((8, 12, 3), np.uint8)
    rgb[:, 6:] = 200
    depth_m = np.ones((8, 12), np.float32)
    depth_m[:, 6:] = 3
    # 8x8 in the middle becomes 3x3, whose middle column is half of each side.
    small, picked_m = fitted(rgb, depth_m, (3, 3))
    np.testing.assert_array_equal(small[:, :, 0], [[0, 100, 200]] * 3)
    assert set(np.unique(picked_m)) == {1, 3}
    assert (picked_m[:, 0] == 1).all()
    assert (picked_m[:, 2] == 3).all()


def test_pairs_are_functions_of_their_number(rooms):
    frames = RenderedFrames(rooms)
    made = [Pairs(frames, range(8), (32, 48), seed=3, changed=True, count=20) for _ in range(2)]
    for number in (7, 0):
        for one, other in zip(made[0][number], made[1][number], strict=True):
            assert torch.equal(one, other)
    depths = [pair.depth_m for pair in made[0]]
    assert len(depths) == 20
    assert not all(torch.equal(depth, depths[0]) for depth in depths)


def test_colour_and_depth_are_mirrored_together(rooms):
    pairs = Pairs(RenderedFrames(rooms), range(8), (64, 96), seed=0, changed=True, count=12)
    for pair in pairs:
        # The box is brighter and nearer than the wall, wherever it is.
        bright = pair.color.mean(0) > pair.color.mean()
        assert (bright == (pair.depth_m[0] < 1.5)).float().mean() > 0.95


def test_unknown_depth_is_0(rooms):
    plain = Pairs(RenderedFrames(rooms, measured=True), [4], (64, 96))[0]
    # The shadow beside the box of frame 4, see `write_rooms`.
    assert (plain.depth_m[0, 20:50, 28:38] == 0).all()
    assert plain.depth_m[0, 30, 45] == pytest.approx(1, abs=0.02)
    assert plain.color[0, 30, 45] == pytest.approx(200 / 255)


def test_places_are_joined(rooms, tmp_path):
    with pytest.raises(DatasetError, match='there is no'):
        open_frames([tmp_path / 'absent'])
    both = open_frames([rooms, rooms])
    assert len(both.scenes) == 20
    np.testing.assert_array_equal(both.read(13)[1], both.read(3)[1])


def record3d(path, shade):
    """A recording of two frames by a phone: colour as large as the depth, 1234 mm everywhere."""
    for name, image in (
        ('depth/0.png', np.full((6, 8), 1234, np.uint16)),
        ('rgb/0.jpg', np.full((6, 8, 3), shade, np.uint8)),
    ):
        (path / name).parent.mkdir(parents=True, exist_ok=True)
        assert cv2.imwrite(str(path / name), image)
    camera = {'K': [20, 0, 0, 0, 22, 0, 3.5, 2.5, 1], 'w': 8, 'h': 6}
    (path / 'metadata.json').write_text(json.dumps(camera))
    return path


def test_recordings_of_phones_are_pairs_and_scenes(tmp_path):
    paths = [record3d(tmp_path / str(i), 50 + i) for i in range(3)]
    frames = open_frames(paths)
    assert split(frames.scenes, 0.3) == {'train': [0], 'validation': [1], 'test': [2]}
    pair = Pairs(frames, [2], (6, 8))[0]
    assert pair.depth_m.unique().tolist() == pytest.approx([1.234])
    assert (pair.color * 255).mean() == pytest.approx(52, abs=1)


@pytest.mark.parametrize('logarithmic', [True, False])
def test_depth_codes_are_undone(logarithmic):
    code = DepthCode(0.5, 8.0, logarithmic)
    depth_m = torch.tensor([0.5, 2.0, 8.0])
    # 2 m is a factor of 4 of 16 from the nearest, so half way in proportion; or 1.5 of 7.5 m.
    assert code.encode(depth_m).tolist() == pytest.approx([0, 0.5 if logarithmic else 0.2, 1])
    torch.testing.assert_close(code.decode(code.encode(depth_m)), depth_m)
    assert code.encode(torch.zeros(1)) == 0
