from __future__ import annotations

import json

import cv2
import numpy as np
import pytest

from depth_refiner_ros.cli import main
from depth_refiner_ros.hosts.bag import open_bag, static_transforms

WIDTH, HEIGHT = 64, 48


@pytest.fixture
def folder(tmp_path):
    """The project's layout with everything in it; `changes` to camera.json."""
    source = tmp_path / 'source'

    def write(**changes):
        info = {
            'width': WIDTH,
            'height': HEIGHT,
            'fx': 60.0,
            'fy': 60.0,
            'cx': 31.5,
            'cy': 23.5,
            'depth_unit_m': 0.001,
            'color_aligned_to_depth': False,
            'color_K': [70.0, 70.0, 31.5, 23.5],
            'color_from_depth_t_m': [0.025, 0.0, 0.0],
        }
        for name in ('depth', 'color', 'reference', 'poses'):
            (source / name).mkdir(parents=True, exist_ok=True)
        (source / 'camera.json').write_text(json.dumps(info | changes))
        rng = np.random.default_rng(0)
        for i in range(3):
            depth = np.full((HEIGHT, WIDTH), 1500 + i, np.uint16)
            depth[10:20, 10:20] = 0
            color = rng.integers(0, 255, (HEIGHT, WIDTH, 3), np.uint8)
            cv2.imwrite(str(source / f'depth/{i:03}.png'), depth)
            cv2.imwrite(str(source / f'reference/{i:03}.png'), depth)
            cv2.imwrite(str(source / f'color/{i:03}.jpg'), color)
            np.savetxt(source / f'poses/{i:03}.txt', np.eye(4))
        return source

    return write


@pytest.mark.parametrize(
    ('name', 'storage'), [('x.mcap', 'mcap'), ('x', 'mcap'), ('x', 'sqlite3')]
)
def test_import_writes_what_the_folder_holds(bags, folder, tmp_path, name, storage):
    out = tmp_path / name
    flags = ['--storage', storage, '--rate-hz', '10', '--namespace', 'front']
    assert main(['import', str(folder()), '-o', str(out), *flags]) == 0

    with open_bag(out) as reader:
        counts = {c.topic: (c.msgtype.rpartition('/')[2], c.msgcount) for c in reader.connections}
        tree = static_transforms(reader)
    assert counts == {
        '/tf_static': ('TFMessage', 1),
        '/tf': ('TFMessage', 3),
        '/front/depth/camera_info': ('CameraInfo', 3),
        '/front/depth/image_rect': ('Image', 3),
        '/front/color/image_rect': ('Image', 3),
        '/front/color/camera_info': ('CameraInfo', 3),
        '/front/reference/image_rect': ('Image', 3),
    }
    placed = tree.lookup('camera_color_optical_frame', 'camera_depth_optical_frame')
    assert placed.translation_m.tolist() == [0.025, 0, 0]
    messages = bags.read(out)
    depth = [m for m in messages if m.topic == '/front/depth/image_rect']
    assert np.diff([m.log_ns for m in depth]).tolist() == [100_000_000] * 2
    for i, m in enumerate(depth):
        assert m.msg.encoding == '16UC1'
        raw = m.msg.data.view(np.uint16).reshape(HEIGHT, WIDTH)
        assert raw[0, 0] == 1500 + i
        assert raw[15, 15] == 0


def test_imported_recording_replays_with_registered_colour(bags, folder, tmp_path):
    bag, out = str(tmp_path / 'x.mcap'), str(tmp_path / 'y.mcap')
    main(['import', str(folder()), '-o', bag])
    stages = 'register_color,refine_depth,inpaint_depth,project_points'
    assert main(['replay', bag, '-o', out, '--stages', stages]) == 0
    cloud = [m.msg for m in bags.read(tmp_path / 'y.mcap') if m.topic == '/camera/points'][-1]
    assert {f.name for f in cloud.fields} == {'x', 'y', 'z', 'rgb'}
    assert main(['doctor', bag]) == 0


