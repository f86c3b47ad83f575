"""Evaluate what refined hands are worth: train on them, test on 'real' ones; SimGAN's Table 4.

    python -m training.synth2real.evaluate runs/table --small
    python -m training.synth2real.evaluate runs/table --refiner simgan=runs/simgan/checkpoint.pt \
        --refiner cyclegan=runs/cyclegan/synth2real.onnx

The same hourglass is trained with the same number of steps on clean rendered hands, on the same
hands refined by each refiner, and on labelled 'real' ones, of each as many as SimGAN had and three
times as many. What counts is the share of joints within 5 px of a 224x224 crop (PCK) on 'real'
hands that were not trained on. Without --refiner a short SimGAN is trained first. Without --real,
'real' is the simulated sensor that is held out, see `training.synth2real.domains`: refiners see
its crops, never its labels.

Every cell of the table is a file; Ctrl-C loses at most the one that is being trained, the same
command goes on. More seeds, sizes or refiners may be asked for later.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, fields, replace
import hashlib
import json
import math
from pathlib import Path
import signal
import time
from typing import Annotated, Any, ClassVar, NamedTuple

import cv2
import numpy as np
import numpy.typing as npt
from rich.progress import Progress
import torch
from torch import Tensor
from torch.nn import functional
from torch.utils.data import DataLoader, Dataset, Subset
import tyro

from depth_refiner_ros.metrics.hands import joint_errors, joints_within, mean_joint_error
from depth_refiner_ros.pictures import Panel, depth_scale, draw_text, sheet, write_png

from ..datasets import DatasetError, open_hands, require_shippable
from ..networks.hourglass import StackedHourglass, heatmaps_of, joints_of
from ..refiners import Refiner, load_refiner
from ..running import check_same, commit, learning_rate, plain
from . import train_simgan
from .crops import CROP_PX, HandCrops, LabelledHands, augmented, unnormalized_m
from .domains import CleanHands, StandInHands, counts_of, depth_of
from .hand_metrics import change_mm, drift_px, hole_share, kernel_distance, patch_features

WITHIN_PX = 5.0
THRESHOLDS_PX = tuple(float(px) for px in range(21))
CLEAN, REAL = 'clean synthetic', 'real, labelled'
CLEAN_SEED, REAL_SEED, TEST_SEED = 1000, 1001, 1002
"""Of the hands; those that refiners are trained with have small ones."""
CHUNK = 32
"""Batches of hands that are written at once."""
DRAWN_AT_ONCE = 16


@dataclass(kw_only=True)
class Settings:
    """Evaluate refiners by what is learned from refined hands."""

    run: tyro.conf.Positional[Path]
    """Folder for crops, cells, table.json, curve.png and side_by_side.png."""
    refiner: Annotated[tuple[str, ...], tyro.conf.UseAppendAction] = ()
    """NAME=PATH of a checkpoint of train_simgan, or of an ONNX file from any method."""
    real: Path | None = None
    """Labelled dataset, as NYU's `train`, instead of the simulated sensor."""
    test: Path | None = None
    """Labelled dataset to test on, as NYU's `test`; without, the last fifth of --real."""
    research: bool = False
    """Your word that no weights will be shipped, which research-only data needs."""
    small: bool = False
    """Minutes on a CPU: 256 and 768 hands in 64 px, 512 to test on, 600 steps of a network
    with a stack of 32 features and heatmaps of 32 px, a SimGAN of 600 steps with 3 blocks
    of 16 maps of 3x3. Anything that is asked for besides stays as it is asked for."""
    hands: int = 20_000
    """Hands at 1x."""
    times: tuple[int, ...] = (1, 3)
    """How many times as many hands."""
    tested: int = 2000
    """'Real' hands that are tested on."""
    seeds: int = 1
    """Trainings of each cell, which differ in first weights and order; hands are the same."""
    size: int = 224
    """Rows and columns of crops, px."""
    stacks: int = 2
    """Hourglasses."""
    features: int = 256
    """Channels of the hourglass."""
    heatmap: int = 64
    """Rows and columns of heatmaps."""
    steps: int = 30_000
    """Steps of the optimiser in each cell, whatever it learns from."""
    batch: int = 16
    """Hands of a step."""
    learning_rate: float = 1e-3
    """Of Adam at its highest."""
    simgan_steps: int = 4000
    """Steps of the SimGAN that is trained if no refiner is given."""
    mixed: bool = False
    """Cells compute in bfloat16 where that is precise enough: faster on GPUs, and on CPUs with
    AMX."""
    workers: int = 0
    """Processes that render."""
    device: str = 'cuda' if torch.cuda.is_available() else 'cpu'
    """Where to train."""

    MAY_DIFFER: ClassVar[frozenset[str]] = frozenset({
        'run', 'refiner', 'research', 'hands', 'times', 'seeds', 'workers', 'device',
    })  # fmt: skip
    """Settings with which other cells of the same table are made; hands are named by cells."""


