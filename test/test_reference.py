from pathlib import Path

import pytest

from depth_refiner_ros import reference
from depth_refiner_ros.config import HostParameters
from depth_refiner_ros.parameters import declared_parameters
from depth_refiner_ros.stages import STAGES

ROOT = Path(__file__).resolve().parent.parent


def test_topics_equal_declarations():
    text = (ROOT / 'docs' / 'ros.md').read_text()
    assert reference.updated_topics(text) == text, 'run `make docs`'
    assert '| `refine_depth` |' in text


def test_parameters_page_equals_declarations():
    text = (ROOT / 'docs' / 'parameters.md').read_text()
    assert text == reference.parameters_page(), 'run `make docs`'


@pytest.mark.parametrize('cls', [HostParameters, *(s.Parameters for s in STAGES.values())])
def test_every_parameter_is_described(cls):
    for declared in declared_parameters(cls).values():
        assert declared.description.endswith('.'), declared.name
        if declared.type in (int, float):
            assert declared.range, f'{declared.name} has no range'


def test_table_row():
    text = reference.parameters_table('project_points.', STAGES['project_points'].Parameters)
    expected = (
        '| `project_points.stride_px` | `1` | 1 to 64 | px | yes | '
        'Keep every n-th row and column. |'
    )
    assert expected in text.splitlines()
