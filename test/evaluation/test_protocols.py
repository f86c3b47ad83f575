from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

from depth_refiner_ros.data import DepthImage, Header, PinholeCamera
from depth_refiner_ros.evaluation import protocols
from depth_refiner_ros.evaluation.protocols import (
    BagSource,
    FolderSource,
    Frame,
    cases,
    open_source,
    protocol_of,
)
from depth_refiner_ros.geometry import TransformTree
from depth_refiner_ros.hosts.bag import BagError, BagWriter
from depth_refiner_ros.simulation import simulate

SHAPE = (48, 64)
HEADER = Header(1, 'camera')
CAMERA = PinholeCamera(HEADER, 64, 48, 60, 60, 31.5, 23.5)


def frame(name, depth_m, reference_m=None):
    depth = DepthImage(HEADER, np.asarray(depth_m, np.float32))
    reference = None if reference_m is None else DepthImage(HEADER, np.float32(reference_m))
    return Frame(name, {'depth': depth, 'camera': CAMERA}, reference)


def source(frames, static=None, has_reference=False):
    class Listed(SimpleNamespace):
        def __len__(self):
            return len(frames)

        def __iter__(self):
            return iter(frames)

    return Listed(
        name='listed',
        sensor='',
        transforms=TransformTree(),
        static=static,
        has_reference=has_reference,
        note='',
    )


def plane(distance_m=2.0, hole=None):
    depth_m = np.full(SHAPE, distance_m, np.float32)
    if hole:
        depth_m[hole] = np.nan
    return depth_m


# --------------------------------------------------------------------------- reference


def test_frames_without_a_reference_are_fed_in_order_but_not_scored(folder, wall):
    path = folder('x', [wall(1000 + i) for i in range(4)], {1: wall(1500), 3: wall(4500)})
    opened = open_source(path)
    assert protocol_of(opened) == 'reference'
    found = list(cases(opened))
    assert [c.name for c in found] == ['000', '001', '002', '003']
    assert [float(c.values['depth'].depth_m[0, 0]) for c in found] == pytest.approx(
        [1.0, 1.001, 1.002, 1.003]
    )
    assert [c.truth_m is not None for c in found] == [False, True, False, True]
    assert (found[1].truth_m == np.float32(1.5)).all()
    assert found[1].scored.all()
    assert not found[3].scored.any()  # beyond 4 m


def test_a_reference_of_another_size_is_named(folder, wall):
    path = folder('x', [wall(), wall()], {0: wall(), 1: np.full((24, 32), 2000, np.uint16)})
    good, bad = cases(open_source(path))
    assert not good.corrupt
    assert '001.png is 32x24, but its camera 64x48' in bad.corrupt

    frames = [frame('a', plane(), plane()[:24])]
    (bad,) = cases(source(frames, has_reference=True))
    assert bad.values == {}
    assert bad.corrupt == 'reference and depth differ in size: (24, 64) and (48, 64)'


def test_protocols_need_what_they_need(folder, wall):
    opened = open_source(folder('x', [wall()]))
    with pytest.raises(ValueError, match='x has no reference depth'):
        next(cases(opened, 'reference'))
    with pytest.raises(ValueError, match=r'x has no static_mask\.png'):
        next(cases(opened, 'static'))


# ------------------------------------------------------------------------------ static


def test_static_truth_is_the_median_of_the_other_frames():
    static = np.ones(SHAPE, np.bool_)
    static[:, :32] = False
    frames = [frame(str(i), plane(d)) for i, d in enumerate([1.0, 1.1, 1.3, 1.6])]
    frames[3].values['depth'] = DepthImage(HEADER, plane(1.6, (0, 40)))
    opened = source(frames, static)
    assert protocol_of(opened) == 'static'
    found = list(cases(opened))
    # others of the first: 1.1 1.3 1.6; where the last has none, the mean of 1.1 and 1.3
    assert [float(c.truth_m[5, 50]) for c in found] == pytest.approx([1.3, 1.3, 1.1, 1.1])
    assert [float(c.truth_m[0, 40]) for c in found] == pytest.approx([1.2, 1.15, 1.05, 1.1])
    assert all((c.scored == static).all() for c in found)


