"""Cells of the table of refiners: an hourglass trained on one kind of hands, and its score."""

from __future__ import annotations

from collections.abc import Callable, Iterator
import json
import math
from pathlib import Path
import time
from typing import Any, NamedTuple

from rich.progress import Progress
import torch
from torch import Tensor

from depth_refiner_ros.metrics.hands import joint_errors, joints_within, mean_joint_error

from ..datasets.hands import CROP_PX
from ..networks.hourglass import StackedHourglass, heatmap_loss, joints_of
from ..running import learning_rate
from .crops import augmented
from .domains import depth_of
from .hand_pools import DRAWN_AT_ONCE, Pool, write_whole
from .table_settings import Settings

WITHIN_PX = 5.0
THRESHOLDS_PX = tuple(float(px) for px in range(21))


def orders(count: int, batch: int, seed: int) -> Iterator[Tensor]:
    """Yield the hands of each step: all of them in an order, then in another one."""
    generator = torch.Generator().manual_seed(seed)
    waiting = torch.empty(0, dtype=torch.long)
    while True:
        while len(waiting) < batch:
            waiting = torch.cat([waiting, torch.randperm(count, generator=generator)])
        yield waiting[:batch]
        waiting = waiting[batch:]


def train_cell(
    settings: Settings, learned: Pool, seed: int, log: Callable[[int, float], None]
) -> StackedHourglass:
    """Train the hourglass of a cell.

    Args:
        settings: Settings of the table.
        learned: Hands it learns from.
        seed: Seed of its weights, the order, and augmentation.
        log: Called with every step and its loss.
    """
    torch.manual_seed(seed)
    network = StackedHourglass(
        14, stacks=settings.stacks, features=settings.features, heatmap_px=settings.heatmap
    ).to(settings.device)
    network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    optimizer = torch.optim.Adam(network.parameters(), lr=settings.learning_rate, fused=True)
    generator = torch.Generator().manual_seed(seed)
    order = orders(len(learned.counts), settings.batch, seed)
    for step in range(settings.steps):
        for group in optimizer.param_groups:
            group['lr'] = learning_rate(step, settings.steps, settings.learning_rate)
        crops = augmented(learned.crops(next(order)), generator)
        kind = torch.device(settings.device).type
        with torch.autocast(kind, torch.bfloat16, enabled=settings.mixed):
            heatmaps = network(crops.depth.to(settings.device))
        loss = heatmap_loss(heatmaps.float(), crops.joints_px.to(settings.device), settings.size)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        log(step + 1, loss.item() if step % 20 == 0 else math.nan)
    return network.eval()


@torch.no_grad()
def test_cell(network: StackedHourglass, held_out: Pool, settings: Settings) -> dict[str, Any]:
    """Return the PCK curve, and mean error, in px of 224."""
    found = [
        joints_of(network(depth_of(counts).to(settings.device))[:, -1].float(), CROP_PX).cpu()
        for counts in held_out.counts.split(DRAWN_AT_ONCE)
    ]
    wanted = (held_out.joints_px + 0.5) * (CROP_PX / settings.size) - 0.5
    errors = joint_errors(torch.cat(found).numpy(), wanted.numpy())
    return {
        'pck_5px': float(joints_within(errors, [WITHIN_PX])[0]),
        'curve': joints_within(errors, THRESHOLDS_PX).tolist(),
        'error_px': mean_joint_error(errors),
    }


class Cell(NamedTuple):
    """A cell of the table, of one seed.

    Attributes:
        learned: What it learns from, as the table names it.
        key: What tells it from others with that name: of a refiner, the file's digest.
        times: How many times as many hands.
        seed: Seed of the training.
    """

    learned: str
    key: str
    times: int
    seed: int

    def path(self, settings: Settings) -> Path:
        """Return its file."""
        name = f'{self.key}_{self.times * settings.hands}_{self.seed}.json'
        return settings.run / 'cells' / name.replace(' ', '_').replace(',', '')


def done(
    cell: Cell, settings: Settings, hands: Pool, held_out: Pool, progress: Progress
) -> dict[str, Any]:
    """Return the figures of a cell, from its file if it was trained before."""
    path = cell.path(settings)
    if path.exists():
        found: dict[str, Any] = json.loads(path.read_text())
        return found
    name = f'{cell.learned}, {cell.times}x, seed {cell.seed}'
    task = progress.add_task(name, total=settings.steps)

    def log(step: int, loss: float) -> None:
        described = f'{name}: loss {loss:.3f}' if math.isfinite(loss) else None
        progress.update(task, completed=step, description=described)

    count = cell.times * settings.hands
    began = time.monotonic()
    network = train_cell(settings, Pool(*(part[:count] for part in hands)), cell.seed, log)
    figures = test_cell(network, held_out, settings)
    figures['seconds'] = round(time.monotonic() - began, 1)
    progress.remove_task(task)
    progress.print(
        f'{name}: {100 * figures["pck_5px"]:.1f} % within 5 px, mean {figures["error_px"]:.1f} px'
    )
    write_whole(path.with_suffix('.pt'), network.state_dict())
    path.write_text(json.dumps(figures))
    return figures
