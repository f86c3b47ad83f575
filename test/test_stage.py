from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
import re
from typing import Any, ClassVar

import numpy as np
import pytest

from depth_refiner_ros.data import (
    ColorImage,
    DepthImage,
    Header,
    PinholeCamera,
    Provenance,
    ProvenanceImage,
    RigidTransform,
    StddevImage,
)
from depth_refiner_ros.geometry import TransformTree
from depth_refiner_ros.parameters import (
    Parameters,
    declared_parameters,
    parameter,
    parameter_values,
    updated_parameters,
)
from depth_refiner_ros.stage import (
    Capabilities,
    FrameLookup,
    Topic,
    compose,
    looked_up,
    needs_tf,
    topic_inputs,
)
from depth_refiner_ros.stages.refine_depth import RefineDepth, RefineDepthParameters
from depth_refiner_ros.stages.register_color import RegisterColor

# -------------------------------------------------------------------------------------- stages

HEADER = Header(0, 'depth_optical')


@dataclass(frozen=True, kw_only=True)
class OffsetParameters(Parameters):
    offset_m: float = parameter(0.5, 'What is added.', unit='m', range=(0, 10))


class Source:
    """A stage as they are written; keeps what it was called with."""

    capabilities = Capabilities()
    Parameters: ClassVar[Any] = OffsetParameters
    inputs: ClassVar[Mapping[str, Any]] = {
        'depth': Topic(DepthImage, 'depth/image_rect'),
        'camera': Topic(PinholeCamera, 'depth/camera_info', latched=True),
        'color': Topic(ColorImage, 'color/image_rect', optional=True),
    }
    outputs: ClassVar[Mapping[str, Topic]] = {'depth': Topic(DepthImage, 'depth_moved/image_rect')}

    def __init__(self, parameters):
        self.parameters = parameters

    def __call__(self, **values):
        self.called_with = values
        moved_m = values['depth'].depth_m + np.float32(self.parameters.offset_m)
        return {'depth': DepthImage(values['depth'].header, moved_m)}


class Sink(Source):
    """Needs colour, and tells nobody."""

    inputs: ClassVar[Mapping[str, Any]] = {
        'depth': Topic(DepthImage, 'depth/image_rect'),
        'color': Topic(ColorImage, 'color/image_rect'),
        'color_from_depth': FrameLookup(target='color', source='depth'),
    }
    outputs: ClassVar[Mapping[str, Topic]] = {}

    def __call__(self, **values):
        self.called_with = values
        return {}


class Tint(Source):
    """Takes colour alone."""

    inputs: ClassVar[Mapping[str, Any]] = {'color': Topic(ColorImage, 'color/image_rect')}
    outputs: ClassVar[Mapping[str, Topic]] = {'color': Topic(ColorImage, 'tinted/image_rect')}

    def __call__(self, **values):
        return values


def stage_taking(**inputs):
    return type('Taking', (Sink,), {'inputs': inputs})


DEPTH_M = np.ones((3, 4), np.float32)
DEPTH = DepthImage(HEADER, DEPTH_M)
COLOR = ColorImage(Header(0, 'color_optical'), np.zeros((3, 4, 3), np.uint8))
CAMERA = PinholeCamera(HEADER, 4, 3, 2.0, 2.0, 1.5, 1.0)


def refused(message):
    return pytest.raises(ValueError, match=f'^{re.escape(message)}$')


HERE = RigidTransform(Header(0, 'color_optical'), 'depth_optical', np.eye(3), np.zeros(3))
TREE = TransformTree([HERE])


def test_a_pipeline_is_wired_by_port():
    pipeline = compose({'first': Source, 'second': Source, 'last': Sink})()
    outputs = pipeline(TREE, depth=DEPTH, camera=CAMERA, color=COLOR)

    assert list(outputs) == ['first.depth', 'second.depth']
    assert (outputs['first.depth'].depth_m == 1.5).all()
    assert (outputs['second.depth'].depth_m == 2.0).all()
    assert pipeline.stages['first'].called_with['depth'] is DEPTH
    assert pipeline.stages['second'].called_with['depth'] is outputs['first.depth']
    assert pipeline.stages['second'].called_with['camera'] is CAMERA
    assert pipeline.stages['last'].called_with['depth'] is outputs['second.depth']
    assert pipeline.stages['last'].called_with['color'] is COLOR