SMALL: dict[str, Any] = {
    'hands': 256, 'tested': 512, 'size': 64, 'stacks': 1, 'features': 32,
    'heatmap': 32, 'steps': 600, 'batch': 16, 'learning_rate': 4e-3, 'mixed': True,
    'simgan_steps': 600,
}  # fmt: skip
"""What --small sets, where nothing else is asked for."""


def made_small(settings: Settings) -> Settings:
    """Return settings of which those in `SMALL` are small that are at their defaults."""
    asked = asdict(settings)
    left = [f.name for f in fields(Settings) if f.name in SMALL and asked[f.name] == f.default]
    return replace(settings, **{name: SMALL[name] for name in left})


# ---------------------------------------------------------------------------------------- hands


class Pool(NamedTuple):
    """Hands that are kept.

    Attributes:
        counts: (N, 1, H, W) int16, see `training.synth2real.domains.counts_of`.
        joints_px: (N, 14, 2).
    """

    counts: Tensor
    joints_px: Tensor

    def crops(self, chosen: Tensor | slice) -> HandCrops:
        """Return some of them."""
        return HandCrops(depth_of(self.counts[chosen]), self.joints_px[chosen])


class Resized(Dataset[HandCrops]):
    """Batches of labelled hands, at another size.

    Args:
        hands: With crops of 224 px.
        size_px: Rows and columns.
    """

    def __init__(self, hands: LabelledHands, size_px: int) -> None:
        self.hands, self.size_px = hands, size_px

    def __len__(self) -> int:
        """Return the number of batches."""
        return len(self.hands)

    def __getitem__(self, number: int) -> HandCrops:
        """Return a batch: of depth the nearest pixel is taken."""
        depth, joints_px = self.hands[number]
        size = (self.size_px, self.size_px)
        scale = self.size_px / CROP_PX
        return HandCrops(
            functional.interpolate(depth, size, mode='nearest-exact'),
            (joints_px + 0.5) * scale - 0.5,
        )


def pool(
    folder: Path, hands: Dataset[HandCrops], first: int, count: int, workers: int, told: Progress
) -> Pool:
    """Return hands, from files where they were written before.

    Args:
        folder: Of the files.
        hands: Batches of `DRAWN_AT_ONCE`.
        first: Number of the first batch.
        count: Hands.
        workers: Processes that make batches.
        told: Where progress is shown.
    """
    batches = math.ceil(count / DRAWN_AT_ONCE)
    parts: list[Pool] = []
    task = told.add_task(f'Hands: {folder.name}', total=batches)
    for start in range(0, batches, CHUNK):
        numbers = range(first + start, first + min(start + CHUNK, batches))
        file = folder / f'{numbers.start:06}_{len(numbers)}.pt'
        if not file.exists():
            made: list[Pool] = []
            for crops in DataLoader(Subset(hands, numbers), None, num_workers=workers):
                made.append(Pool(counts_of(crops[0]), crops[1]))
                told.advance(task)
            write_whole(file, tuple(torch.cat(part) for part in zip(*made, strict=True)))
        parts.append(Pool(*torch.load(file, weights_only=True)))
        told.update(task, completed=start + len(numbers))
    whole = Pool(*(torch.cat(part)[:count] for part in zip(*parts, strict=True)))
    told.remove_task(task)
    return whole


