import copy

import pytest

from depth_refiner_ros.inference import ModelError
from depth_refiner_ros.inference.description import parse_description, read_description

GOOD = {
    'format': 1,
    'name': 'tiny',
    'stage': 'estimate_depth',
    'size': {'rule': 'stretch', 'height': 28, 'width': 42, 'multiple': 14},
    'inputs': {'image': {'role': 'color', 'mean': 'imagenet', 'std': [1, 1, 1]}},
    'outputs': {'depth': {'role': 'depth', 'kind': 'metric'}, 'normal': {'role': 'ignored'}},
    'licence': 'MIT',
}


def test_a_description_is_read():
    found = parse_description(GOOD, 'tiny.yaml')
    assert found.inputs['image'].parts[0].mean == (0.485, 0.456, 0.406)
    assert (found.size.height, found.size.width) == (28, 42)
    assert found.ignored == ('normal',)
    assert found.depth.valid_m == (0.01, 100.0)


WRONG = [
    (('format',), 2, 'tiny.yaml has format 2; this version of depth_refiner_ros reads format 1'),
    (('name',), None, 'name must be a text, got None'),
    (('stage',), 'refine', 'stage must be one of estimate_depth, inpaint_depth, got .refine.'),
    (('size', 'rule'), 'crop', 'size.rule must be one of keep, stretch'),
    (('size', 'height'), 30, 'size 42x30 is no multiple of 14'),
    (('size', 'height'), 28.5, 'size.height must be a whole number'),
    (('size', 'height'), 0, 'needs size.height and size.width'),
    (('inputs', 'image', 'mean'), [1, 2], r'inputs.image.mean must be a list of 3 numbers'),
    (('inputs', 'image', 'means'), [1, 2], r'inputs.image.means is not known here; known: .*mean'),
    (('inputs', 'image', 'layout'), 'NCWH', 'inputs.image.layout must be one of NCHW'),
    (('inputs', 'image', 'role'), 'mask', 'no input takes colour or depth'),
    (('inputs', 'image'), 'color', 'inputs.image must be a mapping of keys to values'),
    (('inputs', 'image'), {'concatenated': []}, 'must be a list of what the channels carry'),
    (('outputs', 'depth', 'kind'), 'metres', 'outputs.depth.kind must be one of metric'),
    (('outputs', 'depth', 'focal'), 'f*300', 'outputs.depth.focal must be none, f/NUMBER'),
    (('outputs', 'depth', 'focal'), 'f*baseline', 'outputs.depth.baseline_m must be given'),
    (('outputs', 'depth', 'kind'), 'disparity', 'disparity needs focal: f.baseline'),
    (('outputs', 'depth', 'valid_m'), [2, 1], 'the nearer first'),
    (
        ('outputs', 'normal'),
        {'role': 'depth', 'kind': 'log'},
        'exactly one output has role depth, found 2',
    ),
    (('outputs', 'depth', 'role'), 'ignored', 'outputs.depth.kind is not known here'),
    (('stddev_share',), True, 'stddev_share must be a number from 0 to 1, got True'),
    (('stage',), 'inpaint_depth', 'needs an input of role depth'),
]


@pytest.mark.parametrize(('path', 'value', 'why'), WRONG)
def test_what_is_wrong_is_one_sentence_that_names_the_key(path, value, why):
    content = copy.deepcopy(GOOD)
    block = content
    for key in path[:-1]:
        block = block[key]
    block[path[-1]] = value
    with pytest.raises(ModelError, match=why) as error:
        parse_description(content, 'tiny.yaml')
    assert str(error.value).startswith('tiny.yaml')


def test_relative_depth_has_no_focal_rule():
    content = copy.deepcopy(GOOD)
    content['outputs']['depth'] |= {'kind': 'affine', 'focal': 'f/300'}
    with pytest.raises(ModelError, match='affine has no metres'):
        parse_description(content, 'tiny.yaml')


@pytest.mark.parametrize('text', ['a: [', '- 1', ''])
def test_a_file_that_is_no_description_is_one_sentence(tmp_path, text):
    path = tmp_path / 'tiny.yaml'
    path.write_text(text)
    with pytest.raises(ModelError, match=r'is no YAML|must be a mapping'):
        read_description(path)
