from __future__ import annotations

import json
import os
from pathlib import Path
import signal
import subprocess
import sys
import textwrap
import time

import numpy as np
import pytest

from depth_refiner_ros.evaluation import workers
from depth_refiner_ros.evaluation.run import Job
from depth_refiner_ros.evaluation.workers import Finished, frame_total, run_locally

ROOT = Path(__file__).parents[2]
# A machine may be busy with something else; what never comes is found out all the same.
PATIENCE_S = 300


def assert_same(result, other):
    """Two results are equal to the bit in all but times."""
    result, other = json.loads(json.dumps([result, other]))
    for name, c in result['contenders'].items():
        known = other['contenders'][name]
        for one in (c, known):
            del one['latency'], one['metrics']['latency_p50_ms'], one['metrics']['latency_p99_ms']
        for metric in ('dbe_accuracy_px', 'dbe_completeness_px'):
            # The last bit of OpenCV's distance transform changes from call to call.
            values = c['metrics'].pop(metric, None), known['metrics'].pop(metric, None)
            assert values[0] == pytest.approx(values[1], rel=1e-6)
    assert result == other


def script(tmp_path, text, *arguments, **environment):
    """Start a Python script of its own, as spawned workers need one."""
    file = tmp_path / 'script.py'
    file.write_text(textwrap.dedent(text))
    return subprocess.Popen(
        [sys.executable, str(file), *map(str, arguments)],
        cwd=tmp_path,
        env={**os.environ, 'PYTHONPATH': str(ROOT), **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def until(condition):
    end_s = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < end_s, 'waited in vain'
        time.sleep(0.02)


@pytest.fixture
def contenders(tmp_path):
    """Two peers and the classical filters: loading a model takes each process a second."""
    classical = tmp_path / 'classical.yaml'
    classical.write_text("stages: refine_depth,inpaint_depth\ninpaint_depth: {model: ''}\n")
    return 'raw', 'nearest', str(classical)


@pytest.fixture
def jobs(noisy_folder, contenders):
    """Three sources under three protocols."""
    static = np.ones((48, 64))
    paths = [
        noisy_folder('a', seed=1),
        noisy_folder('b', seed=2, static=static),
        noisy_folder('c', seed=3, references_mm={1: np.full((48, 64), 1900, np.uint16)}),
    ]
    return [Job(str(path), contenders) for path in paths]


def test_frame_total(noisy_folder):
    path = str(noisy_folder('a', 5))
    masked = str(noisy_folder('b', 4, static=np.ones((48, 64))))
    assert frame_total([Job(path), Job(path, draws=3), Job(path, max_frames=2)]) == 5 + 15 + 2
    assert frame_total([Job(masked, draws=3)]) == 4


def test_worker_processes_change_no_figure(jobs, tmp_path):
    folders = [tmp_path / name for name in ('here', 'there')]
    found = []
    for folder, count in zip(folders, (1, 2), strict=True):
        folder.mkdir()
        ticks = []
        results = dict(run_locally(jobs, folder, count, ticks.append))
        assert sum(ticks) == 9
        found.append([results[job] for job in jobs])
    for one, other in zip(*found, strict=True):
        assert_same(one, other)
    for file in folders[0].glob('*.png'):
        assert file.read_bytes() == (folders[1] / file.name).read_bytes()


def test_a_failing_source_is_named(jobs, tmp_path):
    bad = Job(jobs[0].path, ('project_points',))
    with pytest.raises(ValueError, match=rf'{bad.path}: project_points fails on frame 000'):
        dict(run_locally([bad, jobs[1]], tmp_path, 2, lambda _: None))


# ---------------------------------------------------------------------------- finished


def test_finished_work_is_found_until_what_it_was_made_from_changes(
    noisy_folder, tmp_path, monkeypatch
):
    path = noisy_folder('x')
    parameters = tmp_path / 'p.yaml'
    parameters.write_text('stages: refine_depth\n')
    job = Job(str(path), ('raw', str(parameters)))
    folder = tmp_path / 'report/.finished'
    finished = Finished(folder)
    result = {'name': 'x', 'pictures': {}}

    assert finished.get(job) is None
    finished.put(job, result)
    assert finished.get(job) == result
    assert Finished(folder).get(job) == result
    assert finished.get(Job(job.path, job.contenders, seed=1)) is None
    assert finished.get(Job(job.path, ('raw',))) is None

    parameters.write_text('stages: refine_depth\nrefine_depth: {temporal: false}\n')
    assert finished.get(job) is None
    parameters.write_text('stages: refine_depth\n')
    assert finished.get(job) == result

    monkeypatch.setattr(workers, 'environment', lambda: {'commit': 'other', 'versions': {}})
    assert Finished(folder).get(job) is None
    assert finished.get(job) == result

    depth = path / 'depth/000.png'
    os.utime(depth, ns=(0, depth.stat().st_mtime_ns + 1))
    assert finished.get(job) is None


def test_finished_work_needs_its_pictures_and_whole_files(noisy_folder, tmp_path):
    job = Job(str(noisy_folder('x')), ('raw',))
    finished = Finished(tmp_path / 'report/.finished')
    finished.put(job, {'pictures': {'best': 'x-best.png'}})
    assert finished.get(job) is None
    (tmp_path / 'report/x-best.png').touch()
    assert finished.get(job) is not None
    (kept,) = (tmp_path / 'report/.finished').iterdir()
    kept.write_text(kept.read_text()[:-3])
    assert finished.get(job) is None


# -------------------------------------------------------------------------- accidents

# Evaluates like the command, but every source after the first waits for a file.
RUN = """
    import os, sys, time
    from pathlib import Path
    from depth_refiner_ros.cli import main
    from depth_refiner_ros.evaluation import workers

    real = workers.do

    def do(job, folder, on_frame=lambda: None):
        log = Path('log')
        first = not log.exists()
        with log.open('a') as file:
            print(Path(job.path).name, file=file)
        if not first and not Path('go').exists():
            Path('waiting').touch()
            time.sleep(600)
        return real(job, folder, on_frame)

    workers.do = do
    if __name__ == '__main__':
        sys.exit(main(['evaluate', *sys.argv[1:]]))
"""


def sources(jobs):
    return [job.path for job in jobs]


@pytest.mark.parametrize('how', [signal.SIGKILL, signal.SIGINT])
def test_a_run_that_was_stopped_continues(jobs, contenders, tmp_path, how):
    flags = ('--contenders', *contenders, '--workers', '1', '--report', 'report')
    stopped = script(tmp_path, RUN, *sources(jobs), *flags)
    until((tmp_path / 'waiting').exists)
    (report,) = (tmp_path / 'report/.finished').glob('*.json')
    kept = report.stat().st_mtime_ns
    stopped.send_signal(how)
    _, err = stopped.communicate(timeout=PATIENCE_S)
    if how == signal.SIGINT:
        assert stopped.returncode == 130
        assert 'Traceback' not in err
        assert 'interrupted' in err
    assert not (tmp_path / 'report/metrics.json').exists()

    (tmp_path / 'go').touch()
    again = script(tmp_path, RUN, *sources(jobs), *flags)
    _, err = again.communicate(timeout=PATIENCE_S)
    assert again.returncode == 0, err
    assert '1 of 3 sources were finished before' in err
    assert (tmp_path / 'log').read_text().split() == ['a', 'b', 'b', 'c']
    assert report.stat().st_mtime_ns == kept

    found = json.loads((tmp_path / 'report/metrics.json').read_text())['sources']
    named = [Job(job.path, job.contenders, name=Path(job.path).name) for job in jobs]
    whole = dict(run_locally(named, tmp_path, 1, lambda _: None))
    for job, result in zip(named, found, strict=True):
        assert_same(result, whole[job])


WORKERS = """
    import os, sys, time
    from pathlib import Path
    from depth_refiner_ros.evaluation import workers
    from depth_refiner_ros.evaluation.run import Job

    real = workers.do

    def do(job, folder, on_frame=lambda: None):
        if Path(job.path).name == 'b':
            Path(f'pid-{os.getpid()}').touch()
            if sys.argv[1] == 'dies':
                os._exit(1)
            time.sleep(600)
        return real(job, folder, on_frame)

    workers.do = do
    if __name__ == '__main__':
        jobs = [Job(path, ('raw',)) for path in sys.argv[2:]]
        try:
            for job, result in workers.run_locally(jobs, Path('.'), 2, lambda _: None):
                Path(f'done-{result["name"]}').touch()
        except (ValueError, KeyboardInterrupt) as error:
            print(type(error).__name__, error)
"""


def running(tmp_path):
    return [int(p.name[4:]) for p in tmp_path.glob('pid-*') if alive(int(p.name[4:]))]


def alive(pid):
    try:
        state = Path(f'/proc/{pid}/stat').read_text().rpartition(')')[2].split()[0]
    except OSError:
        return False
    return state != 'Z'


def test_a_dead_worker_is_one_sentence(jobs, tmp_path):
    run = script(tmp_path, WORKERS, 'dies', *sources(jobs))
    out, err = run.communicate(timeout=PATIENCE_S)
    assert out.startswith('ValueError a worker process died, perhaps for lack of memory; ')
    assert 'fewer than 2 --workers' in out
    assert out.count('\n') == 1
    assert 'Traceback' not in err


@pytest.mark.skipif(not Path('/proc/self/stat').exists(), reason='looks into /proc')
@pytest.mark.parametrize('how', [signal.SIGKILL, signal.SIGINT])
def test_workers_end_with_their_parent(jobs, tmp_path, how):
    run = script(tmp_path, WORKERS, 'sleeps', *sources(jobs))
    until(lambda: (tmp_path / 'done-a').exists() and running(tmp_path))
    if how == signal.SIGINT:
        os.killpg(run.pid, how)  # as a terminal does
        out, err = run.communicate(timeout=PATIENCE_S)
        assert out.startswith('KeyboardInterrupt')
        assert 'Traceback' not in err
    else:
        run.kill()
        run.communicate(timeout=PATIENCE_S)
    until(lambda: not running(tmp_path))


# --------------------------------------------------------------------------------- ray


@pytest.mark.parametrize(
    ('address', 'words'),
    [
        ('127.0.0.1:9', 'no Ray cluster at 127.0.0.1:9: '),
        ('ray://127.0.0.1:9', 'no Ray cluster at ray://127.0.0.1:9: '),
        ('auto', 'no Ray cluster at auto: Could not find any running Ray instance'),
        ('127.0.0.1:port', 'no Ray cluster at 127.0.0.1:port: invalid literal'),
    ],
)
def test_an_unreachable_cluster_is_one_sentence(jobs, tmp_path, address, words, monkeypatch):
    pytest.importorskip('ray')
    if address == 'auto':
        # Another cluster of this machine is none of ours.
        monkeypatch.delenv('RAY_ADDRESS', raising=False)
        monkeypatch.setenv('RAY_TMPDIR', str(tmp_path))
    with pytest.raises(ValueError, match=words):
        next(workers.run_on_ray(jobs, tmp_path, address, lambda _: None))


def test_ray_is_optional(jobs, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, 'ray', None)
    with pytest.raises(ValueError, match=r'pip install "depth_refiner_ros\[cluster\]"'):
        next(workers.run_on_ray(jobs, tmp_path, 'auto', lambda _: None))


CLUSTER = """
    import json, os, sys, tempfile
    from pathlib import Path
    import warnings

    warnings.simplefilter('ignore')
    import ray
    from ray.cluster_utils import Cluster

    from depth_refiner_ros.evaluation import workers
    from depth_refiner_ros.evaluation.run import Job

    FLAG, FOLDER = Path(sys.argv[1]) / 'died', Path(sys.argv[1])
    real = workers._do_anywhere

    def dies_once(job):
        if job.path.endswith('/b') and not FLAG.exists():
            FLAG.touch()
            os._exit(1)
        (FOLDER / f'node-{ray.get_runtime_context().get_node_id()}').touch()
        return real(job)

    workers._do_anywhere = dies_once
    alone = {'num_cpus': 1, 'include_dashboard': False, 'node_ip_address': '127.0.0.1'}
    cluster = Cluster(initialize_head=True, head_node_args=alone)
    try:
        cluster.add_node(num_cpus=1, node_ip_address='127.0.0.1')
        cluster.wait_for_nodes()
        jobs = [Job(os.path.relpath(p), tuple(sys.argv[2].split())) for p in sys.argv[3:]]
        ticks = []
        found = {}
        for job, result in workers.run_on_ray(jobs, FOLDER, cluster.address, ticks.append):
            found[result['name']] = result
        try:
            list(workers.run_on_ray(
                [Job(jobs[0].path, ('project_points',))], FOLDER, cluster.address, ticks.append
            ))
        except ValueError as error:
            found['error'] = str(error)
        print(json.dumps({'ticks': sum(ticks), **found}))
    finally:
        cluster.shutdown()
"""


def test_a_ray_cluster_of_two_nodes(jobs, contenders, tmp_path):
    """The same figures as without; the source of a worker that was killed is redone."""
    pytest.importorskip('ray')
    parameters = tmp_path / 'mine.yaml'
    parameters.write_text('stages: refine_depth\n')
    with_mine = (*contenders, 'mine.yaml')
    there = tmp_path / 'there'
    there.mkdir()
    run = script(
        tmp_path,
        CLUSTER,
        there,
        ' '.join(with_mine),
        *sources(jobs),
        RAY_USAGE_STATS_ENABLED='0',
        # Ray's own switch for a cluster that listens on the loopback interface only.
        RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER='0',
    )
    out, err = run.communicate(timeout=PATIENCE_S)
    assert run.returncode == 0, err
    found = json.loads(out.splitlines()[-1])
    assert (there / 'died').exists()
    assert len(list(there.glob('node-*'))) == 2
    assert found['ticks'] == 9
    assert 'a: project_points fails on frame 000: ' in found['error']
    assert '\n' not in found['error']
    for job in jobs:
        local = workers.do(Job(job.path, (*contenders, str(parameters))), tmp_path)
        remote = found[local['name']]
        assert remote['path'] == os.path.relpath(job.path, tmp_path)
        assert_same({**remote, 'path': job.path}, local)
        for name in local['pictures'].values():
            assert (there / name).read_bytes() == (tmp_path / name).read_bytes()
