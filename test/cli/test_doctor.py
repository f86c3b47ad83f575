from __future__ import annotations

import json
import os
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
from rosbags.interfaces import QosDurability, QosReliability
from rosbags.rosbag2 import StoragePlugin, Writer

from depth_refiner_ros.cli import doctor, main
from depth_refiner_ros.data import Header, PinholeCamera
from depth_refiner_ros.diagnosis import check_unit, disparity_scale_m
from depth_refiner_ros.hosts.bag.writer import _qos

DEPTH, CAMERA = '/camera/depth/image_rect', '/camera/depth/camera_info'
COLOR, COLOR_CAMERA = '/camera/color/image_rect', '/camera/color/camera_info'


@pytest.fixture
def diagnosed(bags, tmp_path, capsys):
    """Write messages, examine them, and return the findings by check and subject."""

    def run(messages, *flags, code=0, name='in.mcap'):
        path = tmp_path / name
        if messages is not None:
            bags.write(path, messages)
        capsys.readouterr()
        assert main(['doctor', str(path), '--json', *flags]) == code
        report = json.loads(capsys.readouterr().out)
        findings = [SimpleNamespace(**finding) for finding in report['findings']]
        assert report['problems'] == sum(f.severity == 'problem' for f in findings)
        for f in findings:
            assert f.what
            assert '\n' not in f.what + f.action
            assert (f.severity in ('ok', 'note')) or f.action
        return findings

    return run


def one(findings, check, subject):
    (found,) = [f for f in findings if (f.check, f.subject) == (check, subject)]
    return found


def serious(findings):
    return {(f.severity, f.check, f.subject) for f in findings if f.severity not in ('ok', 'note')}


def calibrated(bags, count=8, **options):
    """A healthy recording: also the colour has its camera_info."""
    scene = bags.scene(count, **options)
    infos = [
        m._replace(
            topic=COLOR_CAMERA,
            msg=bags.info(
                m.msg.header.stamp.sec * 10**9 + m.msg.header.stamp.nanosec,
                options.get('color_frame', bags.FRAME),
            ),
        )
        for m in scene
        if m.topic == CAMERA
    ]
    return sorted(scene + infos, key=lambda m: m.log_ns)


def changed(messages, topic, change):
    """Replace what is on a topic: by `change(index, message)`, None to drop it."""
    seen = -1
    result = []
    for m in messages:
        if m.topic == topic:
            seen += 1
            m = change(seen, m)
        if m is not None:
            result.append(m)
    return sorted(result, key=lambda m: m.log_ns)


def restamped(bags, m, stamp_ns):
    sec, nanosec = divmod(stamp_ns, 10**9)
    m.msg.header.stamp.sec, m.msg.header.stamp.nanosec = sec, nanosec
    return m


def stamp_of(m):
    return m.msg.header.stamp.sec * 10**9 + m.msg.header.stamp.nanosec


@pytest.mark.parametrize('name', ['in.mcap', 'in.bag', 'in.db3', 'folder'])
def test_a_healthy_recording_has_no_findings(bags, diagnosed, name):
    findings = diagnosed(calibrated(bags), name=name)
    assert not serious(findings)
    assert "the stages' own name" in one(findings, 'topic', DEPTH).what
    assert one(findings, 'encoding', DEPTH).what == '16UC1, 64x48'
    assert one(findings, 'rate', DEPTH).what == '8 frames at 30.0 Hz without a gap'
    assert one(findings, 'calibration', CAMERA).what.startswith('fx 60.0 fy 60.0 cx 31.5 cy 23.5')
    assert one(findings, 'registration', COLOR).severity == 'ok'
    # 10 x 10 of 64 x 48 pixels are the hole
    assert one(findings, 'holes', DEPTH).what == '3 % of the pixels have no depth'


def test_text_says_what_to_do(bags, tmp_path, capsys):
    path = bags.write(tmp_path / 'in.mcap', [m for m in bags.scene(2) if m.topic != CAMERA])
    assert main(['doctor', str(path)]) == 1
    out = capsys.readouterr().out
    assert f'problem  {DEPTH}: there is no {CAMERA} for it' in out
    assert f'-> record {CAMERA} too' in out
    assert '1 problem' in out.splitlines()[-1]


# ------------------------------------------------------------------------------ topics


