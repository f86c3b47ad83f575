from __future__ import annotations

from itertools import islice
import json

import numpy as np
import pytest

from depth_refiner_ros.config import configure
from depth_refiner_ros.data import ColorImage, DepthImage, Header, RigidTransform
from depth_refiner_ros.evaluation import downstream, extras
from depth_refiner_ros.evaluation.downstream import (
    POSES_FROM_THE_SAME_DEPTH,
    Contender,
    DownstreamScores,
    evaluate_downstream,
    registered_color,
    table,
)
from depth_refiner_ros.folders import Folder, FolderFrame
from depth_refiner_ros.geometry import TransformTree
from depth_refiner_ros.metrics import from_json, to_json
from depth_refiner_ros.simulation import simulate


def pipeline(stages):
    configuration = configure({'stages': stages})
    return configuration.pipeline(configuration.parameters)


def as_folder_frame(frame, depth=None):
    reference = DepthImage(frame.depth.header, frame.truth_m)
    return FolderFrame(
        depth or frame.depth,
        frame.camera,
        frame.color,
        frame.camera,
        reference,
        frame.world_from_camera,
    )


@pytest.fixture(scope='module')
def simulated():
    return list(simulate(8, rate_hz=15, width=320, height=240))


@pytest.fixture(scope='module')
def frames(simulated):
    return [as_folder_frame(frame) for frame in simulated]


@pytest.fixture(scope='module')
def extras_installed():
    pytest.importorskip('open3d', reason='needs Open3D: pip install open3d-cpu')
    try:
        extras.evo('evo_rpe')
    except FileNotFoundError as error:
        pytest.skip(str(error))


@pytest.fixture(scope='module')
def scores(extras_installed, frames):
    ours = pipeline('refine_depth,inpaint_depth')
    contenders = {
        'raw': Contender(),
        'refined': Contender(ours, 'refine_depth'),
        'inpainted': Contender(ours),
    }
    return evaluate_downstream(frames, contenders, fuse_every_nth=2, voxel_m=0.02, note='a note')


def test_a_perfect_sensor_tracks_and_maps_well(extras_installed, simulated):
    true = [
        as_folder_frame(frame, DepthImage(frame.depth.header, frame.truth_m))
        for frame in simulated
    ]
    perfect = evaluate_downstream(true, {'true': Contender()}, fuse_every_nth=3)['true']
    errors = perfect.odometry.errors
    assert (errors.poses, perfect.fusion.frames, perfect.odometry.lost_frames) == (8, 3, 0)
    assert errors.rpe_frame_rmse_mm < 1
    assert errors.ate_rmse_mm < 5
    assert perfect.fusion.plane_rms_mm < 1.5
    assert perfect.fusion.covered > 0.85  # what three frames saw


def test_contenders_are_told_apart(scores):
    raw, refined, inpainted = (score.fusion for score in scores.values())
    # What is invented makes the map larger and more complete.
    assert inpainted.area_m2 > 1.1 * refined.area_m2
    assert inpainted.covered > refined.covered + 0.05
    assert refined.plane_rms_mm < raw.plane_rms_mm
    assert all(score.fusion.frames == 4 for score in scores.values())
    assert all(score.odometry.errors.poses == 8 for score in scores.values())


def test_scores_survive_json(scores):
    for score in scores.values():
        text = json.dumps(to_json(score))
        again = from_json(DownstreamScores, json.loads(text))
        assert json.dumps(to_json(again)) == text  # not ==: a second is longer than the clip: NaN
        assert again.fusion == score.fusion


def test_table_ends_with_the_notes(scores):
    head, rows = table({name: to_json(score) for name, score in scores.items()})
    assert [row[0] for row in rows] == list(scores)
    assert {len(row) for row in rows} == {len(head)}
    assert {score.note for score in scores.values()} == {'a note'}


def test_a_pipeline_that_is_shared_runs_once_a_frame(extras_installed, frames, monkeypatch):
    monkeypatch.setattr(downstream, 'trajectory_errors', lambda *_: None)
    calls = []

    class Counting(type(pipeline('refine_depth'))):
        def __call__(self, transforms=None, **values):
            calls.append(values['depth'].header.stamp_ns)
            return super().__call__(transforms, **values)

    shared = Counting()
    contenders = {'a': Contender(shared), 'b': Contender(shared)}
    evaluate_downstream(frames[:4], contenders, track_every_nth=2, fuse_every_nth=4)
    # Every frame, too: filters over time need those between the tracked ones.
    assert calls == [frame.depth.header.stamp_ns for frame in frames[:4]]


def test_contender_depth(frames):
    frame = frames[0]
    ours = pipeline('refine_depth,inpaint_depth')
    outputs = ours(depth=frame.depth, camera=frame.camera, color=frame.color)

    def depth(*arguments, **options):
        return Contender(*arguments, **options).depth(frame, outputs)[0]

    assert depth() is frame.depth.depth_m
    assert depth(ours, 'refine_depth') is outputs['refine_depth.depth'].depth_m
    assert depth(ours) is outputs['inpaint_depth.depth'].depth_m
    np.testing.assert_array_equal(depth(ours, invented=False), depth(ours, 'refine_depth'))
    with pytest.raises(ValueError, match='no depth from project_points'):
        depth(ours, 'project_points')


def test_color_is_registered_where_it_is_not(frames):
    tree = TransformTree()
    assert registered_color(frames[0], tree) is frames[0].color.rgb
    assert registered_color(frames[0]._replace(color=None), tree) is None
    elsewhere = ColorImage(Header(frames[0].color.header.stamp_ns, 'other'), frames[0].color.rgb)
    unregistered = frames[0]._replace(color=elsewhere)
    with pytest.raises(ValueError, match='transform'):
        registered_color(unregistered, tree)
    frame_id = frames[0].depth.header.frame_id
    tree.update([RigidTransform(Header(0, 'other'), frame_id, np.eye(3), np.zeros(3))])
    moved = registered_color(unregistered, tree).astype(int)
    # The same camera in the same place: the same picture, but for rounding.
    assert np.abs(moved - elsewhere.rgb).max() <= 2


def test_poses_are_needed(extras_installed, frames):
    nowhere = [frame._replace(world_from_camera=None) for frame in frames[:3]]
    with pytest.raises(ValueError, match='need recorded poses, 0 frames have one'):
        evaluate_downstream(nowhere, {'raw': Contender()})


def test_kitchen(extras_installed, recording):
    folder = Folder(recording('kinect_v1_kitchen'))
    frames = list(islice(folder, 20, 28))
    scores = evaluate_downstream(
        frames,
        {'raw': Contender()},
        transforms=TransformTree([folder.color_from_depth]),
        method='hybrid',
        fuse_every_nth=2,
        voxel_m=0.02,
        min_views=2,
        note=POSES_FROM_THE_SAME_DEPTH,
    )
    raw = scores['raw']
    # The camera moves by 7 mm a frame.
    assert raw.odometry.errors.rpe_frame_rmse_mm < 7
    assert raw.odometry.lost_frames == 0
    assert 0.6 < raw.fusion.covered < 1
    assert all('favours raw depth' in score.note for score in scores.values())
