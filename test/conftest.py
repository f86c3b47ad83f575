from __future__ import annotations

import os
from pathlib import Path

import hypothesis
import pytest

# The same examples on every run and machine; how long one takes is no property of the code.
hypothesis.settings.register_profile(
    'repeatable', derandomize=True, database=None, deadline=None, max_examples=60
)
hypothesis.settings.load_profile('repeatable')


@pytest.fixture(scope='session')
def recordings() -> Path:
    """The folder of real recordings; tests that need it are skipped where it is absent."""
    default = Path(__file__).parents[1].parent / 'shared' / 'data'
    folder = Path(os.environ.get('DEPTH_REFINER_DATA', default))
    if not folder.is_dir():
        pytest.skip(f'no recordings in {folder}; set DEPTH_REFINER_DATA')
    return folder