def test_every_stage_gets_its_inputs_and_no_more():
    pipeline = compose({'source': Source, 'sink': Sink})()
    pipeline(TREE, depth=DEPTH, camera=CAMERA, color=COLOR)
    for name, stage_type in (('source', Source), ('sink', Sink)):
        assert pipeline.stages[name].called_with.keys() == stage_type.inputs.keys()
    pipeline(depth=DEPTH)  # what did not come is None
    assert pipeline.stages['source'].called_with['color'] is None


class Guided(Source):
    """Takes colour where there is any, and only with a transform."""

    inputs: ClassVar[Mapping[str, Any]] = {
        **Source.inputs,
        'color_from_depth': FrameLookup(target='color', source='depth'),
    }


def test_colour_that_tf_does_not_connect_is_left_out():
    pipeline = compose({'guided': Guided, 'second': Source})()
    outputs = pipeline(TransformTree(), depth=DEPTH, camera=CAMERA, color=COLOR)
    assert (outputs['guided.depth'].depth_m == 1.5).all()
    assert pipeline.stages['guided'].called_with['color'] is None
    assert pipeline.stages['second'].called_with['color'] is COLOR
    assert list(pipeline.left_out) == ['color']
    assert pipeline.left_out['color'].startswith("no transform from 'depth_optical' to 'color_op")
    pipeline(TREE, depth=DEPTH, camera=CAMERA, color=COLOR)
    assert pipeline.stages['guided'].called_with['color'] is COLOR
    assert pipeline.left_out == {}


def test_what_a_stage_refuses_without_colour_too_stays_refused():
    class Strict(Source):
        def __call__(self, **values):
            raise ValueError('the depth is bad')

    pipeline = compose({'strict': Strict})()
    with pytest.raises(ValueError, match='the depth is bad'):
        pipeline(TREE, depth=DEPTH, camera=CAMERA, color=COLOR)
    assert pipeline.left_out == {}


def test_colour_that_is_required_is_not_left_out():
    pipeline = compose({'sink': Sink})()
    with pytest.raises(LookupError):
        pipeline(TransformTree(), depth=DEPTH, color=COLOR)


def test_a_lookup_follows_the_frame_that_an_earlier_stage_moved_to():
    class Move(Source):
        def __call__(self, **values):
            moved = DepthImage(Header(0, 'color_optical'), values['depth'].depth_m)
            return {'depth': moved}

    pipeline = compose({'first': Move, 'last': Sink})()
    pipeline(TREE, depth=DEPTH, camera=CAMERA, color=COLOR)
    lookup = pipeline.stages['last'].called_with['color_from_depth']
    assert lookup.header.frame_id == lookup.child_frame_id == 'color_optical'


def test_arrays_are_handed_over_without_a_copy():
    class Through(Source):
        def __call__(self, **values):
            return {'depth': values['depth']}

    pipeline = compose({'first': Through, 'last': Sink})()
    outputs = pipeline(TREE, depth=DEPTH, camera=CAMERA, color=COLOR)
    received = pipeline.stages['last'].called_with['depth'].depth_m
    assert np.shares_memory(received, DEPTH_M)
    assert np.shares_memory(outputs['first.depth'].depth_m, DEPTH_M)