def test_no_depth(bags, diagnosed):
    findings = diagnosed([m for m in bags.scene(2) if m.topic == COLOR], code=1)
    assert 'no topic with depth in its name' in one(findings, 'topic', 'depth').what


def test_a_preset_that_does_not_fit(bags, diagnosed):
    findings = diagnosed(calibrated(bags), '--camera', 'realsense', code=1)
    missing = one(findings, 'topic', '/camera/camera/aligned_depth_to_color/image_raw')
    assert f'has {DEPTH}' in missing.what


def test_missing_camera_info_names_the_others(bags, diagnosed):
    scene = changed(calibrated(bags), CAMERA, lambda _, m: None)
    findings = diagnosed(scene, code=1)
    finding = one(findings, 'camera_info', DEPTH)
    assert finding.severity == 'problem'
    assert f'name one of {COLOR_CAMERA} as topics.camera' in finding.action


def test_wrong_type(bags, diagnosed):
    scene = changed(calibrated(bags), DEPTH, lambda _, m: m._replace(msg=bags.text('x')))
    assert 'this is a std_msgs/msg/String' in one(diagnosed(scene, code=1), 'topic', DEPTH).what


def test_guessed_topics_say_so_and_name_the_rest(bags, diagnosed):
    two = bags.scene(2, base='/a', name='image_raw') + bags.scene(2, base='/b', name='image_raw')
    findings = diagnosed(sorted(two, key=lambda m: m.log_ns))
    finding = one(findings, 'topic', '/a/depth/image_raw')
    assert 'guessed' in finding.what
    assert '/b/depth/image_raw' in finding.what


# ------------------------------------------------------------------------------ stamps


def test_zero_stamps(bags, diagnosed):
    scene = changed(calibrated(bags), DEPTH, lambda _, m: restamped(bags, m, 0))
    finding = one(diagnosed(scene), 'stamps', DEPTH)
    assert finding.severity == 'warning'
    assert 'a replay pairs by the time of recording' in finding.what


def test_repeated_stamps(bags, diagnosed):
    scene = changed(
        calibrated(bags),
        DEPTH,
        lambda i, m: restamped(bags, m, stamp_of(m) - bags.PERIOD_NS) if i in (3, 6) else m,
    )
    finding = one(diagnosed(scene), 'duplicates', DEPTH)
    assert (finding.severity, '2 of 8' in finding.what) == ('warning', True)


@pytest.mark.parametrize(
    ('back_s', 'words'), [(0.05, 'leave late frames out'), (5, 'starts anew')]
)
def test_backward_stamps(bags, diagnosed, back_s, words):
    scene = changed(
        calibrated(bags, 20),
        DEPTH,
        lambda i, m: restamped(bags, m, stamp_of(m) - round(back_s * 1e9)) if i == 10 else m,
    )
    finding = one(diagnosed(scene), 'backwards', DEPTH)
    assert 'go back 1 times' in finding.what
    assert words in finding.what


def test_gaps_count_the_missing_frames(bags, diagnosed):
    scene = changed(calibrated(bags, 40), DEPTH, lambda i, m: None if i in (7, 20, 21) else m)
    finding = one(diagnosed(scene), 'gaps', DEPTH)
    assert finding.severity == 'warning'
    # 3 of 40; the longest gap spans two missing frames, three periods
    assert 'about 3 frames are missing (7.5 %)' in finding.what
    assert '100.0 ms' in finding.what


def test_jitter(bags, diagnosed):
    rng = np.random.default_rng(0)
    scene = changed(
        calibrated(bags, 40),
        DEPTH,
        lambda i, m: restamped(bags, m, stamp_of(m) + int(rng.integers(-8e6, 8e6))),
    )
    assert one(diagnosed(scene, '--slop-s', '0.02'), 'jitter', DEPTH).severity == 'note'


@pytest.mark.parametrize(
    ('shift_s', 'words'),
    [(3600 * 24 * 40, '40.0 days behind'), (-3 * 3600, '3.0 h ahead of')],
)
def test_another_clock(bags, diagnosed, shift_s, words):
    scene = [m._replace(log_ns=m.log_ns + round(shift_s * 1e9)) for m in calibrated(bags)]
    findings = diagnosed(scene, '--slop-s', '0.01')
    assert words in one(findings, 'clock', DEPTH).what
    assert ('warning', 'clock', COLOR) in serious(findings)


