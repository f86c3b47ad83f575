"""Evaluates many sources: in this process, in local worker processes, or on a Ray cluster.

Finished sources are kept on disk, so that a run that was killed continues where it stopped.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
import hashlib
import json
import multiprocessing
import os
from pathlib import Path
from queue import Empty
import tempfile
from typing import Any

import cv2

from .protocols import open_source
from .report import draw, environment, summary
from .run import Job, evaluate

Progress = Callable[[int], None]


def frame_total(jobs: Sequence[Job]) -> int:
    """Return how many frames jobs will feed, to size a progress bar.

    Raises:
        OSError, ValueError: If a source cannot be opened.
    """
    total = 0
    for job in jobs:
        frames = len(open_source(Path(job.path), dict(job.topics)))
        total += min(frames, job.max_frames or frames) * job.draws
    return total


def do(job: Job, folder: Path, on_frame: Callable[[], None] = lambda: None) -> dict[str, Any]:
    """Evaluate one source and draw its pictures; return its part of metrics.json.

    Args:
        job: What to evaluate.
        folder: Where pictures go.
        on_frame: Called after every frame.
    """
    evaluation = evaluate(job, on_frame)
    return {**summary(evaluation), 'pictures': draw(evaluation, folder)}


class Finished:
    """Results on disk, by what they were made from.

    A result is found again only for the same job on the same files with the same commit.

    Args:
        folder: Where results are kept.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._commit = environment()['commit']

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
        path = Path(job.path)
        files = sorted(p for p in path.rglob('*') if p.is_file()) if path.is_dir() else [path]
        stats = [(str(p), p.stat().st_size, p.stat().st_mtime_ns) for p in files]
        parameters = [
            (spec, Path(what).read_text(encoding='utf-8'))
            for spec in job.contenders
            if (what := spec.rpartition('=')[2]).endswith(('.yaml', '.yml'))
        ]
        made_from = repr((job, stats, parameters, self._commit))
        return self._folder / f'{hashlib.sha256(made_from.encode()).hexdigest()[:24]}.json'


def run_locally(
    jobs: Sequence[Job], folder: Path, workers: int, progress: Progress
) -> Iterator[tuple[Job, dict[str, Any]]]:
    """Evaluate jobs in worker processes, or here if one is enough; yield them as they finish."""
    if workers <= 1 or len(jobs) <= 1:
        for job in jobs:
            yield job, do(job, folder, lambda: progress(1))
        return
    # Not forked: OpenCV's threads do not survive it.
    context = multiprocessing.get_context('spawn')
    with context.Manager() as manager:
        ticks = manager.Queue()
        with ProcessPoolExecutor(workers, context, _start_worker, (workers,)) as pool:
            futures: dict[Future[dict[str, Any]], Job] = {
                pool.submit(_do_and_tick, job, folder, ticks): job for job in jobs
            }
            waiting = set(futures)
            try:
                while waiting:
                    for future in [f for f in waiting if f.done()]:
                        waiting.remove(future)
                        yield futures[future], future.result()
                    try:
                        progress(ticks.get(timeout=0.2))
                    except Empty:
                        continue
            except BaseException:
                pool.shutdown(wait=False, cancel_futures=True)
                raise


def _start_worker(workers: int) -> None:
    threads = max(1, (os.cpu_count() or 1) // workers)
    cv2.setNumThreads(threads)
    os.environ.setdefault('OPENBLAS_NUM_THREADS', str(threads))


_TICK_FRAMES = 10


def _do_and_tick(job: Job, folder: Path, ticks: Any) -> dict[str, Any]:
    count = 0

    def on_frame() -> None:
        nonlocal count
        count += 1
        if count % _TICK_FRAMES == 0:
            ticks.put(_TICK_FRAMES)

    result = do(job, folder, on_frame)
    ticks.put(count % _TICK_FRAMES)
    return result


def run_on_ray(
    jobs: Sequence[Job], folder: Path, address: str, progress: Progress
) -> Iterator[tuple[Job, dict[str, Any]]]:
    """Evaluate jobs on a Ray cluster, one task a source; yield them as they finish.

    A task whose worker dies is run again. Sources must lie where every node sees them; pictures
    come back with the results.

    Args:
        jobs: What to evaluate.
        folder: Where pictures go, on this machine.
        address: Of the cluster: 'auto', 'host:port', or 'local' to start one here.
        progress: Called with the number of frames of every finished job.

    Raises:
        ValueError: If Ray is not installed or the cluster cannot be reached.
    """
    try:
        import ray
    except ModuleNotFoundError:
        raise ValueError('--ray needs Ray: pip install "depth_refiner_ros[cluster]"') from None
    try:
        ray.init(None if address == 'local' else address, log_to_driver=False)
    except (ConnectionError, ValueError, RuntimeError) as error:
        raise ValueError(f'no Ray cluster at {address}: {error}') from None
    try:
        remote = ray.remote(max_retries=3)(_do_anywhere)
        pending = {remote.remote(job): job for job in jobs}
        while pending:
            (done, *_), _ = ray.wait(list(pending), num_returns=1)
            job = pending.pop(done)
            result, pictures = ray.get(done)
            for name, data in pictures.items():
                (folder / name).write_bytes(data)
            progress(result['frames'])
            yield job, result
    finally:
        ray.shutdown()


def _do_anywhere(job: Job) -> tuple[dict[str, Any], dict[str, bytes]]:
    """Evaluate on whatever machine this is; return the result and the pictures themselves."""
    with tempfile.TemporaryDirectory() as folder:
        result = do(job, Path(folder))
        names = result['pictures'].values()
        return result, {name: (Path(folder) / name).read_bytes() for name in names}
