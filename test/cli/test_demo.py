from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from depth_refiner_ros import simulation
from depth_refiner_ros.cli import demo, main
from depth_refiner_ros.cli.demo import Costs, Demo, Scores, near_edges
from depth_refiner_ros.hosts.bag import open_bag

NAN = np.nan


def depth(*rows: list[float]) -> np.ndarray:
    return np.array(rows, np.float32)


def lines(scores: Scores) -> dict[str, tuple[float | None, float | None]]:
    return {line.name.partition(':')[0]: (line.before, line.after) for line in scores.lines()}


def test_scores_of_a_frame_worked_out_by_hand() -> None:
    truth_m = np.full((1, 5), 2, np.float32)
    scores = Scores()

    scores.add(
        depth([2.010, 1.980, NAN, NAN, NAN]), depth([2.000, 1.990, 2.050, 2.300, NAN]), truth_m
    )

    found = lines(scores)
    assert found['pixels without depth'] == (pytest.approx(60), pytest.approx(20))
    assert found['error of measured pixels on surfaces'] == (
        pytest.approx(15, rel=1e-4),  # (10 + 20) / 2
        pytest.approx(5, rel=1e-4),  # (0 + 10) / 2
    )
    assert found['error of measured pixels at depth edges'] == (None, None)
    assert found['error of filled holes'] == (None, pytest.approx(175, rel=1e-4))
    assert found['filled holes within 5 % of the truth'] == (None, pytest.approx(50))
    assert found['flicker'] == (None, None)  # there is but one frame


def test_errors_at_edges_are_counted_apart() -> None:
    truth_m = np.full((1, 20), 1, np.float32)
    truth_m[:, 10:] = 2
    before_m = truth_m + np.float32(0.01)
    before_m[:, 9] = 2

    scores = Scores()
    scores.add(before_m, truth_m, truth_m)

    found = lines(scores)
    assert found['error of measured pixels on surfaces'][0] == pytest.approx(10, rel=1e-3)
    # Three pixels on either side of the jump: five of 10 mm and one of 1 m.
    assert found['error of measured pixels at depth edges'][0] == pytest.approx(1050 / 6, rel=1e-3)


def test_flicker_is_how_much_an_error_changes_not_how_large_it_is() -> None:
    truth_m = np.full((1, 3), 2, np.float32)
    scores = Scores()

    scores.add(truth_m + np.float32(0.1), truth_m, truth_m)
    scores.add(truth_m + np.float32(0.1), truth_m + np.float32(0.02), truth_m)
    scores.add(depth([2.13, NAN, NAN]), truth_m + np.float32(0.02), truth_m)

    before, after = lines(scores)['flicker']
    # Three changes of 0, then one of 30 mm; the holes of the last frame are asked of neither.
    assert before == pytest.approx(30 / 4, rel=1e-3)
    assert after == pytest.approx((3 * 20 + 0) / 4, rel=1e-3)


def test_a_jump_of_three_percent_is_an_edge() -> None:
    truth_m = np.full((9, 20), 1, np.float32)
    truth_m[:, 10:] = 1.02
    assert not near_edges(truth_m).any()

    truth_m[:, 10:] = 1.04
    np.testing.assert_array_equal(np.flatnonzero(near_edges(truth_m)[4]), np.arange(7, 13))


def test_costs_are_medians_in_milliseconds() -> None:
    costs = Costs()
    costs.stage_s['refine_depth'] = [0.010, 0.030, 0.020]
    costs.frame_s = [0.1, 0.2]

    assert costs.rows() == [
        ('refine_depth', '20.0 ms'),
        ('all, reading and writing included', '150.0 ms'),
    ]


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    def simulate(frames: int, *, seed: int) -> Iterator[Any]:
        return simulation.simulate(frames, seed=seed, width=160, height=120)

    monkeypatch.setattr(demo, 'simulate', simulate)


@pytest.mark.usefixtures('small')
def test_the_demo_leaves_bags_a_picture_and_a_page(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for _ in range(2):  # the second replaces the first
        assert Demo(output=tmp_path / 'demo', frames=4).run() == 0

    counts = {}
    for name in ('recording', 'refined'):
        with open_bag(tmp_path / 'demo' / f'{name}.mcap') as reader:
            counts[name] = {c.topic: c.msgcount for c in reader.connections}
    recorded = {
        '/tf': 4,
        '/camera/depth/image_rect': 4,
        '/camera/depth/camera_info': 4,
        '/camera/color/image_rect': 4,
    }
    assert counts['recording'] == recorded
    assert counts['refined'] == recorded | {
        '/camera/depth_refined/image_rect': 4,
        '/camera/depth_inpainted/image_rect': 4,
        '/camera/depth_inpainted/camera_info': 4,
        '/camera/depth_inpainted/provenance': 4,
        '/camera/points': 4,
    }
    assert (tmp_path / 'demo' / 'before_after.png').stat().st_size > 10_000
    page = (tmp_path / 'demo' / 'index.html').read_text(encoding='utf-8')
    assert 'http' not in page
    assert page.count('<img') == 3
    assert 'pixels without depth' in page
    printed = capsys.readouterr().out
    for name in ('index.html', 'before_after.png', 'refined.mcap', 'refine_depth'):
        assert name in printed


@pytest.mark.usefixtures('small')
def test_ctrl_c_leaves_a_readable_recording(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    frames = list(simulation.simulate(2, width=160, height=120))

    def interrupted(count: int, *, seed: int) -> Iterator[Any]:
        yield from frames
        raise KeyboardInterrupt

    monkeypatch.setattr(demo, 'simulate', interrupted)

    assert main(['demo', '--output', str(tmp_path)]) == 130

    with open_bag(tmp_path / 'recording.mcap') as reader:
        assert {c.topic: c.msgcount for c in reader.connections}['/tf'] == 2
    assert capsys.readouterr().err == f'interrupted: {tmp_path} holds what was done\n'


def test_no_frames_make_no_demo(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match='at least 1'):
        Demo(output=tmp_path, frames=0).run()