def test_late_messages(bags, diagnosed):
    scene = [m._replace(log_ns=m.log_ns + 10**9) for m in calibrated(bags)]
    assert '1.0 s after' in one(diagnosed(scene), 'clock', DEPTH).what


def test_skew_is_measured_and_slop_suggested(bags, diagnosed):
    def later(i, m):
        return restamped(bags, m, stamp_of(m) + 14_200_000)

    scene = changed(calibrated(bags, 20), COLOR, later)
    finding = one(diagnosed(scene, '--slop-s', '0.01'), 'skew', COLOR)
    assert finding.severity == 'warning'
    assert '20 of 20 depth frames have no partner within 0.01 s' in finding.what
    assert 'median 14.2 ms, largest 14.2 ms' in finding.what
    assert '--slop-s 0.015' in finding.action
    # what it says helps
    scene = changed(calibrated(bags, 20), COLOR, later)
    findings = diagnosed(scene, '--slop-s', '0.015', name='again.mcap')
    assert one(findings, 'skew', COLOR).severity == 'ok'


def test_unrelated_clocks_are_beyond_slop(bags, diagnosed):
    scene = changed(
        calibrated(bags), COLOR, lambda i, m: restamped(bags, m, stamp_of(m) + 9 * 10**9)
    )
    assert (
        'no slop_s can pair them'
        in one(diagnosed(scene, '--slop-s', '0.01'), 'skew', COLOR).action
    )


def test_different_rates(bags, diagnosed):
    scene = changed(calibrated(bags, 20), COLOR, lambda i, m: m if i % 2 == 0 else None)
    findings = diagnosed(scene, '--slop-s', '0.01')
    assert '15.0 Hz, the depth at 30.0 Hz' in one(findings, 'rates', COLOR).what
    assert '10 of 20' in one(findings, 'skew', COLOR).what


def test_late_colour_suggests_a_deadline(bags, diagnosed):
    scene = changed(
        calibrated(bags, 20), COLOR, lambda i, m: m._replace(log_ns=m.log_ns + 80_000_000)
    )
    finding = one(diagnosed(scene), 'deadline', COLOR)
    # 80 ms later, less the nanosecond by which the colour came before its depth
    assert '--deadline-s 0.08' in finding.action


def test_one_camera_info_for_all_frames_is_a_note(bags, diagnosed):
    scene = changed(calibrated(bags), CAMERA, lambda i, m: m if i == 0 else None)
    assert one(diagnosed(scene, '--slop-s', '0.01'), 'skew', CAMERA).severity == 'note'


# ------------------------------------------------------------------------------ images


def with_depth(bags, pixels, encoding, count=6):
    return changed(
        calibrated(bags, count),
        DEPTH,
        lambda i, m: m._replace(msg=bags.image(stamp_of(m), pixels, encoding)),
    )


@pytest.mark.parametrize(
    ('encoding', 'value', 'severity', 'words'),
    [
        ('32FC1', 1500, 'problem', 'looks like millimetres'),
        ('16UC1', 2, 'problem', 'looks like metres'),
        ('16UC1', 20000, 'warning', 'the median 20.0 m'),
        ('32FC1', 1.5, 'ok', 'depth from 1.50 to 1.50 m'),
    ],
)
def test_units(bags, diagnosed, encoding, value, severity, words):
    dtype = np.float32 if encoding == '32FC1' else np.uint16
    scene = with_depth(bags, np.full((48, 64), value, dtype), encoding)
    finding = one(diagnosed(scene, code=int(severity == 'problem')), 'unit', DEPTH)
    assert finding.severity == severity
    assert words in finding.what


def stepping(scale_m, unit_m, near_m=0.8, far_m=4.0):
    """A slope whose depths are f b n over a whole disparity, counted in a unit."""
    slope_m = np.linspace(near_m, far_m, 120 * 160)
    depth_m = scale_m / np.rint(scale_m / slope_m)
    return np.rint(depth_m / unit_m).astype(np.uint16)