@pytest.mark.parametrize(
    ('wanted', 'run'),
    [
        (['first.depth'], ['first']),
        (['second.depth'], ['first', 'second']),
        (['first.depth', 'second.depth'], ['first', 'second']),
        (['tint.color'], ['tint']),  # reads colour, which comes from outside
        (None, ['first', 'second', 'tint']),
        ([], []),
    ],
)
def test_only_what_is_wanted_is_run_and_what_it_builds_on(wanted, run):
    pipeline = compose({'first': Source, 'second': Source, 'tint': Tint})()
    outputs = pipeline.outputs_in_turn(TREE, wanted, depth=DEPTH, color=COLOR)
    assert [name.partition('.')[0] for name, _ in outputs] == run
    assert list(pipeline.last_s) == run


def test_outputs_come_as_soon_as_their_stage_is_done():
    pipeline = compose({'first': Source, 'second': Source})()
    outputs = pipeline.outputs_in_turn(depth=DEPTH)
    assert next(outputs)[0] == 'first.depth'
    assert list(pipeline.last_s) == ['first']
    assert next(outputs)[0] == 'second.depth'


def test_a_pipeline_says_what_its_stages_did():
    pipeline = compose({'first': Source, 'second': Source})()
    assert pipeline.status == {}
    pipeline.stages['second'].status = {'motion': 'the camera stands still'}
    assert pipeline.status == {'second.motion': 'the camera stands still'}


def test_inputs_and_outputs_of_a_pipeline():
    pipeline_type = compose({'source': Source, 'sink': Sink})
    assert pipeline_type.inputs == {
        'depth': Topic(DepthImage, 'depth/image_rect'),
        'camera': Topic(PinholeCamera, 'depth/camera_info', latched=True),
        'color': Topic(ColorImage, 'color/image_rect'),  # optional for one, not for the other
        'color_from_depth': FrameLookup(target='color', source='depth'),
    }
    assert pipeline_type.outputs == {'source.depth': Topic(DepthImage, 'depth_moved/image_rect')}
    assert list(topic_inputs(pipeline_type)) == ['depth', 'camera', 'color']


def test_what_an_earlier_stage_makes_is_no_input():
    after = stage_taking(depth=Topic(DepthImage, 'another/name'))
    assert 'depth' in compose({'source': Source, 'after': after}).inputs
    before = compose({'after': after}).inputs
    assert before == {'depth': Topic(DepthImage, 'another/name')}


def topic(**settings):
    return Topic(PinholeCamera, 'camera_info', **settings)


@pytest.mark.parametrize(
    ('one', 'other', 'merged'),
    [
        ({}, {}, {}),
        ({'optional': True}, {'optional': True}, {'optional': True}),
        ({'optional': True}, {}, {}),
        ({'latched': True}, {'latched': True}, {'latched': True}),
        # who needs the frame's own does not want the last
        ({'latched': True}, {}, {}),
        ({'optional': True, 'latched': True}, {'latched': True}, {'latched': True}),
        ({'optional': True, 'latched': True}, {'optional': True}, {'optional': True}),
    ],
)
def test_the_strictest_wish_for_an_input_counts_in_either_order(one, other, merged):
    stages = stage_taking(camera=topic(**one)), stage_taking(camera=topic(**other))
    for first, second in (stages, stages[::-1]):
        inputs = compose({'first': first, 'second': second}).inputs
        assert inputs == {'camera': topic(**merged)}


@pytest.mark.parametrize(
    ('first', 'second', 'message'),
    [
        (
            {'camera': Topic(PinholeCamera, 'depth/camera_info')},
            {'camera': Topic(PinholeCamera, 'color/camera_info')},
            'second expects color/camera_info on port camera, an earlier stage depth/camera_info',
        ),
        (
            {'image': Topic(DepthImage, 'image')},
            {'image': Topic(ColorImage, 'image')},
            'second expects image on port image, an earlier stage image',
        ),
        (
            {'frame': FrameLookup(target='color', source='depth')},
            {'frame': FrameLookup(target='depth', source='color')},
            'second and an earlier stage expect different frame',
        ),
        (
            {'frame': FrameLookup(target='color', source='depth')},
            {'frame': topic()},
            'second and an earlier stage expect different frame',
        ),
    ],
)
def test_stages_that_disagree_about_a_port_are_refused(first, second, message):
    with refused(message):
        compose({'first': stage_taking(**first), 'second': stage_taking(**second)})