def test_twice_gives_the_same_bytes(folder, tmp_path):
    octets = []
    for name in ('a', 'b'):
        (tmp_path / name).mkdir()
        out = tmp_path / name / 'out.mcap'
        assert main(['import', str(folder()), '-o', str(out)]) == 0
        octets.append(out.read_bytes())
    assert octets[0] == octets[1]


@pytest.fixture
def tum(tmp_path):
    source = tmp_path / 'tum'
    (source / 'depth').mkdir(parents=True)
    cv2.imwrite(str(source / 'depth/1.png'), np.full((480, 640), 10000, np.uint16))
    (source / 'depth.txt').write_text('1305031102.160407 depth/1.png\n')
    return source


def test_tum(bags, tum, tmp_path, capsys):
    assert main(['import', str(tum), '-o', str(tmp_path / 'x.mcap')]) == 0
    assert 'cx 319.5 cy 239.5 px: assumed' in capsys.readouterr().err
    info, depth = bags.read(tmp_path / 'x.mcap')
    assert depth.log_ns == 1_305_031_102_160_407_000
    assert (depth.msg.data.view(np.float32) == 2).all()
    assert info.msg.k.tolist() == [525.0, 0, 319.5, 0, 525.0, 239.5, 0, 0, 1]


def test_what_the_folder_does_not_say(bags, tum, tmp_path, capsys, refuse):
    out = tmp_path / 'x.mcap'
    for camera in ('1,2,3', 'a,b,c,d', ''):
        assert '--camera takes fx,fy,cx,cy' in refuse('import', tum, '-o', out, '--camera', camera)
    assert 'millimetres are 0.001' in refuse('import', tum, '-o', out, '--depth-unit-m', '1')
    flags = ['--camera', '481.2,-480,319.5,239.5', '--depth-unit-m', '0.001']
    assert main(['import', str(tum), '-o', str(out), *flags]) == 0
    assert 'assumed' not in capsys.readouterr().err
    info, depth = bags.read(out)
    assert depth.msg.encoding == '16UC1'
    assert (depth.msg.data.view(np.uint16) == 10000).all()
    assert info.msg.k.tolist() == [481.2, 0, 319.5, 0, 480, 239.5, 0, 0, 1]


@pytest.mark.parametrize(
    ('damage', 'words'),
    [
        (lambda f: (f / 'camera.json').unlink(), 'neither camera.json'),
        (lambda f: (f / 'camera.json').write_text('{'), 'is not JSON'),
        (lambda f: (f / 'camera.json').write_text('{}'), "has no 'width'"),
        (lambda f: (f / 'depth/000.png').write_bytes(b'x'), '000.png is not a readable image'),
        (lambda f: (f / 'poses/001.txt').write_text(''), '4x4'),
        (lambda f: [p.unlink() for p in (f / 'depth').iterdir()], 'no depth images'),
    ],
)
def test_damaged_folders_are_refused_in_one_line(folder, tmp_path, refuse, damage, words):
    source = folder()
    damage(source)
    assert words in refuse('import', source, '-o', tmp_path / 'x.mcap')


def test_what_came_before_a_damaged_image_is_kept(bags, folder, tmp_path, refuse):
    source, out = folder(), tmp_path / 'x.mcap'
    (source / 'depth/001.png').write_bytes(b'x')
    text = refuse('import', source, '-o', out, exit_code=1)
    count = len(bags.read(out))
    assert count > 0
    assert text.endswith(
        f'001.png is not a readable image; {out} holds the {count} messages written before\n'
    )


def test_bad_arguments(folder, tmp_path, refuse):
    source, out = folder(), tmp_path / 'x.mcap'
    assert 'no folder' in refuse('import', tmp_path / 'nowhere', '-o', out)
    assert '--rate-hz' in refuse('import', source, '-o', out, '--rate-hz', '0')
    assert '--rate-hz' in refuse('import', source, '-o', out, '--rate-hz', 'nan')
    assert not out.exists()
    out.write_text('mine')
    assert 'exists already' in refuse('import', source, '-o', out)
    assert out.read_text() == 'mine'
