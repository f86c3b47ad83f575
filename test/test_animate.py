"""The moving picture of the README: depth painted and lit, frames there and back."""

from pathlib import Path
import runpy

import numpy as np
import pytest

from depth_refiner_ros.data import Header, PinholeCamera
from depth_refiner_ros.hosts.bag import BagWriter
from depth_refiner_ros.pictures import NO_VALUE
from depth_refiner_ros.simulation import simulate

Image = pytest.importorskip('PIL.Image', reason='pip install pillow')
TOOL = runpy.run_path(str(Path(__file__).parents[1] / 'tools' / 'animate.py'))
CAMERA = PinholeCamera(Header(0, 'camera'), 40, 30, 50.0, 50.0, 19.5, 14.5)


def test_a_plane_is_lit_evenly_and_a_hole_has_no_value():
    depth_m = np.full((30, 40), 2.0, np.float32)
    depth_m[10:14, 20:24] = np.nan
    lit = TOOL['lit'](depth_m, CAMERA)
    assert (lit[10:14, 20:24] == NO_VALUE).all()
    plane = lit[:, :12].reshape(-1, 3)
    np.testing.assert_allclose(plane, np.broadcast_to(plane[0], plane.shape), atol=1)


def test_what_faces_the_light_is_brighter():
    # Light comes from above: a floor, nearer further down, is brighter than a ceiling.
    nearer_m = 0.5 * np.linspace(0, 1, 30, dtype=np.float32)[:, None] + np.zeros(
        (30, 40), np.float32
    )
    floor, ceiling = (TOOL['lit'](2 - m, CAMERA) for m in (nearer_m, nearer_m[::-1]))
    # In the middle row both are as far away, and so of one hue.
    assert floor[14:16, 5].sum() > 1.1 * ceiling[14:16, 5].sum()


def test_frames_run_there_and_back(tmp_path):
    with BagWriter(tmp_path / 'bag.mcap') as writer:
        for frame in simulate(3, width=64, height=48):
            stamp_ns = frame.depth.header.stamp_ns
            writer.write('/camera/color/image_rect', stamp_ns, frame.color)
            writer.write('/camera/depth/image_rect', stamp_ns, frame.depth)
            writer.write('/camera/depth_inpainted/image_rect', stamp_ns, frame.depth)
            writer.write('/camera/depth_inpainted/camera_info', stamp_ns, frame.camera)
    output = tmp_path / 'picture.webp'
    TOOL['animate'](tmp_path / 'bag.mcap', output, step=1, rate_hz=10, quality=50)
    with Image.open(output) as picture:
        assert picture.n_frames == 4  # 1 2 3 2
        assert picture.size == (3 * 320 + 2 * 4, 240 + 24)


def test_a_recording_without_the_topics_is_one_sentence(tmp_path):
    with BagWriter(tmp_path / 'bag.mcap') as writer:
        writer.write('/camera/depth/camera_info', 0, CAMERA)
    with pytest.raises(SystemExit, match='no frame with all of'):
        TOOL['animate'](tmp_path / 'bag.mcap', tmp_path / 'a.webp', 1, 10, 50)
