import sys

import cv2
import pytest

pytest.importorskip('torch', reason="training needs torch: pip install '.[train]'")

from training.render.__main__ import main


def run(monkeypatch, *arguments):
    size = ['--height', '32', '--width', '48', '--seconds', '0']
    monkeypatch.setattr(sys, 'argv', ['render', *size, *map(str, arguments)])
    main()


def test_a_sheet_has_four_pictures_of_each_scene(monkeypatch, tmp_path, capsys):
    path = tmp_path / 'new' / 'sheet.png'
    run(monkeypatch, '--scenes', 3, '--batch', 2, '--output', path)
    assert 'sheet.png: 3 scenes' in capsys.readouterr().out
    # Two scenes a row, half as large: 2 x (4 * 24) columns, 2 x 16 rows.
    sheet = cv2.imread(str(path))
    assert sheet.shape == (32, 192, 3)
    assert (sheet[16:, 96:] == 0).all()
    assert sheet[16:, :96].std() > 10
    # The third scene is the same alone.
    run(monkeypatch, '--first', 2, '--scenes', 1, '--output', path)
    assert (cv2.imread(str(path))[:, :96] == sheet[16:, :96]).mean() > 0.99


def test_a_sheet_of_nothing_is_refused(monkeypatch, tmp_path):
    with pytest.raises(SystemExit, match='at least 1'):
        run(monkeypatch, '--scenes', 0, '--output', tmp_path / 'sheet.png')