@pytest.mark.parametrize(
    'wanted', [Topic(ColorImage, 'image'), FrameLookup(target='color', source='depth')]
)
def test_a_stage_that_cannot_take_what_comes_before_it_is_refused(wanted):
    message = 'after cannot take what an earlier stage puts out on port depth, a DepthImage'
    with refused(message):
        compose({'source': Source, 'after': stage_taking(depth=wanted)})


class Inventor(Source):
    """Puts out all three of a depth image, and says that it saw every pixel."""

    outputs: ClassVar[Mapping[str, Topic]] = {
        'depth': Topic(DepthImage, 'made/image_rect'),
        'stddev': Topic(StddevImage, 'made/stddev'),
        'provenance': Topic(ProvenanceImage, 'made/provenance'),
    }

    def __call__(self, **values):
        header = values['depth'].header
        return {
            'depth': values['depth'],
            'stddev': StddevImage(header, np.full((3, 4), 0.1, np.float32)),
            'provenance': ProvenanceImage(header, np.full((3, 4), 1, np.uint8)),
        }


class Judge(Sink):
    """Takes depth and its companions in."""

    inputs: ClassVar[Mapping[str, Any]] = {
        'depth': Topic(DepthImage, 'depth/image_rect'),
        'stddev': Topic(StddevImage, 'depth/stddev', optional=True),
        'provenance': Topic(ProvenanceImage, 'depth/provenance', optional=True),
    }


def test_a_stage_that_puts_out_depth_alone_ends_its_companions():
    pipeline = compose({'first': Inventor, 'judge': Judge, 'alone': Source, 'last': Judge})()
    outputs = pipeline(depth=DEPTH, camera=CAMERA)
    judged = pipeline.stages['judge'].called_with
    assert judged['stddev'] is outputs['first.stddev']
    assert judged['provenance'] is outputs['first.provenance']
    assert pipeline.stages['last'].called_with == {
        'depth': outputs['alone.depth'],
        'stddev': None,
        'provenance': None,
    }


def test_companions_that_a_stage_ends_are_no_input():
    assert 'provenance' not in compose({'alone': Source, 'last': Judge}).inputs
    assert 'provenance' in compose({'judge': Judge, 'alone': Source, 'last': Judge}).inputs


def test_depth_that_lost_its_provenance_is_never_measured_again():
    pipeline = compose({'first': Inventor, 'alone': Source, 'again': Inventor})()
    outputs = pipeline(depth=DEPTH, camera=CAMERA)
    assert (outputs['first.provenance'].provenance == Provenance.MEASURED).all()
    assert (outputs['again.provenance'].provenance == Provenance.INPAINTED).all()
    fresh = compose({'alone': Source, 'again': Inventor})()(depth=DEPTH, camera=CAMERA)
    assert (fresh['again.provenance'].provenance == Provenance.MEASURED).all()


def test_a_pipeline_needs_a_stage():
    with refused('a pipeline needs at least one stage'):
        compose({})


def test_parameters_of_a_pipeline_have_dotted_names():
    pipeline_type = compose({'smooth': SmoothStage, 'move': Source})
    declared = declared_parameters(pipeline_type.Parameters)
    assert list(declared)[-2:] == ['smooth.model', 'move.offset_m']
    assert declared['smooth.radius_px'].name == 'smooth.radius_px'
    assert declared['smooth.radius_px'].range == (1, 15)

    original = pipeline_type.Parameters()
    changed = updated_parameters(original, {'smooth.radius_px': 7, 'move.offset_m': 2})
    assert (changed.smooth.radius_px, changed.move.offset_m) == (7, 2.0)
    assert changed.smooth.gain == original.smooth.gain
    assert original == pipeline_type.Parameters()
    assert parameter_values(changed)['smooth.radius_px'] == 7
    assert updated_parameters(original, parameter_values(changed)) == changed