def test_static_truth_is_unknown_where_no_other_frame_measured():
    hole = (slice(0, 5), slice(0, 5))
    frames = [frame('a', plane(2.0)), frame('b', plane(2.0, hole)), frame('c', plane(2.0, hole))]
    first, second, _ = cases(source(frames, np.ones(SHAPE, np.bool_)))
    assert np.isnan(first.truth_m[hole]).all()
    assert not first.scored[hole].any()
    assert np.isfinite(second.truth_m).all()


def test_static_memory_is_bounded_by_samples():
    # 130 frames: every third is a sample, 44 in all
    distances_m = np.linspace(1, 2, 130)
    frames = [frame(str(i), plane(d)) for i, d in enumerate(distances_m)]
    found = list(cases(source(frames, np.ones(SHAPE, np.bool_))))
    samples_m = distances_m[::3].astype(np.float32)
    assert float(found[1].truth_m[0, 0]) == pytest.approx(np.median(samples_m), abs=1e-6)
    others_m = np.delete(samples_m, 10)
    assert float(found[30].truth_m[0, 0]) == pytest.approx(np.median(others_m), abs=1e-6)


def test_one_frame_is_no_static_source(folder, wall):
    path = folder('x', [wall(hole=np.s_[5:15, 5:15])], static=np.ones(SHAPE))
    assert protocol_of(open_source(path)) == 'punched'
    (only,) = cases(open_source(path), 'static')
    assert only.truth_m is None


def test_a_mask_of_another_size_is_named(folder, wall):
    path = folder('x', [wall(), wall()], static=np.ones((24, 32)))
    found = list(cases(open_source(path)))
    assert [c.corrupt for c in found] == [
        'static_mask.png and depth differ in size: (24, 32) and (48, 64)'
    ] * 2


# ----------------------------------------------------------------------------- punched


def test_punched_holes_are_the_pattern_of_another_frame_in_valid_pixels():
    a_hole, b_hole = np.s_[5:15, 5:25], np.s_[30:40, 40:44]
    frames = [frame('a', plane(2, a_hole)), frame('b', plane(3, b_hole))]
    a, b = cases(source(frames), seed=3)
    for case, own, other in ((a, a_hole, (10, 4)), (b, b_hole, (10, 20))):
        fed_m, truth_m = case.values['depth'].depth_m, case.truth_m
        new = np.isnan(fed_m) & np.isfinite(truth_m)
        assert np.isnan(truth_m[own]).all()
        assert (new == case.scored).all()
        kept = np.isfinite(fed_m)
        assert (fed_m[kept] == truth_m[kept]).all()
        # the other's rectangle, rolled, less what falls on the frame's own hole
        assert 0 < new.sum() <= other[0] * other[1]
        pattern = np.zeros(SHAPE, np.bool_)
        pattern[: other[0], : other[1]] = True
        shifts = (
            np.roll(pattern, (y, x), (0, 1)) & np.isfinite(truth_m)
            for y in range(SHAPE[0])
            for x in range(SHAPE[1])
        )
        assert any((shifted == new).all() for shifted in shifts)


def test_holes_thinner_than_three_pixels_are_not_copied():
    frames = [frame('a', plane(2, np.s_[5:15, 5:7])), frame('b', plane(2, np.s_[5:15, 5:7]))]
    assert not any(c.scored.any() for c in cases(source(frames)))


def test_the_seed_decides(noisy_folder):
    opened = open_source(noisy_folder('x'))
    first, again, other = (
        np.stack([c.scored for c in cases(opened, seed=seed)]) for seed in (0, 0, 1)
    )
    assert (first == again).all()
    assert (first != other).any()


def test_punched_truth_beyond_four_metres_is_not_scored():
    frames = [frame('a', plane(5, np.s_[:20, :20])), frame('b', plane(5, np.s_[:20, :20]))]
    assert not any(c.scored.any() for c in cases(source(frames)))


