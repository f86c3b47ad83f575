from __future__ import annotations

import math

import numpy as np
import pytest

from depth_refiner_ros.data import (
    DepthImage,
    Header,
    PinholeCamera,
    ProvenanceImage,
    StddevImage,
)
from depth_refiner_ros.evaluation import run as run_module
from depth_refiner_ros.evaluation.peers import PEERS, Peer
from depth_refiner_ros.evaluation.protocols import Case
from depth_refiner_ros.evaluation.run import (
    Job,
    Output,
    Scores,
    contender,
    contenders_of,
    evaluate,
    named,
    output_of,
    rerun,
    shown_frames,
)
from depth_refiner_ros.metrics import regions_of
from depth_refiner_ros.stage import Capabilities

HEADER = Header(0, 'camera')
SHAPE = (48, 64)
HOLE = np.s_[10:20, 10:30]  # 200 pixels


def job(path, *contenders, **options):
    return Job(str(path), contenders or ('raw', 'nearest'), **options)


def metrics(evaluation, name):
    return evaluation.scores[name].metrics()


# ------------------------------------------------------------------------- contenders


def test_peers_stages_files_and_names(tmp_path):
    file = tmp_path / 'mine.yaml'
    file.write_text('/**:\n  ros__parameters:\n    stages: refine_depth\n')
    specs = {
        'nearest': ('nearest', ['nearest']),
        'near=nearest': ('near', ['nearest']),
        'refine_depth,inpaint_depth': (
            'refine_depth,inpaint_depth', ['refine_depth', 'inpaint_depth'],
        ),
        'two=refine_depth,inpaint_depth': ('two', ['refine_depth', 'inpaint_depth']),
        str(file): ('mine', ['refine_depth']),
        f'other={file}': ('other', ['refine_depth']),
    }  # fmt: skip
    for spec, (name, stages) in specs.items():
        made = contender(spec)
        assert (made.name, list(made.pipeline.stage_types)) == (name, stages)
    assert named('a=/data/run=3/p.yaml') == ('a', '/data/run=3/p.yaml')


@pytest.mark.parametrize(
    ('spec', 'words'),
    [
        ('nearst', "unknown stage 'nearst'; known: .*did you mean nearest"),
        ('zzz', "unknown stage 'zzz'; known: .*; peers: raw, nearest"),
        ('x=', "'x=' is no contender; write NAME=WHAT or WHAT"),
        ('=raw', "'=raw' is no contender"),
        ('', "'' is no contender"),
    ],
)
def test_what_is_unknown_is_explained(spec, words):
    with pytest.raises(ValueError, match=words):
        contender(spec)


def test_a_missing_parameter_file_is_an_os_error(tmp_path):
    with pytest.raises(FileNotFoundError):
        contender(str(tmp_path / 'none.yaml'))


def test_names_are_distinct(folder, wall):
    with pytest.raises(ValueError, match='two contenders are called raw; name them NAME=WHAT'):
        contenders_of(job(folder('x', [wall()]), 'raw', 'raw=nearest'))


def test_the_sensor_is_the_sources_unless_somebody_says(folder, wall, tmp_path):
    path = folder('x', [wall()], sensor='RealSense D435')
    file = tmp_path / 'set.yaml'
    file.write_text('stages: refine_depth\nrefine_depth: {sensor: kinect_v2}\n')
    (free, fixed) = contenders_of(job(path, 'refine_depth', str(file)))
    assert free.parameters.refine_depth.sensor == 'realsense_d400'
    assert fixed.parameters.refine_depth.sensor == 'kinect_v2'
    (told, _) = contenders_of(job(path, 'refine_depth', str(file), sensor='kinect_v1'))
    assert told.parameters.refine_depth.sensor == 'kinect_v1'


# ----------------------------------------------------------------------------- scores


def case_and_truth():
    """A wall at 2 m with a hole; the truth in it is 2.08 m on the left, 2.5 m on the right."""
    truth_m = np.full(SHAPE, 2, np.float32)
    truth_m[10:20, 10:20] = 2.08
    truth_m[10:20, 20:30] = 2.5
    raw_m = np.full(SHAPE, 2, np.float32)
    raw_m[HOLE] = np.nan
    camera = PinholeCamera(HEADER, 64, 48, 60, 60, 31.5, 23.5)
    values = {'depth': DepthImage(HEADER, raw_m), 'camera': camera}
    return Case('only', values, truth_m, np.ones(SHAPE, np.bool_)), truth_m