@pytest.mark.parametrize(
    ('name', 'value', 'message'),
    [
        ('move.offset_m', 11, 'parameter move.offset_m must be between 0 and 10 m, got 11 m'),
        ('move.offset_m', '1', "parameter move.offset_m must be a float, got '1' (str)"),
        ('move.ofset_m', 1.0, 'unknown parameter move.ofset_m; did you mean move.offset_m?'),
        ('offset_m', 1.0, 'unknown parameter offset_m; did you mean move.offset_m?'),
        ('move', 1.0, 'unknown parameter move; known: move.offset_m'),
    ],
)
def test_errors_name_the_dotted_parameter(name, value, message):
    with refused(message):
        updated_parameters(compose({'move': Source}).Parameters(), {name: value})


@dataclass(frozen=True, kw_only=True)
class SmoothParameters(Parameters):
    radius_px: int = parameter(3, 'Radius of the window.', unit='px', range=(1, 15))
    gain: float = parameter(1.0, 'Factor on the result.')
    model: str = parameter('', 'Name of a model.')


class SmoothStage(Source):
    Parameters: ClassVar[Any] = SmoothParameters


def test_new_parameters_reach_the_stages_without_rebuilding_them():
    pipeline = compose({'first': Source, 'second': Source})()
    stages = dict(pipeline.stages)
    values = {'depth': DEPTH, 'camera': CAMERA}
    assert (pipeline(**values)['second.depth'].depth_m == 2.0).all()

    pipeline.parameters = updated_parameters(pipeline.parameters, {'second.offset_m': 3.0})
    assert pipeline.stages == stages
    assert pipeline.parameters.second.offset_m == 3.0
    assert pipeline.parameters.first.offset_m == 0.5
    assert (pipeline(**values)['second.depth'].depth_m == 4.5).all()


def test_two_pipelines_of_one_type_do_not_share_state():
    pipeline_type = compose({'move': Source})
    one = pipeline_type(updated_parameters(pipeline_type.Parameters(), {'move.offset_m': 1.0}))
    other = pipeline_type()
    assert one.parameters.move.offset_m == 1.0
    assert other.parameters.move.offset_m == 0.5
    assert one.stages['move'] is not other.stages['move']


def test_a_pipeline_tells_how_long_each_stage_took():
    pipeline = compose({'first': Source, 'second': Source})()
    pipeline(depth=DEPTH, camera=CAMERA)
    assert list(pipeline.last_s) == ['first', 'second']
    assert all(seconds >= 0 for seconds in pipeline.last_s.values())


# ----------------------------------------------------------------------------------- looked_up

TREE = TransformTree(
    [
        RigidTransform(
            Header(0, 'color_optical'), 'depth_optical', np.eye(3), np.array([0.015, 0.0, 0.0])
        )
    ]
)


def test_a_lookup_is_answered_with_the_frames_of_the_values():
    found = looked_up(Sink, {'depth': DEPTH, 'color': COLOR}, TREE)
    assert list(found) == ['color_from_depth']
    transform = found['color_from_depth']
    assert (transform.header.frame_id, transform.child_frame_id) == (
        'color_optical',
        'depth_optical',
    )
    np.testing.assert_array_equal(transform.translation_m, [0.015, 0.0, 0.0])


def test_a_lookup_of_a_value_that_did_not_come_is_none():
    assert looked_up(Sink, {'depth': DEPTH, 'color': None}, TREE) == {'color_from_depth': None}
    assert looked_up(Sink, {'depth': DEPTH}, TransformTree()) == {'color_from_depth': None}


def test_a_stage_without_lookups_needs_no_tree():
    assert looked_up(Source, {'depth': DEPTH}, TransformTree()) == {}


def test_frames_that_tf_does_not_connect_are_an_error_that_says_what_to_do():
    message = (
        "no transform from 'depth_optical' to 'color_optical'; publish it on /tf_static "
        '(ros2 run tf2_ros static_transform_publisher) or check the two frame_ids'
    )
    with pytest.raises(LookupError, match=f'^{re.escape(message)}$'):
        looked_up(Sink, {'depth': DEPTH, 'color': COLOR}, TransformTree())