def test_frames_of_several_sizes_take_patterns_of_their_own():
    small = frame('small', np.full((24, 32), 2, np.float32))
    large = frame('large', plane(2, np.s_[5:15, 5:15]))
    first, second = cases(source([small, large]))
    assert first.scored.shape == (24, 32)
    assert not first.scored.any()
    assert second.scored.any()  # its own pattern, for there is no other


# ----------------------------------------------------------------------------- corrupt


@pytest.mark.parametrize('protocol', ['reference', 'static', 'punched'])
def test_corrupt_frames_of_folders_are_named(folder, wall, protocol):
    holed = wall(hole=np.s_[5:15, 5:15])
    path = folder('x', [holed, None, holed], {0: wall(), 2: wall()}, static=np.ones(SHAPE))
    first, bad, last = cases(open_source(path), protocol)
    assert bad.name == '001'
    assert bad.values == {}
    assert '001.png is not a readable image' in bad.corrupt
    assert not first.corrupt
    assert not last.corrupt
    assert last.truth_m is not None


def writer(path, messages):
    with BagWriter(path) as bag:
        for log_ns, topic, value in messages:
            bag.write(topic, log_ns, value)
    return path


def recorded(count=3, odd=None, reference=False):
    for i in range(count):
        header = Header(1_700_000_000_000_000_000 + i * 100_000_000, 'camera')
        log_ns = header.stamp_ns
        camera = PinholeCamera(header, 64, 48, 60, 60, 31.5, 23.5)
        depth_m = plane(2 + i / 1000, np.s_[5:15, 5 : 15 + i])
        if i == odd:
            depth_m = depth_m[:24, :32].copy()
        yield log_ns, '/camera/depth/camera_info', camera
        yield log_ns, '/camera/depth/image_rect', DepthImage(header, depth_m, '16UC1')
        if reference and i == 1:
            truth = DepthImage(header, plane(2.5), '16UC1')
            yield log_ns, '/camera/reference/image_rect', truth


def test_corrupt_frames_of_bags_are_named(tmp_path):
    opened = open_source(writer(tmp_path / 'x.mcap', recorded(odd=1)))
    first, bad, last = cases(opened)
    assert [first.name, bad.name, last.name] == [
        '1700000000.000', '1700000000.100', '1700000000.200',
    ]  # fmt: skip
    assert 'the image is 32x24 but its camera_info says 64x48' in bad.corrupt
    assert bad.values == {}
    assert last.scored.any()


def test_a_message_that_is_no_image_is_named(tmp_path, monkeypatch):
    from depth_refiner_ros.hosts.bag import frames as bag

    path = writer(tmp_path / 'x.mcap', recorded())
    decode, calls = bag.decode, []

    def broken(kind, msg, topic, **options):
        if kind is DepthImage:
            calls.append(topic)
            if len(calls) == 2:
                raise ValueError('cannot decode')
        return decode(kind, msg, topic, **options)

    monkeypatch.setattr(bag, 'decode', broken)
    assert [f.corrupt for f in BagSource(path)] == ['', 'cannot decode', '']


def test_what_follows_damage_in_a_bag_is_named(tmp_path, monkeypatch):
    path = writer(tmp_path / 'x.mcap', recorded())
    from depth_refiner_ros.hosts.bag import Frames

    whole = Frames.__iter__

    def cut(self):
        for i, item in enumerate(whole(self)):
            if i == 2:
                raise BagError('x.mcap is damaged')
            yield item

    monkeypatch.setattr(Frames, '__iter__', cut)
    found = list(BagSource(path))
    assert [f.name for f in found] == [
        '1700000000.000', '1700000000.100', 'after 1700000000.100',
    ]  # fmt: skip
    assert found[-1].corrupt == 'x.mcap is damaged'


# ------------------------------------------------------------------------------- bags


def test_a_bag_with_a_reference_topic_is_compared_with_it(tmp_path):
    opened = open_source(writer(tmp_path / 'x.mcap', recorded(reference=True)))
    assert protocol_of(opened) == 'reference'
    assert [c.truth_m is not None for c in cases(opened)] == [False, True, False]
    assert len(opened) == 3