@pytest.mark.parametrize(
    ('unit_m', 'severity', 'words', 'action'),
    [
        # The steps of the PrimeSense design, f b n = 580 px * 0.075 m * 8 = 348 m, at its angle
        # of view, 570 px for 640 columns: in a unit too fine by 4 they look like 1392 m.
        (0.001, 'ok', 'stereo or structured-light camera that counts millimetres', ''),
        (0.00025, 'warning', 'steps of no stereo or structured-light', 'depth_unit_m: 0.00025 '),
        (0.000125, 'warning', 'steps of no stereo or structured-light', 'depth_unit_m: 0.000125 '),
        (0.0001, 'warning', 'steps of no stereo or structured-light', 'depth_unit_m: 0.0001 '),
    ],
)
def test_the_steps_of_a_structured_light_camera_tell_the_unit(unit_m, severity, words, action):
    camera = PinholeCamera(Header(0, ''), 640, 480, 570.0, 570.0, 319.5, 239.5)
    seen = [stepping(348.0, unit_m, 0.8 + 1e-4 * i) for i in range(10)]
    known_m = np.concatenate(seen).astype(np.float32) / 1000
    assert disparity_scale_m(known_m) == pytest.approx(348 * 0.001 / unit_m, rel=0.02)
    finding = check_unit('/d', '16UC1', known_m, camera)
    assert (finding.severity, words in finding.what) == (severity, True)
    assert action in finding.action
    assert finding.action.count('depth_unit_m:') == int(severity == 'warning')


def test_depth_without_steps_says_nothing_of_its_unit():
    smooth_m = np.linspace(0.8, 3.0, 10_000).astype(np.float32)
    for known_m in (smooth_m, np.rint(smooth_m * 1000) / 1000, np.full(9, 1.5, np.float32)):
        assert disparity_scale_m(known_m.astype(np.float32)) is None
    finding = check_unit('/d', '16UC1', smooth_m)
    assert finding.severity == 'note'
    assert 'one count is taken as 1 mm' in finding.what
    far = check_unit('/d', '16UC1', 4 * smooth_m)  # an L515's 0.25 mm
    assert far.severity == 'warning'
    # The median, 1.9 m, is read as 7.6 m.
    assert 'depth_unit_m: 0.00025 makes the median 1.90 m' in far.action


@pytest.mark.parametrize('name', ['kinect_v1_linemod', 'xtion_static_1'])
def test_the_steps_of_real_cameras(recording, name):
    counts = [
        cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
        for path in sorted((recording(name) / 'depth').glob('*.png'))[:10]
    ]
    known_m = np.concatenate([c[c > 0] for c in counts]).astype(np.float32) / 1000
    assert disparity_scale_m(known_m) == pytest.approx(345, rel=0.03)
    assert disparity_scale_m(4 * known_m) == pytest.approx(4 * 345, rel=0.03)


def test_a_unit_that_is_given_is_told_with_what_it_costs(bags, diagnosed):
    findings = diagnosed(calibrated(bags), '--depth-unit-m', '0.00025')
    found = one(findings, 'unit', DEPTH)
    # 1.5 m and 2 m of millimetres are 0.375 and 0.5 m.
    assert found.what.startswith('one count is 0.25 mm, as depth_unit_m says: depth from 0.37 to')
    assert 'whole millimetres' in one(findings, 'precision', DEPTH).what
    findings = diagnosed(None, '--depth-unit-m', '0.00025', '--depth-encoding', '32FC1')
    assert not [f for f in findings if f.check == 'precision']


@pytest.mark.parametrize(('encoding', 'value'), [('16UC1', 0), ('32FC1', np.nan), ('32FC1', 0)])
def test_no_depth_in_the_depth(bags, diagnosed, encoding, value):
    dtype = np.float32 if encoding == '32FC1' else np.uint16
    findings = diagnosed(with_depth(bags, np.full((48, 64), value, dtype), encoding), code=1)
    assert one(findings, 'holes', DEPTH).severity == 'problem'


def test_many_holes(bags, diagnosed):
    pixels = np.zeros((48, 64), np.uint16)
    pixels[:, :16] = 1000
    finding = one(diagnosed(with_depth(bags, pixels, '16UC1')), 'holes', DEPTH)
    assert (finding.severity, finding.what) == ('warning', '75 % of the pixels have no depth')


def test_unreadable_encoding(bags, diagnosed):
    findings = diagnosed(with_depth(bags, np.zeros((48, 64), np.uint8), '8UC1'), code=1)
    assert "encoding '8UC1' is not a depth image" in one(findings, 'encoding', DEPTH).what


