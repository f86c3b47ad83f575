"""Kernels: compiled once, loaded afterwards, and never a hindrance."""

from __future__ import annotations

import os
from pathlib import Path
import subprocess
import sys

import numpy as np
import pytest

from depth_refiner_ros import kernels
from depth_refiner_ros.disk_cache import DiskCache
from depth_refiner_ros.kernels import FloatImage, FloatImageOut, Kernel, compile_kernels

_TWO = np.float32(2)


def _twice(value: np.float32) -> np.float32:
    return _TWO * value


def _scaled(image: FloatImage, factor: np.float32, out: FloatImageOut) -> None:
    for y in range(image.shape[0]):
        for x in range(image.shape[1]):
            out[y, x] = factor * _twice(image[y, x])


@pytest.fixture
def fresh(monkeypatch, tmp_path):
    """Make kernels nobody has compiled, with a cache of their own."""
    monkeypatch.setenv('DEPTH_REFINER_CACHE', str(tmp_path / 'cache'))
    monkeypatch.setattr(kernels, '_KERNELS', [])
    return lambda: Kernel(_scaled)


def check(kernel):
    image, out = np.arange(12, dtype=np.float32).reshape(3, 4), np.zeros((3, 4), np.float32)
    kernel(image, 1.5, out)
    np.testing.assert_array_equal(out, 3 * image)


def test_compiled_once_and_loaded_from_then_on(fresh):
    said = []
    first = compile_kernels([fresh()], say=said.append)
    assert (first.compiled, first.loaded, first.trouble) == (1, 0, '')
    assert len(said) == 1
    again = fresh()
    second = compile_kernels([again], say=said.append)
    assert (second.compiled, second.loaded, second.trouble) == (0, 1, '')
    assert len(said) == 1
    check(again)


def test_what_an_interrupted_write_left_is_compiled_anew(fresh):
    compile_kernels([fresh()])
    (entry,) = DiskCache().entries()
    entry.path.write_bytes(entry.path.read_bytes()[:-100])
    again = fresh()
    assert compile_kernels([again]).compiled == 1
    check(again)
    assert compile_kernels([fresh()]).loaded == 1


def test_code_for_another_processor_is_not_taken(fresh, monkeypatch):
    own = fresh()
    facts = own.facts()
    DiskCache().put(facts | {'cpu': 'another'}, b'no code for this one')
    assert compile_kernels([own]).compiled == 1
    check(own)


def test_code_may_be_for_a_plainer_processor(fresh, monkeypatch):
    here = fresh().facts()
    monkeypatch.setenv('NUMBA_CPU_NAME', 'generic')
    plain = fresh()
    assert plain.facts() == here | {'cpu': 'generic', 'cpu_features': ''}
    check(plain)


def test_where_nothing_can_be_written_it_is_said(fresh, monkeypatch, tmp_path):
    (tmp_path / 'file').write_text('')
    monkeypatch.setenv('DEPTH_REFINER_CACHE', str(tmp_path / 'file' / 'cache'))
    kernel, said = fresh(), []
    found = compile_kernels([kernel], say=said.append)
    assert found.compiled == 1
    assert str(tmp_path) in found.trouble
    assert found.trouble in said[-1]
    check(kernel)


def test_a_change_of_a_constant_is_another_kernel(monkeypatch):
    before = Kernel(_scaled).facts()
    monkeypatch.setattr(sys.modules[__name__], '_TWO', np.float32(3), raising=True)
    assert Kernel(_scaled).facts() != before


def test_arrays_that_do_not_fit_are_refused(fresh):
    kernel, image = fresh(), np.ones((3, 4), np.float32)
    frozen = image.copy()
    frozen.flags.writeable = False
    kernel(frozen.T, 1.0, np.empty((4, 3), np.float32))
    for wrong in (image.astype(np.float64), image[0]):
        with pytest.raises(TypeError, match='image'):
            kernel(wrong, 1.0, image)
    for wrong in (frozen, image.T):
        with pytest.raises(TypeError, match='out'):
            kernel(image, 1.0, wrong)


def test_a_missing_compiler_is_named(fresh, monkeypatch):
    monkeypatch.setitem(sys.modules, 'llvmlite.binding', None)
    with pytest.raises(ValueError, match=r'pip install numba.*python3-numba'):
        compile_kernels([fresh()])


def test_a_later_start_imports_no_numba():
    """Of the filters' own kernels, which `compile_kernels` leaves in the cache."""
    compile_kernels()
    code = (
        'import sys, depth_refiner_ros.stages, depth_refiner_ros.kernels as kernels\n'
        "assert 'llvmlite' not in sys.modules\n"
        'assert kernels.compile_kernels().compiled == 0\n'
        "assert 'numba' not in sys.modules"
    )
    root = Path(kernels.__file__).parents[1]
    environment = os.environ | {'PYTHONPATH': str(root)}
    done = subprocess.run(
        [sys.executable, '-c', code], env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr


def _copied(image: FloatImage, factor: np.float32, out: FloatImageOut) -> None:
    out[:] = image + factor


def test_a_kernel_that_allocates_is_refused(fresh):
    fresh()
    with pytest.raises(ValueError, match='copied allocates memory'):
        compile_kernels([Kernel(_copied)])