def test_a_named_reference_must_be_there(tmp_path):
    path = writer(tmp_path / 'x.mcap', recorded())
    with pytest.raises(BagError, match='no reference on /truth; it has /camera/depth/camera_info'):
        open_source(path, {'reference': '/truth'})


def test_empty_sources_are_refused(tmp_path, folder):
    with pytest.raises(ValueError, match='has no depth images'):
        open_source(folder('x', []))
    empty = writer(tmp_path / 'x.mcap', [])
    with pytest.raises(BagError, match='no topics at all'):
        open_source(empty)


def test_colour_from_an_unknown_place_is_left_out(folder, wall, tmp_path):
    info = {'color_aligned_to_depth': False, 'color_K': [60.0, 60.0, 31.5, 23.5]}
    stray = FolderSource(folder('stray', [wall()], color=True, **info))
    (only,) = stray
    assert set(only.values) == {'depth', 'camera'}
    assert 'Colour is left out' in stray.note

    info['color_from_depth_t_m'] = [0.1, 0, 0]
    placed = FolderSource(folder('placed', [wall()], color=True, **info))
    (only,) = placed
    assert {'color', 'color_camera'} < set(only.values)
    assert placed.note == ''


@pytest.mark.parametrize(
    ('words', 'model'),
    [
        ('Kinect v1', 'kinect_v1'),
        ('Asus Xtion (PrimeSense), static tripod', 'kinect_v1'),
        ('RealSense D435', 'realsense_d400'),
        ('Azure Kinect', 'azure_kinect'),
        ('PhoXi structured-light scanner', ''),
    ],
)
def test_the_noise_model_follows_the_sensor(folder, wall, words, model):
    assert open_source(folder('x', [wall()], sensor=words)).sensor == model


class Still:
    """Frames of a camera at rest, or of one that moves."""

    def __init__(self, step_m):
        rng = np.random.default_rng(0)
        self.depths_m = [
            (2 + i * step_m + rng.normal(0, 0.002, (12, 16))).astype(np.float32) for i in range(8)
        ]
        for depth_m in self.depths_m:
            depth_m[:6, :8] = np.nan

    def __len__(self):
        return len(self.depths_m)

    def __iter__(self):
        for i, depth_m in enumerate(self.depths_m):
            header = Header(i * 33_000_000, 'camera')
            yield protocols.Frame(f'{i}', {'depth': DepthImage(header, depth_m)})


def test_a_camera_at_rest_is_known_by_its_raw_depth():
    rest = protocols.at_rest(Still(0.0))
    assert not rest[:6, :8].any()
    assert rest.sum() == 12 * 16 - 6 * 8
    assert protocols.at_rest(Still(0.05)) is None


class Walk:
    """A simulated walk as a source."""

    name, sensor, note, static, has_reference = 'walk', 'kinect_v1', '', None, False
    transforms = TransformTree()

    def __init__(self, frames: int) -> None:
        self.frames = list(simulate(frames, width=160, height=120, move='translation'))

    def __len__(self) -> int:
        return len(self.frames)

    def __iter__(self):
        for number, frame in enumerate(self.frames):
            yield Frame(str(number), {'depth': frame.depth, 'camera': frame.camera})


def test_later_frames_are_the_truth_of_a_frame_of_a_moving_camera():
    walk = Walk(28)
    found = list(cases(walk, 'later'))
    assert [case.name for case in found] == [str(number) for number in range(28)]
    # Frame 20 has too few after it.
    assert [n for n, case in enumerate(found) if case.truth_m is not None] == [0, 10]
    for number in (0, 10):
        exact_m, raw_m = walk.frames[number].truth_m, walk.frames[number].depth.depth_m
        off = {}
        for name, depth_m in (('truth', found[number].truth_m), ('raw', raw_m)):
            both = found[number].scored & np.isfinite(raw_m) & (np.abs(raw_m - exact_m) < 0.1)
            off[name] = np.nanmedian(np.abs(depth_m - exact_m)[both])
        assert found[number].scored.mean() > 0.5
        # The sensor's own step, 9 mm at two metres, is left in what is judged and in the truth.
        assert off['truth'] < 0.85 * off['raw']