def test_one_frame_by_hand():
    case, truth_m = case_and_truth()
    depth_m = np.full(SHAPE, 2, np.float32)
    depth_m[10:20, 29] = np.nan  # 10 hole pixels stay empty
    stddev_m = np.full(SHAPE, np.nan, np.float32)
    stddev_m[10:20, 10:20] = 0.1  # |error| 0.08: within one
    stddev_m[10:20, 20:29] = 0.3  # |error| 0.5: within two
    scores = Scores()
    regions = regions_of(case.values['depth'].depth_m, truth_m)
    scores.add(case, truth_m, regions, Output(depth_m, stddev_m, None))
    found = scores.metrics()
    assert found['hole.coverage'] == 190 / 200
    # 100 pixels off by 80 mm, 90 by 500 mm
    assert found['hole.mae_mm'] == pytest.approx((100 * 80 + 90 * 500) / 190, rel=1e-5)
    assert found['hole.rmse_mm'] == pytest.approx(
        math.sqrt((100 * 80**2 + 90 * 500**2) / 190), rel=1e-5
    )
    assert found['hole.delta_1_05'] == pytest.approx(100 / 190)  # of the filled: 2.08 / 2 = 1.04
    assert found['hole.delta_1_25'] == pytest.approx(100 / 190)  # 2.5 / 2 is not below 1.25
    assert found['observed.mae_mm'] == 0
    assert found['observed.coverage'] == 1
    assert found['all.mae_mm'] == pytest.approx((100 * 80 + 90 * 500) / (48 * 64 - 10), rel=1e-5)
    assert found['hole.stddev.within_1_sigma'] == pytest.approx(100 / 190)
    assert found['hole.stddev.within_2_sigma'] == 1
    # errors by distance of the truth: 2.0 to 2.5 m, and 2.5 m on
    by_distance = dict(zip(scores.distance.edges, scores.distance.bins, strict=False))
    assert by_distance[2.0].metrics()['mae_mm'] == pytest.approx(100 * 80 / 2972, rel=1e-5)
    assert by_distance[2.5].metrics()['mae_mm'] == pytest.approx(500)
    # a rim pixel is 1 px from the wall around: 2 * 20 + 2 * 8 of them
    by_depth = dict(zip(scores.hole_size.edges, scores.hole_size.bins, strict=False))
    assert by_depth[0.5].reference_count == 56
    assert by_depth[1.5].reference_count == 2 * 18 + 2 * 6
    assert scores.frames == {
        'only': {
            'hole.coverage': 190 / 200,
            'hole.mae_mm': found['hole.mae_mm'],
            'hole.delta_1_05': found['hole.delta_1_05'],
            'observed.coverage': 1.0,
            'observed.mae_mm': 0.0,
            'observed.delta_1_05': 1.0,
        }
    }


def test_edge_pixels_by_brute_force():
    case, truth_m = case_and_truth()
    depth_m = np.full(SHAPE, 2, np.float32)
    scores = Scores()
    regions = regions_of(case.values['depth'].depth_m, truth_m)
    scores.add(case, truth_m, regions, Output(depth_m, None, None))
    beside = np.zeros(SHAPE, np.bool_)  # pixels beside a jump of more than 5 %: around 2.5 m
    for y, x in np.ndindex(SHAPE):
        for v, u in ((y + 1, x), (y - 1, x), (y, x + 1), (y, x - 1)):
            if 0 <= v < 48 and 0 <= u < 64:
                pair = sorted((truth_m[y, x], truth_m[v, u]))
                beside[y, x] |= pair[1] > 1.05 * pair[0]
    ys, xs = np.nonzero(beside)
    near = np.array([[np.hypot(ys - y, xs - x).min() <= 3 for x in range(64)] for y in range(48)])
    expected_mm = 1e3 * np.abs(depth_m - truth_m)[near].mean()
    assert scores.metrics()['edge.mae_mm'] == pytest.approx(expected_mm, rel=1e-5)


# -------------------------------------------------------------------------- evaluation


def test_contenders_on_a_reference(folder, wall):
    truth = wall()
    truth[HOLE] = 2100
    evaluation = evaluate(job(folder('x', [wall(), wall(hole=HOLE)], {1: truth})))
    assert (evaluation.name, evaluation.protocol) == ('x', 'reference')
    assert (evaluation.frame_count, evaluation.scored_count) == (2, 1)
    assert metrics(evaluation, 'nearest')['hole.mae_mm'] == pytest.approx(100, rel=1e-5)
    assert metrics(evaluation, 'nearest')['hole.coverage'] == 1
    assert metrics(evaluation, 'raw')['hole.coverage'] == 0
    assert math.isnan(metrics(evaluation, 'raw')['hole.mae_mm'])
    assert 'flicker_mm' not in metrics(evaluation, 'raw')
    assert len(evaluation.scores['raw'].frame_ms) == 1


