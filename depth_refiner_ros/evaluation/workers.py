"""Evaluates many sources: in this process, in local worker processes, or on a Ray cluster.

Finished sources are kept on disk, so that a run that was killed continues where it stopped.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import replace
import hashlib
import json
import logging
import math
import multiprocessing
import os
from pathlib import Path
import signal
import socket
import tempfile
from threading import Thread
from typing import Any

import cv2

from ..metrics import to_json
from ..parameters import parameter_values
from .downstream import downstream_of
from .report import draw, environment, summary
from .run import PARAMETER_FILES, Job, contenders_of, draws_of, evaluate, named

Progress = Callable[[int], None]


def frame_total(jobs: Sequence[Job]) -> int:
    """Return how many frames jobs will feed, to size a progress bar.

    Raises:
        OSError, ValueError: If a source cannot be opened.
    """
    return sum(_frames_of(job) for job in jobs)


def _frames_of(job: Job) -> int:
    source = job.open()
    frames = len(source)
    return min(frames, job.max_frames or frames) * draws_of(job, source)


def do(job: Job, folder: Path, on_frame: Callable[[], None] = lambda: None) -> dict[str, Any]:
    """Evaluate one source and draw its pictures; return its part of metrics.json.

    Args:
        job: What to evaluate.
        folder: Where pictures go.
        on_frame: Called after every frame.

    Raises:
        OSError: If a file cannot be read or written.
        ValueError: If the source or a contender cannot be used; it names the source.
    """
    try:
        evaluation = evaluate(job, on_frame)
    except ValueError as error:
        raise ValueError(f'{job.path}: {error}') from error
    result = {**summary(evaluation), 'pictures': draw(evaluation, folder)}
    if job.downstream:
        last = evaluation.contenders[-1]
        scores = downstream_of(Path(job.path), last.name, last.pipeline(last.parameters))
        result['downstream'] = {name: _defined(to_json(s)) for name, s in scores.items()}
    return result


def _defined(value: Any) -> Any:
    """Replace what is not a number by None, which JSON has."""
    if isinstance(value, dict):
        return {name: _defined(item) for name, item in value.items()}
    return None if isinstance(value, float) and not math.isfinite(value) else value


class Finished:
    """Results on disk, by what they were made from.

    A result is found again only for the same job, with the same parameters, on the same files, by
    the same code and versions. Files count as the same while size and time of change are.

    Args:
        folder: Where results are kept.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        ran = environment()
        package = Path(__file__).resolve().parents[1]
        # A commit says nothing about what is not committed yet.
        self._code = ran['commit'], ran['versions'], _stats(package.rglob('*.py'))

    def get(self, job: Job) -> dict[str, Any] | None:
        """Return a job's result, if it was finished."""
        try:
            found = json.loads(self._path(job).read_text(encoding='utf-8'))
        except (OSError, ValueError):
            return None
        pictures = found.get('pictures', {}).values()
        complete = all((self._folder.parent / name).exists() for name in pictures)
        return found if complete else None

    def put(self, job: Job, result: dict[str, Any]) -> None:
        """Keep a job's result; half a file is never left behind."""
        self._folder.mkdir(parents=True, exist_ok=True)
        path = self._path(job)
        with tempfile.NamedTemporaryFile(
            'w', dir=self._folder, suffix='.part', delete=False, encoding='utf-8'
        ) as part:
            json.dump(result, part)
        Path(part.name).replace(path)

    def _path(self, job: Job) -> Path:
        source = Path(job.path)
        recorded = source.rglob('*') if source.is_dir() else [source]
        contenders = []
        for c in contenders_of(job):
            values = parameter_values(c.parameters)
            named = [Path(v) for v in values.values() if isinstance(v, str) and v]
            contenders.append((c.name, list(c.pipeline.stage_types), values, _stats(named)))
        made_from = repr((job, _stats(recorded), contenders, self._code))
        return self._folder / f'{hashlib.sha256(made_from.encode()).hexdigest()[:24]}.json'


def _stats(paths: Iterable[Path]) -> list[tuple[str, int, int]]:
    """Return name, size and time of change of those paths that are files, in order."""
    files = sorted(path for path in paths if path.is_file())
    stats = [(str(path), path.stat()) for path in files]
    return [(name, stat.st_size, stat.st_mtime_ns) for name, stat in stats]


def run_locally(
    jobs: Sequence[Job], folder: Path, workers: int, progress: Progress
) -> Iterator[tuple[Job, dict[str, Any]]]:
    """Evaluate jobs in worker processes, or here if one is enough; yield them as they finish.

    Workers end with this process, however it ends.

    Raises:
        ValueError: If a source or a contender cannot be used, or a worker dies.
    """
    if min(workers, len(jobs)) <= 1:
        for job in jobs:
            yield job, do(job, folder, lambda: progress(1))
        return
    # Not forked: OpenCV's threads do not survive it.
    context = multiprocessing.get_context('spawn')
    workers = min(workers, len(jobs))
    # Every job counts in a place of its own: there is no lock that a dying worker could keep.
    counts = context.RawArray('q', len(jobs))
    counted = 0
    others = set(multiprocessing.active_children())
    pool = ProcessPoolExecutor(workers, context, _start_worker, (workers, counts))
    try:
        with _interrupts_wait():
            futures = {
                pool.submit(_do_and_count, job, folder, i): job for i, job in enumerate(jobs)
            }
        waiting = set(futures)
        while waiting:
            done, waiting = wait(waiting, timeout=0.2, return_when=FIRST_COMPLETED)
            progress(sum(counts) - counted)
            counted = sum(counts)
            for future in done:
                yield futures[future], future.result()
    except BrokenProcessPool:
        raise ValueError(
            'a worker process died, perhaps for lack of memory; what was finished is kept: '
            f'start again to continue, with fewer than {workers} --workers if it was memory'
        ) from None
    finally:
        for process in set(multiprocessing.active_children()) - others:
            process.terminate()
        pool.shutdown(cancel_futures=True)