def refined(folder: Path, clean: Pool, refiner: Refiner, device: str, told: Progress) -> Pool:
    """Return the same hands, refined, from files where they were written before.

    A batch is refined with randomness of its own, so that it is the same in whatever run.
    """
    size = CHUNK * DRAWN_AT_ONCE
    starts = range(0, len(clean.counts), size)
    counts = []
    task = told.add_task(f'Refining: {folder.name}', total=len(starts))
    for start in starts:
        part = clean.counts[start : start + size]
        file = folder / f'{start:06}_{len(part)}.pt'
        if not file.exists():
            torch.manual_seed(start)
            found = [
                counts_of(refiner(depth_of(batch).to(device)).float().cpu())
                for batch in part.split(DRAWN_AT_ONCE)
            ]
            write_whole(file, torch.cat(found))
        counts.append(torch.load(file, weights_only=True))
        told.advance(task)
    told.remove_task(task)
    return Pool(torch.cat(counts), clean.joints_px)


def write_whole(path: Path, value: Any) -> None:
    """Write a file of PyTorch, or none."""
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_suffix('.part')
    torch.save(value, draft)
    draft.replace(path)


def real_pools(settings: Settings, most: int, told: Progress) -> tuple[Pool, Pool]:
    """Return labelled 'real' hands to learn from, and others to test on.

    Raises:
        SystemExit: If the data cannot be used.
    """
    folder = settings.run / 'hands'
    if settings.real is None:
        learned, held_out = (
            StandInHands(14, DRAWN_AT_ONCE, seed, size_px=settings.size)
            for seed in (REAL_SEED, TEST_SEED)
        )
        return (
            pool(folder / 'stand_in', learned, 0, most, settings.workers, told),
            pool(folder / 'test', held_out, 0, settings.tested, settings.workers, told),
        )
    try:
        opened = [open_hands(path) for path in (settings.real, settings.test) if path]
        require_shippable(opened, research=settings.research)
    except DatasetError as error:
        raise SystemExit(str(error)) from None
    for hands in opened:
        if len(hands.scheme.names) != 14:
            raise SystemExit(f'{hands.path} labels {len(hands.scheme.names)} joints, not 14.')
    whole = [
        Resized(LabelledHands(hands, DRAWN_AT_ONCE, 0, augment=False), settings.size)
        for hands in opened
    ]
    # Frames follow one another: a part in one piece shares the least with the rest.
    kept = len(whole[0]) if settings.test else len(whole[0]) * 4 // 5
    available = min(kept * DRAWN_AT_ONCE, len(opened[0]))
    first = 0 if settings.test else kept
    left = len(opened[-1]) - first * DRAWN_AT_ONCE
    if available < most:
        raise SystemExit(
            f'{settings.real} has {available} hands to learn from, {most} are wanted: '
            'give fewer --hands or --times.'
        )
    return (
        pool(folder / 'real', whole[0], 0, most, settings.workers, told),
        pool(
            folder / 'test', whole[-1], first, min(settings.tested, left), settings.workers, told
        ),
    )


# ------------------------------------------------------------------------------------- refiners


def refiners(settings: Settings) -> dict[str, Path]:
    """Return the files of refiners by their names; trains a SimGAN if none is given.

    Raises:
        SystemExit: If one is not there, or the training was interrupted.
    """
    if not settings.refiner:
        return {'simgan': simgan(settings)}
    found = {}
    for given in settings.refiner:
        name, _, path = given.partition('=')
        if not (name and path):
            raise SystemExit(f'--refiner is NAME=PATH, got {given}.')
        if not Path(path).is_file():
            raise SystemExit(f'--refiner {name}: there is no {path}.')
        found[name] = Path(path)
    return found


