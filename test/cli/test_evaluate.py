from __future__ import annotations

from html.parser import HTMLParser
import json
from pathlib import Path
import sys

import cv2
import numpy as np
import pytest

from depth_refiner_ros.cli import main
from depth_refiner_ros.cli.evaluate import Gate, distinct_names
from depth_refiner_ros.evaluation import report

HEIGHT, WIDTH = 48, 64
CONTENDERS = ('--contenders', 'raw', 'nearest')


@pytest.fixture(autouse=True)
def no_plots(request, monkeypatch):
    """Plots take longer than all else here, and are looked at once."""
    if request.function is not test_what_is_written:
        monkeypatch.setattr(report, '_plots', lambda source: [])


@pytest.fixture
def recording(tmp_path):
    """A folder with one frame: a wall at 2 m whose hole of 10x20 px is 100 mm deep."""

    def make(name='wall', reference=True):
        path = tmp_path / name
        (path / 'depth').mkdir(parents=True)
        about = {'width': WIDTH, 'height': HEIGHT, 'fx': 60, 'fy': 60, 'cx': 31.5, 'cy': 23.5}
        about |= {'depth_unit_m': 0.001, 'color_aligned_to_depth': True}
        (path / 'camera.json').write_text(json.dumps(about))
        depth_mm = np.full((HEIGHT, WIDTH), 2000, np.uint16)
        truth_mm = depth_mm.copy()
        depth_mm[10:20, 10:30] = 0
        truth_mm[10:20, 10:30] = 2100
        cv2.imwrite(str(path / 'depth/000.png'), depth_mm)
        if reference:
            (path / 'reference').mkdir()
            cv2.imwrite(str(path / 'reference/000.png'), truth_mm)
        return path

    return make


def run(*arguments):
    return main(['evaluate', *map(str, arguments)])


def strict(text):
    def refuse(constant):
        raise AssertionError(f'{constant} is not JSON')

    return json.loads(text, parse_constant=refuse)


def test_what_is_written(recording, tmp_path, capsys):
    out = tmp_path / 'report'
    assert run(recording(), *CONTENDERS, '--report', out) == 0
    document = strict((out / 'metrics.json').read_text())
    assert document['schema'] == 1
    assert {'created', 'commit', 'versions', 'machine'} < set(document)
    (source,) = document['sources']
    assert (source['name'], source['protocol'], source['scored']) == ('wall', 'reference', 1)
    nearest = source['contenders']['nearest']['metrics']
    assert nearest['hole.mae_mm'] == pytest.approx(100, rel=1e-5)
    assert '| nearest | 100.0 | 1.000 | 1.000 | 0.0 |' in (out / 'report.md').read_text()
    HTMLParser().feed((out / 'index.html').read_text())
    stdout, stderr = capsys.readouterr()
    assert stdout == ''
    assert 'report.md and metrics.json are written' in stderr


def test_json_is_all_of_stdout(recording, tmp_path, capsys):
    assert run(recording(), *CONTENDERS, '--report', tmp_path / 'r', '--json') == 0
    out, _ = capsys.readouterr()
    assert strict(out) == strict((tmp_path / 'r/metrics.json').read_text())


def test_a_bag_gives_the_figures_of_its_folder(recording, tmp_path, capsys):
    folder, bag = recording(), tmp_path / 'bag.mcap'
    assert main(['import', str(folder), '-o', str(bag)]) == 0
    assert run(folder, bag, *CONTENDERS, '--report', tmp_path / 'r') == 0
    ours, theirs = strict((tmp_path / 'r/metrics.json').read_text())['sources']
    assert theirs['protocol'] == 'reference'
    for name, c in ours['contenders'].items():
        for metric, value in c['metrics'].items():
            if not metric.startswith('latency'):
                found = theirs['contenders'][name]['metrics'][metric]
                assert found == (value if value is None else pytest.approx(value, rel=1e-6))


def test_a_bag_without_reference_says_its_protocol(bags, tmp_path, capsys):
    path = bags.write(tmp_path / 'x.mcap', bags.scene(3))
    assert run(path, *CONTENDERS, '--report', tmp_path / 'r') == 0
    said = ' '.join(capsys.readouterr().err.split())
    assert 'x: No reference: the holes of other frames are cut into the measurements' in said
    assert '3 of 3 frames scored.' in said


