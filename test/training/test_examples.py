import itertools

import numpy as np
import pytest

torch = pytest.importorskip('torch', reason="training needs torch: pip install '.[train]'")

from training.examples import Shards, encode, make_examples
from training.examples.__main__ import Settings, write_shards
from training.render import Renderer
from training.shards import complete_shards

SIZE = {'height': 48, 'width': 64}


def test_an_example_is_a_scene_and_what_sensors_see_of_it():
    made = make_examples(0, [3], measurements=3, **SIZE)
    assert made.color.shape == (1, 3, 48, 64)
    assert made.color.dtype == torch.uint8
    assert made.truth_m.shape == (1, 1, 48, 64)
    assert made.raw_m.shape == (1, 3, 48, 64)
    off = (made.raw_m - made.truth_m).abs() / made.truth_m
    assert off.nanmedian() < 0.02
    again = make_examples(0, [3], measurements=3, **SIZE)
    torch.testing.assert_close(made.raw_m, again.raw_m, equal_nan=True, rtol=0, atol=0)


def settings(folder, **changed):
    return Settings(folder, **({'frames': 4, 'shard_frames': 2, **SIZE} | changed))


def test_shards_keep_what_was_made_to_their_unit(tmp_path):
    list(write_shards(tmp_path, [0, 1], settings(tmp_path), Renderer()))
    shards = Shards(tmp_path)
    assert len(shards) == 4
    assert shards.size == (48, 64)
    assert shards.measurements == 2
    made = make_examples(0, [3], **SIZE)
    color, truth_m, raw_m = shards.crop(3, 1, 8, 16, 32, 40)
    assert torch.equal(color, made.color[0, :, 8:40, 16:56])
    want_m = made.truth_m[0, :, 8:40, 16:56]
    torch.testing.assert_close(truth_m, want_m, atol=1.1e-4, rtol=0, equal_nan=True)
    torch.testing.assert_close(
        raw_m, made.raw_m[0, 1:2, 8:40, 16:56], atol=1e-6, rtol=1e-6, equal_nan=True
    )


def test_colour_and_truth_alone(tmp_path):
    made = make_examples(0, [3], measurements=0, **SIZE)
    assert made.raw_m.shape == (1, 0, 48, 64)
    list(write_shards(tmp_path, [0], settings(tmp_path, measurements=0), Renderer()))
    color, truth_m, raw_m = Shards(tmp_path).crop(0, 0, 8, 16, 32, 40)
    assert (color.shape, truth_m.shape, raw_m.shape) == ((3, 32, 40), (1, 32, 40), (0, 32, 40))


def test_too_far_is_nothing():
    made = make_examples(0, [3], **SIZE)
    made.truth_m[0, 0, 0, :3] = torch.tensor([13.2, 13.0, torch.nan])
    counts = encode(made)['truth'][0, 0, 0, :3]
    assert counts.tolist() == [0, 65000, 0]


def test_a_stopped_run_goes_on_with_the_missing_shard(tmp_path):
    first = write_shards(tmp_path, range(3), settings(tmp_path), Renderer())
    assert list(itertools.islice(first, 2)) == [0, 1]
    before = (tmp_path / 'shard-00000.raw.npy').stat().st_mtime_ns
    # Killed while it wrote: fields without the last one are no shard.
    np.save(tmp_path / 'shard-00002.color.npy', np.zeros(3))
    assert complete_shards(tmp_path, 'shard', 'focal_px') == [0, 1]
    assert list(write_shards(tmp_path, range(3), settings(tmp_path), Renderer())) == [0, 1, 2]
    assert len(Shards(tmp_path)) == 6
    assert (tmp_path / 'shard-00000.raw.npy').stat().st_mtime_ns == before


def test_without_shards_it_says_how_to_make_some(tmp_path):
    with pytest.raises(FileNotFoundError, match='Make some: python'):
        Shards(tmp_path)