class Counting(Peer):
    """Remembers how many frames it has seen, and says so in its depth."""

    capabilities = Capabilities(remembers=True)
    seen: list = []  # noqa: RUF012

    def __init__(self, parameters=None):
        super().__init__(parameters)
        self.count = 0

    def fill(self, depth, camera, rgb):
        self.count += 1
        type(self).seen.append(round(float(depth.depth_m[0, 0]), 3))
        return np.full_like(depth.depth_m, self.count)


@pytest.fixture
def counting(monkeypatch):
    monkeypatch.setitem(PEERS, 'counting', Counting)
    Counting.seen = []


def test_what_remembers_sees_every_frame_in_order(folder, wall, counting):
    path = folder('x', [wall(1000 + i) for i in range(4)], {1: wall(1000), 3: wall(1000)})
    evaluation = evaluate(job(path, 'raw', 'counting'))
    assert Counting.seen == [1.0, 1.001, 1.002, 1.003]
    # scored as the 2nd and the 4th: 1 m and 3 m off
    assert metrics(evaluation, 'counting')['observed.mae_mm'] == pytest.approx(2000)
    assert metrics(evaluation, 'raw')['observed.mae_mm'] == pytest.approx(2, rel=1e-3)
    assert len(evaluation.scores['raw'].frame_ms) == 2
    assert len(evaluation.scores['counting'].frame_ms) == 4


def test_every_draw_starts_anew_and_only_the_holes_differ(noisy_folder, counting):
    path = noisy_folder('x')
    once = evaluate(job(path, 'counting', 'nearest'))
    Counting.seen = []
    thrice = evaluate(job(path, 'counting', 'nearest', draws=3))
    assert len(Counting.seen) == 9
    assert (thrice.frame_count, thrice.scored_count, thrice.draws) == (3, 3, 3)
    holes = [e.scores['nearest'].errors['hole'].reference_count for e in (once, thrice)]
    assert 2 * holes[0] < holes[1] < 4 * holes[0]
    # what the pictures show is the first draw
    np.testing.assert_equal(thrice.scores['nearest'].frames, once.scores['nearest'].frames)
    # a new pipeline every draw: its frames are 1, 2 and 3 m off nothing
    np.testing.assert_equal(thrice.scores['counting'].frames, once.scores['counting'].frames)
    assert thrice.scores['counting'].errors['hole'].quantile_mm(1) < 1600


def test_corrupt_frames_are_counted_once_and_ticked(folder, wall):
    holed = wall(hole=HOLE)
    ticks = []
    path = folder('x', [holed, None, holed])
    evaluation = evaluate(job(path, draws=2), lambda: ticks.append(1))
    assert (evaluation.frame_count, evaluation.scored_count) == (3, 2)
    assert [name for name, _ in evaluation.corrupt] == ['001']
    assert len(ticks) == 6


def test_max_frames(folder, wall):
    path = folder('x', [wall(hole=HOLE)] * 5)
    evaluation = evaluate(job(path, max_frames=2))
    assert (evaluation.frame_count, evaluation.scored_count) == (2, 2)


def test_nothing_to_score_is_no_error(folder, wall):
    evaluation = evaluate(job(folder('x', [wall()])))
    assert (evaluation.frame_count, evaluation.scored_count) == (1, 0)
    assert math.isnan(metrics(evaluation, 'nearest')['hole.mae_mm'])
    assert shown_frames(evaluation) == {}


def test_flicker_by_hand(folder, wall):
    static = np.zeros(SHAPE)
    static[:24] = 1
    frames = [wall(2000), wall(2004), wall(2010)]
    for frame in frames:
        frame[24:] = np.random.default_rng(0).integers(1000, 3000, (24, 64))
    evaluation = evaluate(job(folder('x', frames, static=static)))
    found = metrics(evaluation, 'raw')
    assert found['flicker_mm'] == pytest.approx((4 + 6) / 2, rel=1e-4)
    # 2000 2004 2010: mean 2004 2/3, sample stddev 5.033
    assert found['temporal_stddev_mm'] == pytest.approx(np.std([0, 4, 10], ddof=1), rel=1e-4)
    assert found['blink_rate'] == 0
    # truth: the mean of the other two
    assert found['observed.mae_mm'] == pytest.approx((7 + 1 + 8) / 3, rel=1e-3)