@pytest.mark.parametrize(
    ('change', 'words'),
    [
        ({'encoding': '8UC1', 'step': 64}, '8UC1'),
        ({'data': np.zeros(7, np.uint8)}, '7'),
        ({'height': 24, 'data': np.ones(24 * 128, np.uint8)}, '64x24'),
    ],
)
def test_a_corrupt_frame_of_a_bag_is_named(bags, tmp_path, capsys, change, words):
    messages = bags.scene(3)
    for key, value in change.items():
        setattr(messages[5].msg, key, value)  # the depth of the second frame
    path = bags.write(tmp_path / 'x.mcap', messages)
    assert run(path, *CONTENDERS, '--report', tmp_path / 'r') == 0
    (source,) = strict((tmp_path / 'r/metrics.json').read_text())['sources']
    assert (source['frames'], source['scored']) == (3, 2)
    (corrupt,) = source['corrupt']
    assert words in corrupt['reason']
    assert f'Frame {corrupt["frame"]} left out: ' in capsys.readouterr().err


def test_default_contenders_run_on_any_bag(bags, tmp_path):
    # colour seen from a frame that no tf places
    messages = bags.scene(2, color_frame='elsewhere')
    for i in range(2):
        stamp_ns = bags.START_NS + i * bags.PERIOD_NS
        info = bags.info(stamp_ns, 'elsewhere')
        messages.insert(3 * i, bags.Message('/camera/color/camera_info', stamp_ns, info))
    path = bags.write(tmp_path / 'x.mcap', messages)
    assert run(path, '--report', tmp_path / 'r') == 0
    (source,) = strict((tmp_path / 'r/metrics.json').read_text())['sources']
    assert 'Colour is left out' in source['note']
    assert list(source['contenders'])[-1] == 'learned'
    assert source['contenders']['classical']['metrics']['hole.coverage'] > 0


# ------------------------------------------------------------------------------- gates


def test_gates_read():
    assert Gate.parse('hole.mae_mm>110') == ('', 'hole.mae_mm', '>', 110)
    assert Gate.parse(' nearest:hole.delta_1_05 <= 0.8') == (
        'nearest', 'hole.delta_1_05', '<=', 0.8,
    )  # fmt: skip
    assert Gate.parse('my robot:flicker_mm>=1e-3').limit == 0.001
    for bad in ('hole.mae_mm', 'hole.mae_mm=3', '>3', 'a>b', 'a>1.2.3', ''):
        with pytest.raises(ValueError, match='is not a condition such as'):
            Gate.parse(bad)


def test_gates_compare():
    sources = [
        {
            'name': 'one',
            'contenders': {'a': {'metrics': {'m': 1.0}}, 'b': {'metrics': {'m': 3.0}}},
        },
        {'name': 'two', 'contenders': {'a': {'metrics': {}}, 'b': {'metrics': {'m': None}}}},
    ]
    assert Gate.parse('m>2').failures(sources) == ['one: b has m 3 > 2']
    assert Gate.parse('a:m>2').failures(sources) == []
    assert Gate.parse('m>=3').failures(sources) == ['one: b has m 3 >= 3']
    assert Gate.parse('m<3').failures(sources) == []
    with pytest.raises(ValueError, match='no metric mm; did you mean m'):
        Gate.parse('mm>2').failures(sources)
    with pytest.raises(ValueError, match='m is undefined on every source'):
        Gate.parse('m>2').failures(sources[1:])


@pytest.mark.parametrize(
    ('gates', 'code'),
    [
        (['hole.mae_mm>110'], 0),
        (['hole.mae_mm>90'], 1),
        (['hole.mae_mm>110', 'raw:hole.coverage<0.5'], 1),
    ],
)
def test_gates_decide_the_exit_code(recording, tmp_path, capsys, gates, code):
    folder = recording()
    assert run(folder, *CONTENDERS, '--report', tmp_path / 'r', '--fail-if', *gates) == code
    assert ('failed: wall: ' in capsys.readouterr().err) == bool(code)
    assert (tmp_path / 'r/index.html').exists()


