from __future__ import annotations

from pathlib import Path
import runpy
import subprocess
import sys

import pytest

from depth_refiner_ros import nodes
from depth_refiner_ros.stages import STAGES

ROOT = Path(__file__).parents[1]


def test_every_stage_has_an_executable(monkeypatch):
    setuptools, declared = pytest.importorskip('setuptools'), {}
    monkeypatch.setattr(setuptools, 'setup', lambda **given: declared.update(given))
    runpy.run_path(str(ROOT / 'setup.py'))
    scripts = dict(line.split(' = ') for line in declared['entry_points']['console_scripts'])
    assert scripts.pop('depth-refiner') == 'depth_refiner_ros.cli:main'
    names = {*STAGES, 'pipeline', 'realsense_source'}
    assert scripts == {f'{name}_node': f'depth_refiner_ros.nodes:{name}' for name in names}
    assert all(callable(getattr(nodes, name)) for name in names)


@pytest.mark.parametrize('name', ['refine', '../stages/refine_depth'])
def test_what_is_no_stage_has_none(name):
    with pytest.raises(AttributeError, match='has no attribute'):
        getattr(nodes, name)


def test_ctrl_c_is_heard_before_numpy_is_there():
    code = (
        'import sys; from depth_refiner_ros.nodes import refine_depth; '
        'assert not {"numpy", "cv2", "rclpy"} & sys.modules.keys()'
    )
    subprocess.run([sys.executable, '-c', code], check=True, cwd=ROOT)