def test_a_pipeline_asks_for_the_lookups_of_its_stages():
    pipeline_type = compose({'source': Source, 'sink': Sink})
    found = looked_up(pipeline_type, {'depth': DEPTH, 'color': COLOR, 'camera': CAMERA}, TREE)
    assert list(found) == ['color_from_depth']


# -------------------------------------------------------------------------------- capabilities


class Runner:
    """A model as a host sees it."""

    def __init__(self, back_end='', trouble='', note='', loading=''):
        self.waits = True
        self.back_end, self.trouble, self.note, self.loading = back_end, trouble, note, loading


def test_most_stages_have_neither_memory_nor_models():
    found = Capabilities()
    assert (found.back_end, found.note, found.trouble, found.loading) == ('', '', '', '')
    assert not found.remembers


def test_the_first_model_says_what_runs_and_every_one_what_is_wrong():
    one, other = Runner('gpu', note='one is fast.'), Runner('cpu', note='other is small.')
    found = Capabilities(models=(one, other), otherwise='classical', remark='It is old.')
    assert (found.back_end, found.trouble) == ('gpu', '')
    assert found.note == 'one is fast. other is small. It is old.'
    other.trouble, other.loading = 'it is hot', 'other is loading'
    assert (found.back_end, found.trouble) == ('classical', 'it is hot')
    one.trouble = 'it is hot'
    assert found.trouble == 'it is hot'
    assert found.loading == 'other is loading'
    found.load_beside()
    assert not one.waits
    assert not other.waits


def test_a_pipeline_gathers_what_its_stages_have():
    class Remembering(Source):
        capabilities = Capabilities(remembers=True)

    pipeline = compose({'first': Source, 'second': Remembering})()
    assert pipeline.remembers
    assert not compose({'first': Source})().remembers
    assert (pipeline.back_ends, pipeline.troubles, pipeline.notes) == ({}, {}, {})
    model = Runner('gpu', note='fast')
    pipeline.stages['first'].capabilities = Capabilities(models=(model,), unnamed_model='small')
    assert pipeline.back_ends == {'first': 'gpu'}
    assert pipeline.notes == {'first': 'fast'}
    assert pipeline.unnamed_models == {'first': 'small'}
    pipeline.decline_models('too slow')
    assert pipeline.stages['first'].capabilities.declined == 'too slow'
    # What stages without models share stays as it is.
    assert pipeline.stages['second'].capabilities.declined == ''


def test_a_pose_is_looked_up_at_the_time_of_the_value():
    def odometry(stamp_ns: int, x_m: float) -> RigidTransform:
        return RigidTransform(
            Header(stamp_ns, 'odom'), 'eye', np.eye(3), np.array([x_m, 0.0, 0.0])
        )

    stage = RefineDepth(RefineDepthParameters(fixed_frame='odom'))
    depth = DepthImage(Header(50, 'eye'), np.ones((2, 2), np.float32))
    tree = TransformTree([odometry(0, 1.0), odometry(100, 2.0)])
    found = looked_up(stage, {'depth': depth}, tree)['fixed_from_camera']
    assert found.translation_m[0] == pytest.approx(1.5)
    assert looked_up(stage, {'depth': None}, tree) == {'fixed_from_camera': None}
    assert looked_up(stage, {'depth': depth}, TransformTree()) == {'fixed_from_camera': None}
    assert looked_up(RefineDepth(), {'depth': depth}, tree) == {'fixed_from_camera': None}


def test_tf_is_needed_where_a_stage_asks_for_it():
    pipeline = compose({'refine_depth': RefineDepth})
    assert not needs_tf(pipeline())
    parameters = pipeline.Parameters(refine_depth=RefineDepthParameters(fixed_frame='odom'))
    assert needs_tf(pipeline(parameters))
    assert needs_tf(compose({'register_color': RegisterColor})())
