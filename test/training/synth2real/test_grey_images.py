import numpy as np
import pytest

torch = pytest.importorskip('torch', reason="training needs torch: pip install '.[train]'")
import cv2

from training.synth2real.grey_images import GreyImages


@pytest.fixture
def folder(tmp_path):
    (tmp_path / 'p00').mkdir()
    for i in range(5):
        cv2.imwrite(str(tmp_path / f'p00/{i}.png'), np.full((35, 55), 51 * i, np.uint8))
    (tmp_path / 'p00/notes.txt').write_text('')
    return tmp_path


def test_every_epoch_shows_every_image_once(folder):
    images = GreyImages(folder, 2, seed=3, size=(35, 55))
    assert len(images) == 3
    shown = torch.cat([images[n] for n in range(5)])
    assert shown.shape == (10, 1, 35, 55)
    levels = (shown[:, 0, 0, 0] * 5).round().int().tolist()
    assert sorted(levels[:5]) == sorted(levels[5:]) == [0, 1, 2, 3, 4]
    again = GreyImages(folder, 2, seed=3, size=(35, 55))
    assert torch.equal(again[1], images[1])


def test_sixteen_bits_and_sizes(tmp_path):
    ramp = np.arange(70 * 110, dtype=np.uint16).reshape(70, 110)
    cv2.imwrite(str(tmp_path / 'ramp.png'), ramp)
    fine = GreyImages(tmp_path, 1, 0, (70, 110))[0]
    assert torch.equal((fine[0, 0] * 65535).round().int(), torch.from_numpy(ramp.astype(np.int32)))
    small = GreyImages(tmp_path, 1, 0, (35, 55))[0]
    # The mean of 2x2 pixels.
    assert float(small[0, 0, 0, 0]) * 65535 == pytest.approx((0 + 1 + 110 + 111) / 4, abs=0.01)


def test_nothing_to_read(tmp_path):
    with pytest.raises(FileNotFoundError, match='has no images'):
        GreyImages(tmp_path, 1, 0, (35, 55))
    (tmp_path / 'broken.png').write_bytes(b'no image')
    with pytest.raises(OSError, match='cannot be read'):
        GreyImages(tmp_path, 1, 0, (35, 55))[0]
