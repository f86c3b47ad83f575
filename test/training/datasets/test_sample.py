from dataclasses import FrozenInstanceError
import importlib
import pickle
import re

import numpy as np
import pytest

from training.datasets import (
    LAYOUTS,
    DatasetError,
    Licence,
    Sample,
    Terms,
    open_dataset,
    require_shippable,
)

OWN = Licence('mine', Terms.OWN)
DEPTH_M = np.ones((6, 8), np.float32)


@pytest.fixture
def scenes(tmp_path, write_image, counts, bgr):
    for i in range(3):
        write_image(tmp_path / f'frame-00000{i}.depth.png', counts)
        write_image(tmp_path / f'frame-00000{i}.color.png', bgr)
    return tmp_path


def test_a_sample_is_frozen_and_checked():
    sample = Sample('a', DEPTH_M, OWN)
    with pytest.raises(FrozenInstanceError):
        sample.name = 'b'
    with pytest.raises(ValueError, match=r'a: depth_m must be \(H, W\) float32, got .* float64'):
        Sample('a', DEPTH_M.astype(float), OWN)
    with pytest.raises(ValueError, match='a: colour is 4x3, but depth 8x6'):
        Sample('a', DEPTH_M, OWN, np.zeros((3, 4, 3), np.uint8))
    assert Sample('a', DEPTH_M, OWN, np.zeros((3, 4, 3), np.uint8), registered=False).rgb.size
    with pytest.raises(ValueError, match='a: reference_m must be 8x6 float32, got 8x5'):
        Sample('a', DEPTH_M, OWN, None, DEPTH_M[:5])


def test_a_dataset_is_a_sequence(scenes):
    data = open_dataset(scenes)
    assert len(data) == 3
    assert data[-1].name == 'frame-000002'
    assert [s.name for s in data[1:]] == ['frame-000001', 'frame-000002']
    assert [s.name for s in data] == data.names
    with pytest.raises(IndexError, match='has 3 frames, so none at 3'):
        data[3]


def test_frames_are_read_when_asked_for(scenes):
    (scenes / 'frame-000001.depth.png').write_bytes(b'\x89PNG cut')
    (scenes / 'frame-000002.depth.png').write_bytes(b'')
    data = open_dataset(scenes)
    assert data[0].rgb[0, 0].tolist() == [10, 20, 30]
    for i in (1, 2):
        with pytest.raises(DatasetError, match=rf'frame-00000{i}\.depth\.png is not a readable'):
            data[i]


def test_sizes_that_do_not_fit_name_the_dataset(tmp_path, write_image, counts):
    write_image(tmp_path / 'color' / 'a_c.png', np.zeros((3, 4, 3), np.uint8))
    write_image(tmp_path / 'depth_filled' / 'a_depth_filled.png', counts)
    with pytest.raises(DatasetError, match=f'^{re.escape(str(tmp_path))}: .*colour is 4x3'):
        open_dataset(tmp_path)[0]


def test_what_is_unknown_is_told_what_was_looked_for(tmp_path):
    with pytest.raises(DatasetError) as raised:
        open_dataset(tmp_path)
    for layout in LAYOUTS:
        assert f'{layout.kind}: {layout.sign}' in str(raised.value)
    with pytest.raises(DatasetError, match=r'there is no .*nowhere'):
        open_dataset(tmp_path / 'nowhere')


def test_an_empty_dataset_is_refused(tmp_path):
    (tmp_path / 'depth.txt').write_text('# nothing\n')
    with pytest.raises(DatasetError, match=r'has no frames of TUM RGB-D; looked for rgb\.txt'):
        open_dataset(tmp_path)


def test_research_only_data_is_refused_unless_allowed(scenes):
    data = open_dataset(scenes)
    assert data[0].licence is data.licence
    with pytest.raises(DatasetError, match=r'is 7-Scenes: .* may not be shipped'):
        require_shippable([data])
    require_shippable([data], research=True)


def test_only_free_licences_allow_shipping():
    free = {layout.kind for layout in LAYOUTS if layout.licence.allows_shipping}
    assert free == {'TUM RGB-D', 'Record3D'}


def test_a_missing_library_is_named(tmp_path, monkeypatch):
    def absent(name):
        raise ImportError(name)

    (tmp_path / 'a.mat').write_bytes(b'')
    monkeypatch.setattr(importlib, 'import_module', absent)
    with pytest.raises(DatasetError, match='h5py is needed to read this: pip install h5py'):
        open_dataset(tmp_path / 'a.mat')


def test_a_dataset_can_be_sent_to_workers(scenes):
    data = pickle.loads(pickle.dumps(open_dataset(scenes)))
    assert data[1].name == 'frame-000001'


def test_a_data_loader_takes_it_as_it_is(scenes):
    torch = pytest.importorskip('torch', reason="training needs torch: pip install '.[train]'")
    loader = torch.utils.data.DataLoader(open_dataset(scenes), batch_size=None, shuffle=False)
    assert [sample.name for sample in loader] == open_dataset(scenes).names
