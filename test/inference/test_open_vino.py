import numpy as np
import pytest

openvino = pytest.importorskip('openvino', reason="pip install '.[openvino]'")

from depth_refiner_ros.disk_cache import DiskCache
from depth_refiner_ros.inference import load_model


@pytest.fixture(autouse=True)
def cache(monkeypatch, tmp_path):
    monkeypatch.setenv('DEPTH_REFINER_CACHE', str(tmp_path / 'cache'))
    return DiskCache()


def test_what_was_compiled_is_not_compiled_again(tiny, frame, cache):
    first = load_model(tiny, 'openvino')(**frame)
    (entry,) = cache.entries()
    assert entry.facts['kind'] == 'openvino'
    assert entry.facts['shapes'] == {'depth_m': [6, 8], 'color': [6, 8, 3]}
    model = load_model(tiny, 'openvino')
    model._core = Forbidden(model._core)
    model._requests.clear()
    for name, values in model(**frame).items():
        np.testing.assert_array_equal(values, first[name])


class Forbidden:
    """A core of OpenVINO that compiles nothing."""

    def __init__(self, core):
        self._core = core

    def import_model(self, *args):
        return self._core.import_model(*args)


def test_another_size_is_another_entry(tiny, frame, cache):
    model = load_model(tiny, 'openvino')
    model(**{name: value[:4] for name, value in frame.items()})
    assert len(cache.entries()) == 2


def test_a_cache_that_cannot_be_used_costs_time_only(tiny, frame, monkeypatch, tmp_path):
    (tmp_path / 'file').touch()
    monkeypatch.setenv('DEPTH_REFINER_CACHE', str(tmp_path / 'file' / 'cache'))
    assert load_model(tiny, 'openvino')(**frame)['estimate_m'].shape == (6, 8)


def test_an_entry_that_openvino_does_not_take_is_compiled_anew(tiny, frame, cache):
    model = load_model(tiny, 'openvino')
    (entry,) = cache.entries()
    cache.put(entry.facts, b'not a model')
    model = load_model(tiny, 'openvino')
    assert model(**frame)['estimate_m'].shape == (6, 8)
    assert cache.get(entry.facts) != b'not a model'