def simgan(settings: Settings) -> Path:
    """Train a SimGAN without labels, and return its checkpoint."""
    steps = settings.simgan_steps
    size: dict[str, Any] = {'refiner_alone': min(500, steps // 10)}
    if settings.small:
        size = {
            'kernel': 3, 'blocks': 3, 'maps': 16, 'kept_batches': 40, 'checked': 128,
            'refiner_alone': 20, 'discriminator_alone': 40, 'learning_rate': 1e-3,
        }  # fmt: skip
    if settings.real is None:
        size |= {'holes': True, 'self_weight': 0.005}
    of = train_simgan.HandSettings(
        run=settings.run / 'simgan',
        real=settings.real,
        research=settings.research,
        size=settings.size,
        batch=settings.batch,
        steps=steps,
        validate_every=max(1, steps // 12),
        mixed=settings.mixed,
        workers=settings.workers,
        accelerator='cuda' if settings.device.startswith('cuda') else 'cpu',
        **size,
    )
    checkpoint = of.run / 'checkpoint.pt'
    if not (of.run / 'model.onnx').exists():
        before = signal.getsignal(signal.SIGINT)
        train_simgan.train(of)
        signal.signal(signal.SIGINT, before)
        state = torch.load(checkpoint, map_location='cpu', weights_only=True)
        if state['step'] < steps:
            (of.run / 'model.onnx').unlink()
            raise KeyboardInterrupt
    return checkpoint


# ---------------------------------------------------------------------------------------- cells


def loss_of(heatmaps: Tensor, joints_px: Tensor, size_px: int) -> Tensor:
    """Return the squared error of the heatmaps of all stacks, summed over each, a mean a joint.

    Args:
        heatmaps: (B, S, J, h, h).
        joints_px: (B, J, 2), pixels of the crop.
        size_px: Rows and columns of the crop.
    """
    wanted = heatmaps_of(joints_px, size_px, heatmap_px=heatmaps.shape[-1])[:, None]
    return (heatmaps - wanted).square().sum((3, 4)).mean()


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
    settings: Settings, learned: Pool, seed: int, tell: Callable[[int, float], None]
) -> StackedHourglass:
    """Train the hourglass of a cell.

    Args:
        settings: Of it.
        learned: Hands it learns from.
        seed: Of its weights, the order, and augmentation.
        tell: Is told every step and its loss.
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
        loss = loss_of(heatmaps.float(), crops.joints_px.to(settings.device), settings.size)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        tell(step + 1, loss.item() if step % 20 == 0 else math.nan)
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
        seed: Of the training.
    """

    learned: str
    key: str
    times: int
    seed: int

    def path(self, settings: Settings) -> Path:
        """Return its file."""
        name = f'{self.key}_{self.times * settings.hands}_{self.seed}.json'
        return settings.run / 'cells' / name.replace(' ', '_').replace(',', '')


# ----------------------------------------------------------------------------------------- table


def table(cells: dict[Cell, dict[str, Any]], settings: Settings) -> str:
    """Return the table: mean and standard deviation over seeds of PCK at 5 px, per cent."""
    names = list(dict.fromkeys(cell.learned for cell in cells))
    width = max(len(name) for name in [*names, 'trained on'])
    head = ''.join(f'{f"{t}x ({t * settings.hands})":>18}' for t in settings.times)
    lines = [f'{"trained on":{width}}{head}']
    for name in names:
        row = f'{name:{width}}'
        for times in settings.times:
            mean, spread = mean_and_spread(scores(cells, name, times))
            told = f'{mean:.1f}' + (f' +- {spread:.1f}' if math.isfinite(spread) else '')
            row += f'{told:>18}'
        lines.append(row)
    return '\n'.join(lines)


def scores(cells: dict[Cell, dict[str, Any]], name: str, times: int) -> list[float]:
    """Return PCK at 5 px, per cent, of all seeds."""
    return [
        100 * figures['pck_5px']
        for cell, figures in cells.items()
        if (cell.learned, cell.times) == (name, times)
    ]


def mean_and_spread(values: Sequence[float]) -> tuple[float, float]:
    """Return the mean, and the standard deviation of a sample, NaN if it is one value."""
    spread = float(np.std(values, ddof=1)) if len(values) > 1 else math.nan
    return float(np.mean(values)), spread


# -------------------------------------------------------------------------------------- pictures

_COLORS = (
    (0, 114, 178), (213, 94, 0), (0, 158, 115), (204, 121, 167), (230, 159, 0), (86, 180, 233)
)  # fmt: skip


def curve(cells: dict[Cell, dict[str, Any]], settings: Settings) -> npt.NDArray[np.uint8]:
    """Draw the share of joints against the distance within which they are found, mean of seeds."""
    height, width, left, low, right = 520, 760, 70, 450, 500
    picture = np.full((height, width, 3), 255, np.uint8)
    last = THRESHOLDS_PX[-1]

    def at(px: float, share: float) -> tuple[int, int]:
        return round(left + (right - left) * px / last), round(low - (low - 40) * share)

    for tenth in range(0, 11, 2):
        cv2.line(picture, at(0, tenth / 10), at(last, tenth / 10), (225, 225, 225), 1)
        draw_text(
            picture, f'{10 * tenth} %', (left - 8, at(0, tenth / 10)[1] + 5), size_px=15,
            align='right',
        )  # fmt: skip
    for px in range(0, int(last) + 1, 5):
        cv2.line(picture, at(px, 0), at(px, 1), (225, 225, 225), 1)
        draw_text(picture, f'{px}', (at(px, 0)[0], low + 22), size_px=15, align='center')
    draw_text(picture, 'joints within, px of 224', ((left + right) // 2, low + 50), size_px=16,
              align='center')  # fmt: skip
    names = list(dict.fromkeys(cell.learned for cell in cells))
    for row, (name, times) in enumerate((n, t) for n in names for t in settings.times):
        color = _COLORS[names.index(name) % len(_COLORS)]
        curves = [f['curve'] for c, f in cells.items() if (c.learned, c.times) == (name, times)]
        line = [at(px, s) for px, s in zip(THRESHOLDS_PX, np.mean(curves, 0), strict=True)]
        thick = 1 if times == min(settings.times) else 2
        points = np.array(line, np.int32)
        cv2.polylines(picture, [points], False, color, thick, cv2.LINE_AA)
        y = 50 + 26 * row
        cv2.line(picture, (right + 15, y - 5), (right + 45, y - 5), color, thick, cv2.LINE_AA)
        draw_text(
            picture, f'{name}, {times}x', (right + 52, y), size_px=15,
            width_px=width - right - 60,
        )  # fmt: skip
    return picture


def side_by_side(looked_at: dict[str, Pool], rows: int = 4) -> npt.NDArray[np.uint8]:
    """Return hands in a row: synthetic, refined, real; the real ones are others.

    Depth is coloured over its 300 mm; below is the surface lit from the left, which shows single
    millimetres.
    """
    lines = []
    for row in range(rows):
        line = []
        for name, hands in looked_at.items():
            depth_m = unnormalized_m(depth_of(hands.counts[row, 0])).numpy()
            known = depth_m[np.isfinite(depth_m)]
            middle = float(np.median(known)) if known.size else 0.0
            color = depth_scale(middle - 0.1, middle + 0.1).paint(depth_m)
            slope = np.diff(depth_m, axis=1, append=np.nan) * (len(depth_m) / 0.3)
            light = 0.5 - 0.5 * slope / np.sqrt(1 + slope * slope)
            grey = np.where(np.isfinite(light), 40 + 215 * np.nan_to_num(light), 0)
            relief = np.repeat(grey.astype(np.uint8)[..., None], 3, 2)
            line.append(Panel(name, np.vstack([color, relief])))
        lines.append(line)
    return sheet(lines, panel_width_px=max(224, depth_m.shape[1]))


# ------------------------------------------------------------------------------------- evaluation


def evaluate(settings: Settings) -> Path:
    """Fill the table, print it, and return the path of table.json."""
    settings = made_small(settings) if settings.small else settings
    settings.run.mkdir(parents=True, exist_ok=True)
    asked = settings.run / 'settings.json'
    now = json.loads(json.dumps(plain(asdict(settings))))
    if asked.exists():
        check_same(json.loads(asked.read_text()), now, asked, settings.MAY_DIFFER)
    else:
        asked.write_text(json.dumps(now, indent=1))
    files = refiners(settings)
    digests = {n: hashlib.sha256(p.read_bytes()).hexdigest()[:8] for n, p in files.items()}

    most = max(settings.times) * settings.hands
    folder = settings.run / 'hands'
    with Progress() as told:
        rendered = CleanHands(14, DRAWN_AT_ONCE, CLEAN_SEED, size_px=settings.size)
        clean = pool(folder / 'clean', rendered, 0, most, settings.workers, told)
        real, held_out = real_pools(settings, most, told)
        learned = {CLEAN: ('clean', clean)}
        for name, path in files.items():
            key = f'{name}-{digests[name]}'
            images = refined(folder / key, clean, load_refiner(path), settings.device, told)
            learned[f'refined by {name}'] = (key, images)
        learned[REAL] = ('real', real)

        # Seeds first: an interrupted table compares what it has.
        cells: dict[Cell, dict[str, Any]] = {}
        for seed in range(settings.seeds):
            for times in settings.times:
                for name, (key, hands) in learned.items():
                    cell = Cell(name, key, times, seed)
                    cells[cell] = done(cell, settings, hands, held_out, told)

        monitors = looked_at(settings, learned, clean, held_out, told)
    cells = {c: cells[c] for name in learned for c in cells if c.learned == name}
    text = table(cells, settings)
    print(
        f'Joints within {WITHIN_PX:g} px of 224 on {len(held_out.counts)} held-out hands, per '
        f'cent, mean and standard deviation of {settings.seeds} '
        f'{"seed" if settings.seeds == 1 else "seeds"}:\n\n{text}\n'
    )
    for name, figures in monitors.items():
        print(f'{name}: ' + ', '.join(f'{k} {v:.3g}' for k, v in figures.items()))
    write_png(settings.run / 'curve.png', curve(cells, settings))
    shown = {name: hands for name, (_, hands) in learned.items() if name != REAL}
    write_png(settings.run / 'side_by_side.png', side_by_side({**shown, 'real': held_out}))
    result = {
        'table': text,
        'cells': [cell._asdict() | figures for cell, figures in cells.items()],
        'thresholds_px': THRESHOLDS_PX,
        'monitors': monitors,
        'refiners': {name: str(path) for name, path in files.items()},
        'settings': now,
        'commit': commit(),
    }
    path = settings.run / 'table.json'
    path.write_text(json.dumps(result, indent=1))
    print(f'{path}, and curve.png and side_by_side.png beside it.')
    return path


def done(
    cell: Cell, settings: Settings, hands: Pool, held_out: Pool, told: Progress
) -> dict[str, Any]:
    """Return the figures of a cell, from its file if it was trained before."""
    path = cell.path(settings)
    if path.exists():
        found: dict[str, Any] = json.loads(path.read_text())
        return found
    name = f'{cell.learned}, {cell.times}x, seed {cell.seed}'
    task = told.add_task(name, total=settings.steps)

    def tell(step: int, loss: float) -> None:
        described = f'{name}: loss {loss:.3f}' if math.isfinite(loss) else None
        told.update(task, completed=step, description=described)

    count = cell.times * settings.hands
    began = time.monotonic()
    network = train_cell(settings, Pool(*(part[:count] for part in hands)), cell.seed, tell)
    figures = test_cell(network, held_out, settings)
    figures['seconds'] = round(time.monotonic() - began, 1)
    told.remove_task(task)
    told.print(
        f'{name}: {100 * figures["pck_5px"]:.1f} % within 5 px, mean {figures["error_px"]:.1f} px'
    )
    write_whole(path.with_suffix('.pt'), network.state_dict())
    path.write_text(json.dumps(figures))
    return figures


def looked_at(
    settings: Settings,
    learned: dict[str, tuple[str, Pool]],
    clean: Pool,
    held_out: Pool,
    told: Progress,
) -> dict[str, dict[str, float]]:
    """Return what `training.synth2real.hand_metrics` says of each kind of hands.

    Joints are found by the network that learned from the most clean hands, which knows the hands
    before they were refined best.
    """
    some = slice(0, min(256, len(held_out.counts)))
    real = patch_features(held_out.crops(some).depth)
    network = StackedHourglass(
        14, stacks=settings.stacks, features=settings.features, heatmap_px=settings.heatmap
    ).eval()
    weights = Cell(CLEAN, 'clean', max(settings.times), 0).path(settings).with_suffix('.pt')
    network.load_state_dict(torch.load(weights, map_location='cpu', weights_only=True))
    before = clean.crops(some).depth
    result = {}
    task = told.add_task('Monitors', total=len(learned))
    for name, (key, hands) in learned.items():
        depth = hands.crops(some).depth
        result[name] = {
            'kernel distance to real': kernel_distance(patch_features(depth), real),
            'holes, %': 100 * hole_share(depth),
        }
        if key not in ('clean', 'real'):
            changed = change_mm(before, depth)
            result[name] |= {
                'change at edges, mm': changed['edges'],
                'change in flats, mm': changed['flats'],
                'drift, px': drift_px(network, before[:64], depth[:64]),
            }
        told.advance(task)
    told.remove_task(task)
    return result


if __name__ == '__main__':
    try:
        evaluate(tyro.cli(Settings, description=__doc__))
    except KeyboardInterrupt:
        raise SystemExit('Stopped. The same command goes on with what is missing.') from None