def test_the_name_of_a_job_goes_first(folder, wall):
    path = folder('x', [wall()])
    assert evaluate(job(path)).name == 'x'
    assert evaluate(job(path, name='robot/x')).name == 'robot/x'


class Failing(Peer):
    def fill(self, depth, camera, rgb):
        raise ValueError('no')


def test_who_fails_where_is_said(folder, wall, monkeypatch):
    monkeypatch.setitem(PEERS, 'failing', Failing)
    with pytest.raises(ValueError, match='failing fails on frame 000: no'):
        evaluate(job(folder('x', [wall(hole=HOLE)]), 'failing'))
    with pytest.raises(
        ValueError, match=r'project_points fails .* its pipeline puts out no depth'
    ):
        evaluate(job(folder('y', [wall(hole=HOLE)]), 'project_points'))


# ---------------------------------------------------------------------------- outputs


def test_the_last_depth_counts_and_what_its_stage_says_of_it():
    def depth(value):
        return DepthImage(HEADER, np.full(SHAPE, value, np.float32))

    first = {
        'a.depth': depth(1),
        'a.stddev': StddevImage(HEADER, np.ones(SHAPE, np.float32)),
        'a.provenance': ProvenanceImage(HEADER, np.ones(SHAPE, np.uint8)),
    }
    output = output_of(first, SHAPE)
    assert output.stddev_m is not None
    assert output.provenance is not None
    output = output_of({**first, 'b.depth': depth(2)}, SHAPE)
    assert (output.depth_m == 2).all()
    assert output.stddev_m is None
    assert output.provenance is None
    with pytest.raises(ValueError, match=r'it puts out depth of \(48, 64\), the truth has'):
        output_of(first, (24, 32))


# --------------------------------------------------------------------------- pictures


def test_best_median_and_worst_are_those_of_the_last_contender(folder, wall):
    errors_mm = [300, 10, 50, 120, 70]
    references = {}
    for i, error_mm in enumerate(errors_mm):
        references[i] = wall()
        references[i][HOLE] = 2000 + error_mm
    path = folder('x', [wall(hole=HOLE)] * 5, references)
    evaluation = evaluate(job(path))
    picked = shown_frames(evaluation)
    assert picked == {'best': '001', 'median': '004', 'worst': '000'}
    shown = rerun(evaluation.job, list(picked.values()), evaluation.contenders[-1:])
    assert set(shown) == set(picked.values())
    assert shown['000'].truth_m[HOLE].max() == np.float32(2.3)
    assert np.isfinite(shown['000'].outputs['nearest'].depth_m).all()


def test_rerun_shows_what_was_scored(noisy_folder, counting):
    evaluation = evaluate(job(noisy_folder('x'), 'nearest', 'counting', draws=2))
    shown = rerun(evaluation.job, ['000', '002'], evaluation.contenders)
    for name, one in shown.items():
        assert (one.outputs['counting'].depth_m == int(name) + 1).all()
        nearest_m = one.outputs['nearest'].depth_m
        error_mm = 1e3 * np.abs(nearest_m - one.truth_m)[one.scored].mean()
        figures = evaluation.scores['nearest'].frames[name]
        assert error_mm == pytest.approx(figures['hole.mae_mm'], rel=1e-3)


def test_defaults_leave_out_what_is_not_installed():
    names = [named(spec)[0] for spec in run_module.DEFAULT_CONTENDERS]
    assert names[0] == 'raw'
    assert names[-2:] == ['classical', 'learned']
    assert len(set(names)) == len(names)


def test_a_contender_sets_parameters_of_its_stages():
    spec = 'c=refine_depth,inpaint_depth;inpaint_depth.model=x;inpaint_depth.max_hole_px=5'
    made = contender(spec)
    assert made.parameters.inpaint_depth.model == 'x'
    assert made.parameters.inpaint_depth.max_hole_px == 5.0
    empty = contender('c=refine_depth,inpaint_depth;inpaint_depth.model=')
    assert empty.parameters.inpaint_depth.model == ''
    with pytest.raises(ValueError, match=r'write stage\.parameter=value'):
        contender('c=refine_depth;spatial_filter')
    with pytest.raises(ValueError, match='did you mean'):
        contender('c=inpaint_depth;inpaint_depth.modle=x')
