from __future__ import annotations

from collections.abc import Callable, Iterable
import importlib.util
import os
from pathlib import Path
import signal

import hypothesis
import pytest

# The same examples on every run and machine; how long one takes is no property of the code.
hypothesis.settings.register_profile(
    'repeatable', derandomize=True, database=None, deadline=None, max_examples=60
)
hypothesis.settings.load_profile('repeatable')


# colcon installs what package.xml lists and no more; pip installs all of it.
_ROS = {'rclpy', 'launch', 'cv_bridge', 'sensor_msgs_py', 'ament_index_python'}
_OF_PIP = {
    'h5py',
    'lightning_fabric',
    'lz4',
    'onnx',
    'onnxruntime',
    'rich',
    'rosbags',
    'torch',
    'tyro',
}
# The command line is for where there is no ROS; what its tests share needs rosbags.
collect_ignore = [] if importlib.util.find_spec('rosbags') else ['cli']
_MAY_LACK = _ROS | _OF_PIP if 'AMENT_PREFIX_PATH' in os.environ else _ROS


class _SkippingModule(pytest.Module):
    """Skips itself, and no other file, where what it imports is not installed."""

    def collect(self) -> Iterable[pytest.Item | pytest.Collector]:
        try:
            return super().collect()
        except self.CollectError as error:
            missing = getattr(error.__cause__, 'name', None)
            if missing is None or missing.partition('.')[0] not in _MAY_LACK:
                raise
            pytest.skip(f'{missing} is not installed', allow_module_level=True)


@pytest.hookimpl(tryfirst=True)
def pytest_pycollect_makemodule(module_path: Path, parent: pytest.Collector) -> pytest.Module:
    # Before launch_testing's, which imports every file and drops its folder if that fails.
    return _SkippingModule.from_parent(parent, path=module_path)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        '--seeds', type=int, default=1, help='seeds that tests train with (default: 1, seed 0)'
    )
    parser.addoption(
        '--threads', type=int, default=1, help='threads that tests train with (default: 1)'
    )


def pytest_configure(config: pytest.Config) -> None:
    # What a shell starts in the background ignores Ctrl-C, and so would all that tests start.
    if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if 'training_seed' in metafunc.fixturenames:
        metafunc.parametrize('training_seed', range(metafunc.config.getoption('--seeds')))


@pytest.fixture(scope='session')
def recordings() -> Path:
    """The folder of real recordings; tests that need it are skipped where it is absent."""
    default = Path(__file__).parents[2] / 'shared' / 'data'
    folder = Path(os.environ.get('DEPTH_REFINER_DATA', default))
    if not folder.is_dir():
        pytest.skip(f'{folder} does not exist: set DEPTH_REFINER_DATA to the real recordings')
    return folder


@pytest.fixture(scope='session')
def recording(recordings: Path) -> Callable[[str], Path]:
    """Return the folder of one real recording by its name; skips where it is absent."""

    def named(name: str) -> Path:
        folder = recordings / name
        if not folder.is_dir():
            pytest.skip(f'{recordings} has no {name}: set DEPTH_REFINER_DATA to one that has')
        return folder

    return named


@pytest.fixture
def classical_by_default(monkeypatch: pytest.MonkeyPatch) -> None:
    """Loading a model takes a second: with this, only tests that name one load it."""
    stage = 'depth_refiner_ros.stages.inpaint_depth.is_any_installed'
    monkeypatch.setattr(stage, lambda: False)