def test_size_that_changes(bags, diagnosed):
    small = np.full((24, 32), 1000, np.uint16)
    scene = changed(
        calibrated(bags),
        DEPTH,
        lambda i, m: m._replace(msg=bags.image(stamp_of(m), small, '16UC1')) if i == 5 else m,
    )
    assert '32x24, 64x48' in one(diagnosed(scene), 'size', DEPTH).what


def compressed_depth(bags, edit):
    """compressedDepth whose format and bytes are changed by `edit(format, bytes)`."""
    topic = f'{DEPTH}/compressedDepth'
    return topic, changed(
        calibrated(bags, 6, codec='png'),
        topic,
        lambda i, m: m._replace(
            msg=bags.compressed(stamp_of(m), *edit(m.msg.format, bytes(m.msg.data)))
        ),
    )


def test_compressed_depth(bags, diagnosed):
    topic, scene = compressed_depth(bags, lambda text, data: (text, data))
    findings = diagnosed(scene, '--slop-s', '0.01')
    assert not serious(findings)
    assert one(findings, 'encoding', topic).what == '16UC1, 64x48'


@pytest.mark.parametrize(
    ('edit', 'severity', 'words'),
    [
        (
            lambda t, d: (t.replace('png', 'rvl'), d),
            'problem',
            'says RVL, but the bytes are a PNG',
        ),
        (lambda t, d: (t, d[:12] + b'\1' * 40), 'problem', 'says PNG, but the bytes are not'),
        (lambda t, d: ('compressedDepth', d), 'note', 'read as 16UC1'),
    ],
)
def test_format_strings_that_lie(bags, diagnosed, edit, severity, words):
    topic, scene = compressed_depth(bags, edit)
    findings = diagnosed(scene, code=int(severity == 'problem'))
    (finding,) = [f for f in findings if words in f.what]
    assert finding.subject == topic
    assert finding.severity == severity


def test_jpeg_depth_is_refused(bags, diagnosed):
    import cv2

    _, octets = cv2.imencode('.jpg', np.full((48, 64), 100, np.uint8))
    topic = f'{DEPTH}/compressed'
    scene = changed(
        calibrated(bags),
        DEPTH,
        lambda i, m: m._replace(
            topic=topic,
            msg=bags.compressed(stamp_of(m), '16UC1; jpeg compressed ', octets.tobytes()),
        ),
    )
    finding = one(diagnosed(scene, code=1), 'jpeg', topic)
    assert 'nothing brings them back' in finding.what
    assert f'{DEPTH}/compressedDepth' in finding.action


# ---------------------------------------------------------------------- cameras and frames


def test_colour_that_cannot_be_read_is_a_warning_for_depth_goes_on(bags, diagnosed):
    bayer = np.zeros((48, 64), np.uint8)
    scene = changed(
        calibrated(bags),
        COLOR,
        lambda i, m: m._replace(msg=bags.image(stamp_of(m), bayer, 'bayer_grbg8')),
    )
    finding = one(diagnosed(scene), 'encoding', COLOR)
    assert finding.severity == 'warning'
    assert 'cannot be read and is left out' in finding.what


def with_info(bags, **changes):
    return changed(
        calibrated(bags),
        CAMERA,
        lambda i, m: m._replace(msg=bags.info(stamp_of(m), **changes)),
    )


def test_uncalibrated_camera(bags, diagnosed):
    findings = diagnosed(with_info(bags, k=np.zeros(9), p=np.zeros(12)), code=1)
    assert 'calibrate' in one(findings, 'calibration', CAMERA).action


def test_camera_info_of_another_size(bags, diagnosed):
    finding = one(diagnosed(with_info(bags, width=32, height=24), code=1), 'size', CAMERA)
    assert 'describes 32x24 pixels' in finding.what
    assert '64x48' in finding.what


