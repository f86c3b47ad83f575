from __future__ import annotations

import json
import threading

import numpy as np
import pytest

pytest.importorskip('onnx', reason='makes the models of these tests: pip install onnx')
pytest.importorskip('onnxruntime', reason='runs the models of these tests')

from depth_refiner_ros.cli import compile_model, main
from depth_refiner_ros.disk_cache import DiskCache
from depth_refiner_ros.inference import compiling, load_model

from ..inference.conftest import convolving, fake, frame, install  # noqa: F401


def test_what_is_missing_is_said_on_one_line(refuse, monkeypatch):
    monkeypatch.setattr(compiling, 'lacking', lambda: ['TensorRT: pip install x', 'a GPU'])
    error = refuse('compile', 'depth_small')
    assert 'this machine lacks TensorRT: pip install x; a GPU' in error


def test_what_cannot_be_is_refused_before_anything_runs(refuse, tmp_path):
    assert 'did you mean depth_small' in refuse('compile', 'depth_smal')
    bag = tmp_path / 'none.mcap'
    assert '--precision int8' in refuse('compile', 'depth_small', '--calibrate', bag)
    assert '--size' in refuse('compile', 'depth_small', '--size', '0', '480')


def test_a_model_is_compiled_and_then_found(fake, convolving, capsys):  # noqa: F811
    sizes = ['--size', '24', '20', '--size', '40', '30']
    assert main(['compile', str(convolving), *sizes]) == 0
    out = capsys.readouterr().out
    assert 'convolving: median 0.' in out
    assert 'is ready for tensorrt-fp16: 8x6, 16x12, 24x20, 40x30' in out
    assert load_model(convolving, 'tensorrt-fp16').sizes[-1] == (30, 40)
    assert main(['compile', str(convolving)]) == 0
    assert 'was compiled before' in capsys.readouterr().out


def test_int8_is_calibrated_on_a_recording(fake, convolving, bags, tmp_path, capsys):  # noqa: F811
    bag = bags.write(tmp_path / 'some.mcap', bags.scene(30))
    arguments = ['compile', str(convolving), '--precision', 'int8']
    main([*arguments, '--calibrate', str(bag)])
    (entry,) = [e for e in DiskCache().entries() if e.facts['kind'] == 'calibration']
    assert b'"frames": 30' in DiskCache().get(entry.facts)
    assert 'calibrated on 30 frames' in capsys.readouterr().out


def test_frames_are_taken_from_all_over_a_recording(bags, tmp_path, monkeypatch):
    monkeypatch.setattr(compile_model, '_CALIBRATION_FRAMES', 3)
    bag = bags.write(tmp_path / 'some.mcap', bags.scene(6))
    command = compile_model.Compile('depth_small')
    configuration = compile_model.configure({'stages': 'register_color'})
    frames = list(compile_model._frames(bag, configuration, command))
    assert len(frames) == 3
    for number, found in zip((0, 2, 4), frames, strict=True):
        want_m = bags.depth_m(number)[::2, ::2]
        np.testing.assert_allclose(found['depth_m'], want_m, atol=6e-4)
        assert found['color'].shape == (*want_m.shape, 3)
        assert tuple(found['color'][0, 0]) == bags.RGB


def test_a_recording_that_is_not_there_is_said(fake, convolving, refuse, tmp_path):  # noqa: F811
    arguments = ('compile', convolving, '--precision', 'int8', '--calibrate')
    assert 'does not exist' in refuse(*arguments, tmp_path / 'none.mcap')


def test_interrupted_it_cancels_and_keeps_nothing(fake, convolving, monkeypatch):  # noqa: F811
    begun = threading.Event()
    fake.on_step = lambda step: begun.set() or threading.Event().wait(0.02)
    fake.steps = 500

    def interrupt(compilation, seconds):
        begun.wait(10)
        raise KeyboardInterrupt

    monkeypatch.setattr(compiling.Compilation, 'wait', interrupt)
    assert main(['compile', str(convolving)]) == 130
    assert DiskCache().entries() == []


def test_the_cache_is_listed_and_cleared(fake, convolving, capsys):  # noqa: F811
    assert main(['cache', 'ls']) == 0
    assert capsys.readouterr().out.startswith('0 in ')
    main(['compile', str(convolving)])
    capsys.readouterr()
    assert main(['cache', 'ls']) == 0
    out = capsys.readouterr().out
    for words in ('engine', 'timing', 'convolving', 'fp16', '8x6, 16x12', 'Orin, compute 8.7'):
        assert words in out
    assert main(['cache', 'clear']) == 0
    assert capsys.readouterr().out.startswith('2 removed from ')
    assert DiskCache().entries() == []


def test_the_doctor_knows_what_is_compiled(fake, convolving, capsys, monkeypatch):  # noqa: F811
    def found(check):
        capsys.readouterr()
        main(['doctor', '--json'])
        findings = json.loads(capsys.readouterr().out)['findings']
        return [f for f in findings if f['check'] == check]

    assert [f['action'] for f in found('engines')] == ['depth-refiner compile depth_small']
    main(['compile', str(convolving)])
    assert found('engines')[0]['what'].startswith('convolving (fp16) in ')
    monkeypatch.setattr(compiling, '_DEVICES', ())
    (gpu,) = found('gpu')
    assert 'NVIDIA GPU' in gpu['action']


def test_help_teaches(capsys):
    with pytest.raises(SystemExit):
        main(['compile', '--help'])
    out = capsys.readouterr().out
    for words in ('--calibrate', '--size', 'Ctrl-C', 'compared with ONNX Runtime'):
        assert words in out
