"""What all training runs share: continuing where they were stopped, logs, and checkpoints."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
import math
from pathlib import Path
import signal
import subprocess
import time
from types import FrameType
from typing import Any, ClassVar, NamedTuple, Protocol, TypeVar

from lightning_fabric import Fabric
import numpy as np
import numpy.typing as npt
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
import torch
from torch import Tensor
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from torch.utils.data import DataLoader, Dataset, Subset
from torch.utils.tensorboard import SummaryWriter

CHECKPOINT = 'checkpoint.pt'
LOG_EVERY = 20
"""Steps between losses in TensorBoard."""

Batch = TypeVar('Batch')


class Stateful(Protocol):
    """What a checkpoint keeps: networks, optimisers, buffers."""

    def state_dict(self) -> dict[str, Any]:
        """Return what is kept."""

    def load_state_dict(self, state_dict: dict[str, Any], /) -> Any:
        """Take what was kept."""


@dataclass(kw_only=True)
class RunSettings:
    """How long, how often and where a run computes."""

    seed: int = 0
    """Seed of weights and samples."""
    steps: int = 10_000
    """Steps of the optimiser."""
    batch: int = 8
    """Samples of a step, on all devices together."""
    validate_every: int = 500
    """Steps between validations."""
    save_every_s: float = 300.0
    """Seconds between checkpoints."""
    minutes: float = 0.0
    """Stop after this time, as Ctrl-C would; 0 sets no limit."""
    workers: int = 0
    """Processes that load samples; 0 loads them in this one."""
    devices: int = 1
    """GPUs, or processes on the CPU, on this machine."""
    nodes: int = 1
    """Machines, under torchrun."""
    accelerator: str = 'auto'
    """cuda, cpu or auto."""

    MAY_DIFFER: ClassVar[frozenset[str]] = frozenset({
        'run', 'data', 'minutes', 'workers', 'devices', 'nodes', 'accelerator', 'validate_every',
        'save_every_s',
    })  # fmt: skip
    """Settings that change nothing of what is learned."""

    def fabric(self, precision: Any = '32-true') -> Fabric:
        """Return the devices of the run, its processes started."""
        fabric = Fabric(
            accelerator=self.accelerator,
            devices=self.devices,
            num_nodes=self.nodes,
            strategy='ddp' if self.devices * self.nodes > 1 else 'auto',
            precision=precision,
        )
        fabric.launch()
        torch.manual_seed(self.seed)
        return fabric


class Run:
    """A run in a folder: goes on where it was stopped, saves on Ctrl-C, writes TensorBoard.

    Args:
        fabric: Its devices.
        folder: For its checkpoint and TensorBoard.
        settings: Refused if they would make another run of the one that is found in the folder.
        parts: What a checkpoint keeps, by name; given as they start, they leave as they were.

    Attributes:
        start: Steps already done.
        path: Path of the checkpoint.

    Raises:
        SystemExit: If the folder holds a run with other settings.
    """

    def __init__(
        self, fabric: Fabric, folder: Path, settings: RunSettings, **parts: Stateful
    ) -> None:
        self.path = folder / CHECKPOINT
        self.start = 0
        self._fabric, self._settings, self._parts = fabric, settings, parts
        self._spent_s = 0.0
        if self.path.exists():
            state = torch.load(self.path, map_location='cpu', weights_only=True)
            now = plain(asdict(settings))
            check_same(state['settings'], now, self.path, settings.MAY_DIFFER)
            for name, part in parts.items():
                part.load_state_dict(state[name])
            self.start, self._spent_s = state['step'], state['seconds']
            fabric.print(f'{self.path}: going on at step {self.start}.')
        self._writer = (
            SummaryWriter(str(folder), purge_step=self.start) if fabric.is_global_zero else None
        )
        self._stop = Stop()
        self._began_s = self._saved_s = time.monotonic()
        self._progress = Progress(
            TextColumn('Training'), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn(),
            TextColumn('{task.fields[loss]}'), disable=not fabric.is_global_zero,
        )  # fmt: skip
        self._task = self._progress.add_task(
            '', total=settings.steps, completed=self.start, loss=''
        )

    def loader(self, samples: Dataset[Batch], *, batched: bool = False) -> DataLoader[Batch]:
        """Return the batches that this process takes in the steps that are left.

        Args:
            samples: What they are made of.
            batched: Whether an item is a whole batch already, of one process.
        """
        fabric, settings = self._fabric, self._settings
        mine = sample_numbers(
            range(self.start, settings.steps),
            fabric.world_size if batched else settings.batch,
            process=fabric.global_rank,
            processes=fabric.world_size,
        )
        batches: DataLoader[Batch] = DataLoader(
            Subset(samples, mine),
            None if batched else settings.batch // fabric.world_size,
            num_workers=settings.workers,
        )
        # Fabric's sampler would deal the samples a second time.
        loader: Any = fabric.setup_dataloaders(batches, use_distributed_sampler=False)
        return loader  # type: ignore[no-any-return]

    def steps(self, loader: DataLoader[Batch]) -> Iterator[tuple[int, Batch]]:
        """Yield the numbers of steps, from 1, and their batches, until the end or Ctrl-C.

        What chance decides in a step is the same whether the run was stopped before it or not.
        """
        step = self.start
        with self._progress:
            for step, batch in enumerate(loader, self.start + 1):
                self._seed(step)
                yield step, batch
                self._progress.update(self._task, completed=step)
                ends = self._ends(step)
                old = time.monotonic() - self._saved_s > self._settings.save_every_s
                if ends or self._agreed(old):
                    self.save(step)
                if ends:
                    break
        self._fabric.print(f'{self.path}: step {step} of {self._settings.steps}.')

    def validates(self, step: int) -> bool:
        """Return whether it is time to validate; the last step is saved before and after."""
        if self._ends(step):
            # A second Ctrl-C may end the validation.
            self.save(step)
            return True
        return step % self._settings.validate_every == 0

    def log(self, step: int, losses: Mapping[str, Tensor], shown: str) -> None:
        """Write losses, means of all devices, every few steps; show one beside the progress."""
        if step % LOG_EVERY and step != self.start + 1:
            return
        means: Any = self._fabric.all_reduce({k: v.detach() for k, v in losses.items()})
        self.write(step, 'training', {name: float(value) for name, value in means.items()})
        self._progress.update(self._task, loss=f'{shown} {float(means[shown]):.4f}')

    def write(self, step: int, group: str, figures: Mapping[str, float]) -> None:
        """Write figures to TensorBoard."""
        if self._writer is not None:
            for name, value in figures.items():
                self._writer.add_scalar(f'{group}/{name}', value, step)

    def picture(self, step: int, name: str, picture: npt.NDArray[np.uint8]) -> None:
        """Write a picture (H, W, 3) to TensorBoard."""
        if self._writer is not None:
            self._writer.add_image(name, picture, step, dataformats='HWC')
            self._writer.flush()

    def save(self, step: int) -> None:
        """Write a checkpoint."""
        self._saved_s = time.monotonic()
        state = {name: part.state_dict() for name, part in self._parts.items()}
        about = {
            'step': step,
            'seconds': self._spent_s + self._saved_s - self._began_s,
            'settings': plain(asdict(self._settings)),
            'commit': commit(),
        }
        self._fabric.save(self.path, state | about)

    def _ends(self, step: int) -> bool:
        late_s = 60 * self._settings.minutes
        late = 0 < late_s < time.monotonic() - self._began_s
        return self._agreed(self._stop.wanted or late or step == self._settings.steps)

    def _agreed(self, wish: bool) -> bool:
        """Return whether any process wishes it: to each, clocks and Ctrl-C come at other steps."""
        if self._fabric.world_size == 1:
            return wish
        wishes: Any = self._fabric.all_reduce(
            torch.tensor(float(wish), device=self._fabric.device), reduce_op='sum'
        )
        return bool(wishes > 0)

    def _seed(self, step: int) -> None:
        # Mixed, as torch's generator of the CPU takes no more than 32 bits of a seed.
        mixed = np.random.SeedSequence((self._settings.seed, step, self._fabric.global_rank))
        torch.manual_seed(int(mixed.generate_state(1)[0]))


@dataclass(kw_only=True)
class LearnerSettings(RunSettings):
    """How one network is trained by AdamW."""

    learning_rate: float = 1e-3
    """Highest learning rate; it rises over the first 3 % of the steps and falls as a cosine."""
    initial: Path | None = None
    """Checkpoint of another run to take the weights from; what it lacks stays as it is."""
    mixed: bool = True
    """Compute in bfloat16 where that is precise enough: faster on GPUs and on CPUs with AMX."""


class Learner(NamedTuple):
    """A network in training.

    Attributes:
        run: Goes on where it was stopped; its checkpoints keep network, optimizer and average.
        network: On the devices.
        optimizer: AdamW.
        average: Moving average of the weights, which is validated and exported.
    """

    run: Run
    network: Any
    optimizer: Any
    average: AveragedModel


def learner(
    fabric: Fabric,
    folder: Path,
    settings: LearnerSettings,
    network: torch.nn.Module,
    *,
    weight_decay: float,
    decay: float,
    use_buffers: bool = False,
    slow: Iterable[torch.nn.Parameter] = (),
) -> Learner:
    """Prepare a network for training, or continue where a run was stopped.

    Args:
        fabric: Devices.
        folder: Folder of the run.
        settings: Settings of the run.
        network: As it is made; its weights change along.
        weight_decay: Weight decay of AdamW.
        decay: Decay of the average, see `moving_average`.
        use_buffers: See `moving_average`.
        slow: Parameters that were learned before; they are the second group of the optimizer.

    Raises:
        SystemExit: If the folder holds a run with other settings.
    """
    slowly = {id(parameter) for parameter in slow}
    groups: list[list[torch.nn.Parameter]] = [[], []]
    for parameter in network.parameters():
        groups[id(parameter) in slowly].append(parameter)
    adam = torch.optim.AdamW(
        [{'params': group} for group in groups if group],
        lr=settings.learning_rate,
        betas=(0.9, 0.98),
        weight_decay=weight_decay,
    )
    if settings.initial is not None and settings.initial.suffix != '.onnx':
        take_weights(network, settings.initial)
    average = moving_average(network, decay, use_buffers=use_buffers)
    run = Run(fabric, folder, settings, network=network, optimizer=adam, average=average)
    network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    prepared, optimizer = fabric.setup(network, adam)
    return Learner(run, prepared, optimizer, average.to(fabric.device))


class Stop:
    """Notices Ctrl-C, so that a step is finished and saved; a second one stops at once."""

    def __init__(self) -> None:
        self.wanted = False
        signal.signal(signal.SIGINT, self._notice)

    def _notice(self, number: int, frame: FrameType | None) -> None:
        if self.wanted:
            raise KeyboardInterrupt
        self.wanted = True
        print('Stopping after this step ...', flush=True)


def commit() -> str:
    """Return the commit of the code, marked if files differ from it."""
    command = ['git', 'describe', '--always', '--dirty', '--abbrev=12', '--exclude=*']
    found = subprocess.run(
        command, cwd=Path(__file__).parent, capture_output=True, text=True, check=False
    )
    return found.stdout.strip() or 'unknown'


def plain(value: Any) -> Any:
    """Return settings as what a checkpoint may hold without pickled classes."""
    if isinstance(value, dict):
        return {key: plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    return str(value) if isinstance(value, Path) else value


def moving_average(
    network: torch.nn.Module, decay: float, *, use_buffers: bool = False
) -> AveragedModel:
    """Return the moving average of a network's weights, which `update_parameters` moves.

    It follows closely at first, so that a short run's is of that run and not of where it began.

    Args:
        network: As it starts.
        decay: What is kept of the average each step, in the end; 0 keeps the weights as they are.
        use_buffers: Whether statistics of batch norm are averaged, too.
    """
    moved_by: Any = get_ema_multi_avg_fn

    def follow(average: Any, current: Any, count: Any) -> None:
        moved_by(min(decay, (1 + int(count)) / (10 + int(count))))(average, current, count)

    return AveragedModel(network, multi_avg_fn=follow, use_buffers=use_buffers)


def averaged_weights(state: dict[str, Any]) -> dict[str, Tensor]:
    """Return the averaged weights of a checkpoint, by name."""
    prefix = 'module.'
    return {k.removeprefix(prefix): v for k, v in state['average'].items() if k.startswith(prefix)}


def take_weights(network: torch.nn.Module, checkpoint: Path) -> None:
    """Take the averaged weights of another run, as far as they fit."""
    given = averaged_weights(torch.load(checkpoint, map_location='cpu', weights_only=True))
    own = network.state_dict()
    fitting = {k: v for k, v in given.items() if k in own and own[k].shape == v.shape}
    network.load_state_dict(own | fitting)
    print(f'{checkpoint}: took {len(fitting)} of {len(own)} tensors.')


def check_same(
    before: dict[str, Any], now: dict[str, Any], path: Path, may_differ: Collection[str]
) -> None:
    """Refuse to go on with a run under settings that would have made another run of it.

    Args:
        before: Settings of the checkpoint.
        now: Settings of this command, `plain`.
        path: Path of the checkpoint.
        may_differ: Names of settings that change nothing of what is learned.
    """
    changed = [k for k in now if k not in may_differ and now[k] != before.get(k)]
    if changed:
        line = ', '.join(f'{k} was {before.get(k)} and is {now[k]}' for k in changed)
        raise SystemExit(f'{path} is of a run with other settings: {line}. Give another folder.')


def sample_numbers(steps: range, batch: int, *, process: int = 0, processes: int = 1) -> list[int]:
    """Return the samples that a process takes: step s of a run sees s * batch and what follows.

    Args:
        steps: To be done.
        batch: Samples of a step, of all processes together.
        process: Which one.
        processes: How many share a batch.
    """
    if batch % processes:
        raise SystemExit(f'--batch {batch} does not divide by {processes}.')
    local = batch // processes
    return [
        number
        for step in steps
        for number in range(step * batch + process * local, step * batch + (process + 1) * local)
    ]


def learning_rate(step: int, steps: int, greatest: float) -> float:
    """Return the learning rate of a step: up over the first 3 %, down as a cosine to 2 %."""
    rising = max(1, steps * 3 // 100)
    if step < rising:
        return greatest * (step + 1) / rising
    share = (step - rising) / max(1, steps - rising)
    return greatest * (0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * min(share, 1))))