def test_camera_info_of_another_resolution(bags, diagnosed):
    # Said of 64x48 and made for 32x24, whose middle is at 15.5, 11.5.
    p = np.array([30.0, 0, 15.5, 0, 0, 30.0, 11.5, 0, 0, 0, 1, 0])
    finding = one(diagnosed(with_info(bags, p=p)), 'centre', CAMERA)
    assert '25 % of the image away from its middle' in finding.what
    # Of 640x480 and outside: a problem, with the tenth as remedy.
    p = np.array([600.0, 0, 319.5, 0, 0, 600.0, 239.5, 0, 0, 0, 1, 0])
    found = diagnosed(with_info(bags, p=p), code=1, name='outside.mcap')
    finding = one(found, 'calibration', CAMERA)
    assert 'scaled, they are fx 60.0 fy 60.0 cx 31.5 cy 23.5' in finding.what
    k = np.array([60.0, 0, 63.5, 0, 60.0, 47.5, 0, 0, 1])
    twice = with_info(bags, width=128, height=96, p=np.zeros(12), k=k)
    finding = one(diagnosed(twice, code=1, name='twice.mcap'), 'size', CAMERA)
    assert 'scaled to 64x48 it would have fx 30.0 fy 30.0 cx 31.5 cy 23.5' in finding.action
    binned = with_info(bags, binning_x=2, binning_y=2)
    finding = one(diagnosed(binned, code=1, name='binned.mcap'), 'size', CAMERA)
    assert 'set its binning_x and binning_y to 0' in finding.action


def test_colour_through_another_lens_is_not_registered(bags, diagnosed):
    scene = changed(
        calibrated(bags),
        COLOR_CAMERA,
        lambda i, m: m._replace(msg=bags.info(stamp_of(m), p=np.zeros(12))),
    )
    finding = one(diagnosed(scene), 'registration', COLOR)
    assert finding.severity == 'warning'
    assert 'other intrinsics: fx 61.0 fy 62.0 cx 30.5 cy 22.5 px, the depth' in finding.what


def test_a_calibration_without_a_stamp_holds_for_every_frame(bags, diagnosed):
    scene = changed(
        calibrated(bags), CAMERA, lambda i, m: m._replace(msg=bags.info(0)) if i == 0 else None
    )
    findings = diagnosed(scene)
    assert one(findings, 'stamps', CAMERA).severity == 'note'
    assert not serious(findings)


def test_colour_of_another_camera_is_named_and_not_read(bags, diagnosed):
    front, rear = bags.scene(3, color=None, base='/front'), bags.scene(3, base='/rear')
    findings = diagnosed(sorted(front + rear, key=lambda m: m.log_ns))
    finding = one(findings, 'topic', '/rear/color/image_rect')
    assert 'of another camera than /front/depth' in finding.what


def test_camera_info_of_another_frame(bags, diagnosed):
    findings = diagnosed(with_info(bags, frame_id='elsewhere'))
    assert "'elsewhere'" in one(findings, 'frame_id', CAMERA).what


def test_distortion_of_an_image_that_is_not_rectified(bags, diagnosed):
    findings = diagnosed(bags.scene(2, name='image_raw'))
    assert one(findings, 'distortion', CAMERA).severity == 'note'


def two_frames(bags):
    return calibrated(bags, depth_frame='depth_frame', color_frame='rgb_frame')


def tied(bags):
    static = bags.transform('rgb_frame', 'depth_frame', (0.02, 0.0, 0.0))
    return [bags.Message('/tf_static', bags.START_NS, static)]


def test_colour_in_another_frame_that_tf_connects(bags, diagnosed):
    finding = one(diagnosed(tied(bags) + two_frames(bags)), 'registration', COLOR)
    assert finding.severity == 'warning'
    assert '--stages register_color,' in finding.action
    flags = ('--stages', 'register_color,inpaint_depth')
    findings = diagnosed(None, *flags)
    assert one(findings, 'registration', COLOR).severity == 'ok'


def test_colour_in_another_frame_without_tf(bags, diagnosed):
    finding = one(diagnosed(two_frames(bags)), 'registration', COLOR)
    assert 'tf does not connect' in finding.what
    assert '/tf_static' in finding.action
    findings = diagnosed(None, '--stages', 'register_color,inpaint_depth', code=1)
    assert one(findings, 'registration', COLOR).severity == 'problem'


def test_colour_in_another_frame_without_camera_info(bags, diagnosed):
    scene = [m for m in two_frames(bags) if m.topic != COLOR_CAMERA]
    finding = one(diagnosed(tied(bags) + scene), 'registration', COLOR)
    assert f'record {COLOR_CAMERA} too' in finding.action