@contextmanager
def _interrupts_wait() -> Iterator[None]:
    """Hold Ctrl-C back, also in the processes that are started: they inherit it.

    It reaches the whole process group, and would end a worker that is still importing with a
    traceback; the parent ends its workers itself.
    """
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


_counts: Any = None


def _start_worker(workers: int, counts: Any) -> None:
    global _counts
    _counts = counts
    cv2.setNumThreads(max(1, (os.cpu_count() or 1) // workers))
    Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def _do_and_count(job: Job, folder: Path, place: int) -> dict[str, Any]:
    def on_frame() -> None:
        _counts[place] += 1

    return do(job, folder, on_frame)


_RAY_RETRIES = 3
_RAY_ANSWERS_WITHIN_S = 5.0


def run_on_ray(
    jobs: Sequence[Job], folder: Path, address: str, progress: Progress
) -> Iterator[tuple[Job, dict[str, Any]]]:
    """Evaluate jobs on a Ray cluster, one task a source; yield them as they finish.

    A task whose worker dies is run again. Every node needs this package, and the sources and
    parameter files at the same paths; pictures come back with the results.

    Args:
        jobs: What to evaluate.
        folder: Where pictures go, on this machine.
        address: Address of the cluster: 'auto', 'host:port', or 'local' to start one here.
        progress: Called with the number of frames of every finished job.

    Raises:
        ValueError: If Ray is not installed, the cluster cannot be reached, or a source or a
            contender cannot be used.
    """
    if address == 'local':
        # Nobody else is to reach it: Ray would listen on every network of this machine.
        os.environ.setdefault('RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER', '0')
        os.environ.setdefault('RAY_USAGE_STATS_ENABLED', '0')
    try:
        import ray
    except ModuleNotFoundError:
        raise ValueError('--ray needs Ray: pip install "depth_refiner_ros[cluster]"') from None
    _check_reachable(address)
    options = {'include_dashboard': False} if address == 'local' else {}
    try:
        ray.init(address, log_to_driver=False, logging_level=logging.ERROR, **options)
    except (ConnectionError, ValueError, RuntimeError) as error:
        raise ValueError(f'no Ray cluster at {address}: {error}') from None
    try:
        remote = ray.remote(max_retries=_RAY_RETRIES, scheduling_strategy='SPREAD')(_do_anywhere)
        pending = {remote.remote(_found_anywhere(job)): job for job in jobs}
        while pending:
            (done, *_), _ = ray.wait(list(pending), num_returns=1)
            job = pending.pop(done)
            try:
                result, pictures = ray.get(done)
            except ray.exceptions.RayError as error:
                cause = getattr(error, 'cause', None) or error
                if isinstance(cause, ValueError):
                    raise ValueError(str(cause)) from None
                reason = str(cause).strip().partition('\n')[0]
                raise ValueError(f'{job.path}, on the cluster: {reason}') from None
            for name, data in pictures.items():
                (folder / name).write_bytes(data)
            progress(result['frames'] * result['draws'])
            yield job, {**result, 'path': job.path}
    finally:
        ray.shutdown()


def _check_reachable(address: str) -> None:
    """Check that somebody listens: Ray itself would try for minutes, then end the process."""
    host, _, port = address.rpartition('://')[2].rpartition(':')
    if not host:
        return  # auto or local
    try:
        socket.create_connection((host.strip('[]'), int(port)), _RAY_ANSWERS_WITHIN_S).close()
    except (OSError, ValueError) as error:
        raise ValueError(f'no Ray cluster at {address}: {error}') from None


def _found_anywhere(job: Job) -> Job:
    """Return a job whose files are found from any working directory."""
    contenders = []
    for spec in job.contenders:
        name, what = named(spec)
        if what.endswith(PARAMETER_FILES):
            spec = f'{name}={Path(what).resolve()}'
        contenders.append(spec)
    return replace(job, path=str(Path(job.path).resolve()), contenders=tuple(contenders))


def _do_anywhere(job: Job) -> tuple[dict[str, Any], dict[str, bytes]]:
    """Evaluate on whatever machine this is; return the result and the pictures themselves."""
    cv2.setNumThreads(1)  # Ray counts a task as one core
    with tempfile.TemporaryDirectory() as folder:
        result = do(job, Path(folder))
        names = result['pictures'].values()
        return result, {name: (Path(folder) / name).read_bytes() for name in names}
