"""Dependencies point inward: what may import what, tried in a process of its own."""

from __future__ import annotations

import ast
import os
from pathlib import Path
import subprocess
import sys

import pytest

from .import_graph import circle, modules_of
from .import_graph import imported as imported_here

PACKAGE = Path(__file__).parents[1] / 'depth_refiner_ros'
PATHS = modules_of('depth_refiner_ros')
MODULES = sorted(PATHS)
# What stands on a floor imports from the floors below it, and from its own folder.
FLOORS = (
    {'disk_cache', 'invocation', 'parameters'},
    {'kernels'},
    {'data'},
    {'counts', 'pictures', 'skeletons'},
    {'filters', 'geometry', 'rvl'},
    {'inference', 'messages', 'metrics', 'simulation', 'stage', 'tum'},
    {'discovery', 'folders', 'stages', 'synchronizer'},
    {'config', 'diagnosis', 'pairing'},
    {'arrays', 'hosts', 'reference'},
    {'evaluation', 'nodes'},
    {'cli'},
    {'__main__'},
)
FLOOR = {room: number for number, rooms in enumerate(FLOORS) for room in rooms}

# Who may import what is not installed everywhere, at the top of a module or in a function.
OPTIONAL = {
    'rclpy': ('hosts.ros_node', 'hosts.realsense_node', 'nodes'),
    'yaml': ('config', 'cli', 'inference.description', 'inference.published'),
    'rich': ('cli',),
    'tyro': ('cli',),
    'rosbags': ('hosts.bag', 'hosts.typestore', 'cli'),
    'zenoh': ('hosts.zenoh',),
    'numba': (),  # imported by `kernels` where something must be compiled
    'llvmlite': (),
    'torch': ('inference',),
    'onnxruntime': ('inference',),
    'tensorrt': ('inference',),
    'cuda': ('inference',),
    'onnx': ('inference',),
    'openvino': ('inference',),
    'pyrealsense2': ('cli', 'evaluation.peers', 'hosts.realsense'),
    'rerun': ('hosts.view',),
    'scipy': (),
    'matplotlib': ('evaluation.report',),
    'ray': ('evaluation.workers',),
    'open3d': ('evaluation',),
    'evo': (),
    'cv_bridge': (),
    'message_filters': (),
}

# What must work where none of these is installed.
CORE = (
    'data',
    'geometry',
    'messages',
    'rvl',
    'stage',
    'stages',
    'config',
    'discovery',
    'diagnosis',
    'folders',
    'filters.denoise',
    'filters.flying_pixels',
    'filters.inpaint',
    'filters.noise',
    'filters.temporal',
)

BLOCKED = """
import importlib, sys
class Blocked:
    def find_spec(self, name, path=None, target=None):
        if name.partition('.')[0] in {blocked!r}:
            raise ImportError(name + ' is blocked')
sys.meta_path.insert(0, Blocked())
for module in {modules!r}:
    importlib.import_module('depth_refiner_ros.' + module)
loaded = {{name.partition('.')[0] for name in sys.modules}}
assert not loaded & set({blocked!r}), loaded & set({blocked!r})
"""


def run(blocked, modules):
    code = BLOCKED.format(blocked=tuple(blocked), modules=tuple(modules))
    return subprocess.run(
        [sys.executable, '-c', code],
        env=os.environ | {'PYTHONPATH': str(PACKAGE.parent)},
        capture_output=True,
        text=True,
    )


def test_the_core_needs_numpy_opencv_and_yaml_only():
    done = run([name for name in OPTIONAL if name != 'yaml'], CORE)
    assert done.returncode == 0, done.stderr


def test_the_command_line_needs_no_ros_and_no_model_runtime():
    present = ('rosbags', 'rich', 'tyro', 'yaml')
    done = run([name for name in OPTIONAL if name not in present], ['cli'])
    assert done.returncode == 0, done.stderr


def imported(path):
    for node in ast.walk(ast.parse(path.read_text(encoding='utf-8'))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and not node.level:
            yield node.module


@pytest.mark.parametrize('module', MODULES)
def test_optional_packages_have_their_place(module):
    path = PACKAGE.parent / Path(*module.split('.'))
    path = path / '__init__.py' if path.is_dir() else path.with_suffix('.py')
    inside = module.removeprefix('depth_refiner_ros').removeprefix('.')
    for name in imported(path):
        top = name.partition('.')[0]
        allowed = OPTIONAL.get(top)
        assert allowed is None or inside.startswith(allowed), f'{module} imports {name}'


def room(module):
    return module.split('.')[1]


@pytest.mark.parametrize('module', [name for name in MODULES if name != 'depth_refiner_ros'])
def test_nothing_climbs(module):
    for name in imported_here(module, PATHS):
        # The package itself says where its public names are.
        if name != 'depth_refiner_ros' and room(name) != room(module):
            assert FLOOR[room(name)] < FLOOR[room(module)], (
                f'{module} imports {name}, which does not stand below it'
            )


def test_no_module_imports_itself_by_way_of_others():
    assert circle(PATHS) == []


@pytest.mark.parametrize('module', MODULES)
def test_the_package_never_imports_the_training_or_the_tests(module):
    path = PACKAGE.parent / Path(*module.split('.'))
    path = path / '__init__.py' if path.is_dir() else path.with_suffix('.py')
    assert not {name.partition('.')[0] for name in imported(path)} & {'training', 'test'}


def test_the_command_says_what_it_lacks(tmp_path):
    code = (
        "import sys; sys.modules['tyro'] = None\n"
        'from depth_refiner_ros.cli import main\n'
        "sys.exit(main(['info', 'x']))"
    )
    result = subprocess.run(
        [sys.executable, '-c', code],
        cwd=PACKAGE.parent,
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 2
    assert 'pip install rich rosbags tyro' in result.stderr
    assert 'Traceback' not in result.stderr
