from __future__ import annotations

import json
import mmap
import os

import numpy as np
import pytest

from depth_refiner_ros.evaluation import machine as module


def test_the_machine_describes_itself():
    found = module.machine()
    assert found['cpu']
    assert found['cores'] == os.cpu_count()
    assert 1 <= found['cores_allowed'] <= found['cores']
    assert found['numpy'] == np.__version__
    json.dumps(found, allow_nan=False)


def test_memory_is_in_megabytes():
    if (now_mb := module.resident_mb()) is None:
        pytest.skip('this system does not tell')
    # Of its own: an array may lie in what the tests before have freed.
    block = mmap.mmap(-1, 64 << 20)
    np.frombuffer(block, np.uint8)[:] = 1
    assert module.resident_mb() - now_mb == pytest.approx(len(block) / 1e6, abs=15)
    assert module.peak_resident_mb() >= now_mb


def test_revision_names_a_commit_or_none():
    found = module.revision()
    assert set(found) == {'version', 'commit', 'modified'}
    assert found['commit'] is None or len(found['commit']) == 40


def test_no_git_is_no_error(monkeypatch):
    monkeypatch.setenv('PATH', '')
    assert module.revision()['commit'] is None