def test_frame_ids_that_change_or_are_empty(bags, diagnosed):
    def flip(i, m):
        m.msg.header.frame_id = 'a' if i % 2 else 'b'
        return m

    assert (
        "'a', 'b'"
        in one(diagnosed(changed(calibrated(bags), DEPTH, flip)), 'frame_id', DEPTH).what
    )
    empty = calibrated(bags, depth_frame='', color_frame='')
    assert 'empty' in one(diagnosed(empty, name='empty.mcap'), 'frame_id', DEPTH).what


# ----------------------------------------------------------------------------------- qos


def test_quality_of_service(bags, diagnosed, tmp_path):
    quality = _qos(QosDurability.VOLATILE)._replace(reliability=QosReliability.BEST_EFFORT)
    with Writer(tmp_path / 'qos', version=9, storage_plugin=StoragePlugin.MCAP) as writer:
        connections = {}
        for topic, log_ns, msg in tied(bags) + calibrated(bags):
            kind = msg.__msgtype__
            if topic not in connections:
                connections[topic] = writer.add_connection(
                    topic, kind, typestore=bags.STORE, offered_qos_profiles=[quality]
                )
            writer.write(connections[topic], log_ns, bags.STORE.serialize_cdr(msg, kind))
    findings = diagnosed(None, name='qos')
    assert one(findings, 'qos', DEPTH).severity == 'note'
    assert one(findings, 'tf_static', '/tf_static').severity == 'warning'


# --------------------------------------------------------------------------- environment


@pytest.fixture
def environment(monkeypatch):
    """Return the findings of an environment in which some modules can be imported."""

    def run(*modules, **variables):
        for name in ('ROS_DISTRO', 'RMW_IMPLEMENTATION', 'ROS_DOMAIN_ID'):
            monkeypatch.delenv(name, raising=False)
        for name, value in variables.items():
            monkeypatch.setenv(name, value)
        monkeypatch.setattr(doctor, '_importable', lambda module: module in modules)
        return {f.check: f for f in doctor.environment()}

    return run


def test_environment_without_anything_optional(environment, capsys):
    findings = environment()
    assert not any(f.severity == 'problem' for f in findings.values())
    for extra in ('zenoh', 'openvino', 'tensorrt', 'realsense', 'train'):
        assert any(f"depth_refiner_ros[{extra}]'" in f.action for f in findings.values())
    assert findings['ros'].severity == 'note'
    assert findings['numpy'].what == np.__version__
    assert f'of {os.cpu_count()} threads' in findings['cpu'].what
    assert main(['doctor']) in (0, 1)
    assert 'numpy' in capsys.readouterr().out


def test_environment_with_ros(environment):
    findings = environment(
        'rclpy', ROS_DISTRO='jazzy', RMW_IMPLEMENTATION='rmw_zenoh_cpp', ROS_DOMAIN_ID='7'
    )
    assert findings['ros'].severity == 'ok'
    assert findings['ros'].what == 'jazzy, rmw_zenoh_cpp middleware, domain 7'


def test_sourced_ros_that_this_python_cannot_import(environment):
    finding = environment(ROS_DISTRO='jazzy')['ros']
    assert finding.severity == 'warning'
    assert '--system-site-packages' in finding.action


def test_opencv_5_is_a_problem(environment, monkeypatch):
    monkeypatch.setattr(doctor.cv2, '__version__', '5.0.0')
    monkeypatch.setattr(doctor, '_bridge_failure', lambda: '')
    finding = environment('cv_bridge')['opencv']
    assert finding.severity == 'problem'
    assert 'cv_bridge' in finding.what
    assert '<5' in finding.action


def test_cv_bridge_that_does_not_work_here(environment, tmp_path, monkeypatch):
    # As a binary built for NumPy 1 does beside NumPy 2.
    (tmp_path / 'cv_bridge.py').write_text(
        "raise ImportError('numpy.core.multiarray failed to import')"
    )
    monkeypatch.setenv('PYTHONPATH', str(tmp_path))
    finding = environment('cv_bridge')['cv_bridge']
    assert finding.severity == 'warning'
    assert 'numpy.core.multiarray failed to import' in finding.what
    assert 'numpy<2' in finding.action


def test_full_disk(environment, monkeypatch):
    monkeypatch.setattr(doctor.shutil, 'disk_usage', lambda _: SimpleNamespace(free=10**9))
    assert environment()['disk'].severity == 'warning'