def test_what_users_can_mend(recording, tmp_path, refuse):
    folder, to = recording(), ('--report', tmp_path / 'r')
    base = ('evaluate', folder, *CONTENDERS, *to)
    assert 'name at least one folder or bag' in refuse('evaluate', *to)
    assert 'does not exist' in refuse('evaluate', tmp_path / 'none.mcap', *to)
    assert 'did you mean nearest' in refuse('evaluate', folder, *to, '--contenders', 'nearst')
    assert 'two contenders' in refuse('evaluate', folder, *to, '--contenders', 'raw', 'raw')
    assert 'name at least one' in refuse('evaluate', folder, *to, '--contenders')
    for flag in ('--draws', '--workers', '--max-frames'):
        assert f'{flag} must be at least 1' in refuse(*base, flag, 0)
    assert '--seed must not be negative' in refuse(*base, '--seed', -1)
    assert 'is not a condition' in refuse(*base, '--fail-if', 'mae')
    assert "no contender 'x'; raw, nearest" in refuse(*base, '--fail-if', 'x:hole.mae_mm>1')
    assert 'sensor' in refuse(
        'evaluate', folder, *to, '--contenders', 'refine_depth', '--sensor', 'eye'
    )
    assert not (tmp_path / 'r').exists()  # none of it took minutes to find out


def test_what_shows_only_at_the_end(recording, tmp_path, capsys):
    folder, to = recording(), ('--report', tmp_path / 'r')
    base = (folder, *CONTENDERS, *to)
    assert run(*base, '--fail-if', 'hole.mae>1') == 2
    assert 'no metric hole.mae; did you mean hole.mae_mm?' in capsys.readouterr().err
    assert run(*base, '--fail-if', 'raw:hole.mae_mm>1') == 2
    assert 'hole.mae_mm is undefined on every source' in capsys.readouterr().err
    assert run(folder, '--contenders', 'project_points', *to) == 2
    assert 'wall: project_points fails on frame 000' in capsys.readouterr().err
    assert run(folder, *CONTENDERS, *to, '--protocol', 'static') == 2
    assert 'has no static_mask.png' in capsys.readouterr().err


# ------------------------------------------------------------------------------ others


def test_the_second_time_nothing_is_done_again(recording, tmp_path, capsys):
    arguments = (recording(), *CONTENDERS, '--report', tmp_path / 'r')
    assert run(*arguments) == 0
    first = strict((tmp_path / 'r/metrics.json').read_text())['sources']
    capsys.readouterr()
    assert run(*arguments) == 0
    assert '1 of 1 sources were finished before' in capsys.readouterr().err
    assert strict((tmp_path / 'r/metrics.json').read_text())['sources'] == first


def test_distinct_names(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    paths = [Path(p) for p in ('a/run.mcap', 'b/run.mcap', 'c/x.mcap', 'a/../a/run.mcap', 'd/y')]
    assert distinct_names(paths) == {
        'a/run': paths[0],
        'b/run': paths[1],
        'x': paths[2],
        'y': paths[4],
    }  # fmt: skip
    assert distinct_names([Path('run.mcap'), Path('run.bag')]) == {
        'run.mcap': Path('run.mcap'), 'run.bag': Path('run.bag'),
    }  # fmt: skip


def test_sources_called_alike_keep_their_pictures(recording, tmp_path):
    here, there = recording('a/wall'), recording('b/wall')
    assert run(here, there, here, *CONTENDERS, '--report', tmp_path / 'r') == 0
    sources = strict((tmp_path / 'r/metrics.json').read_text())['sources']
    assert [s['name'] for s in sources] == ['a/wall', 'b/wall']
    assert len(list((tmp_path / 'r').glob('*-best.png'))) == 2


@pytest.mark.parametrize('width', [80, 120])
def test_the_table_is_whole_in_a_terminal(recording, tmp_path, capsys, monkeypatch, width):
    monkeypatch.setenv('COLUMNS', str(width))
    contenders = ('raw', 'a_rather_long_name_of_a_contender=nearest')
    assert run(recording(), '--contenders', *contenders, '--report', tmp_path / 'r') == 0
    err = capsys.readouterr().err
    assert '…' not in err
    assert max(map(len, err.splitlines()[:-1])) <= width
    assert ' 100.0 ' in err
    words = ''.join(line.split()[0] for line in err.splitlines() if line.strip())
    assert 'a_rather_long_name_of_a_contender' in words


def test_help_is_for_newcomers(capsys):
    with pytest.raises(SystemExit):
        run('--help')
    out = ' '.join(capsys.readouterr().out.replace('│', ' ').split())
    for words in ('Folders of images and bags', 'NAME=WHAT names one', 'exit code 1, for CI'):
        assert words in out


def test_downstream_without_open3d_is_one_sentence(tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, 'open3d', None)
    code = main(['evaluate', str(tmp_path), '--downstream', '--report', str(tmp_path / 'r')])
    assert code == 2
    assert 'pip install open3d-cpu' in capsys.readouterr().err
