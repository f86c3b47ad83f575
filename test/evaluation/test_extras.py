from __future__ import annotations

import importlib

import pytest

from depth_refiner_ros.evaluation import extras


@pytest.mark.parametrize(
    ('error', 'says'),
    [
        (ModuleNotFoundError("No module named 'open3d'", name='open3d'), 'pip install open3d-cpu'),
        (
            ImportError('libusb-1.0.so.0: cannot open shared object file'),
            'Open3D does not start: libusb-1.0.so.0: .* apt install libusb-1.0-0',
        ),
    ],
)
def test_what_open3d_lacks_is_said(monkeypatch, error, says):
    def fails(name):
        raise error

    monkeypatch.setattr(importlib, 'import_module', fails)
    with pytest.raises(ImportError, match=says):
        extras.open3d()
