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
command goes on. More seeds, sizes or refiners may be added later.
"""

from __future__ import annotations

from dataclasses import asdict
import hashlib
import json
from pathlib import Path
import signal
from typing import Any

from rich.progress import Progress
import torch
import tyro

from depth_refiner_ros.pictures import write_png

from ..networks.hourglass import StackedHourglass
from ..refiners import load_refiner
from ..running import check_same, commit, plain
from .domains import CleanHands
from .hand_metrics import change_mm, drift_px, hole_share, kernel_distance, patch_features
from .hand_pools import CLEAN_SEED, DRAWN_AT_ONCE, Pool, pool, real_pools, refined
from .simgan import train as train_simgan
from .simgan_settings import HandSettings
from .table_cells import THRESHOLDS_PX, WITHIN_PX, Cell, done
from .table_report import CLEAN, REAL, curve, side_by_side, table
from .table_settings import Settings, made_small


def refiners(settings: Settings) -> dict[str, Path]:
    """Return the files of refiners by their names; trains a SimGAN if none is given.

    Raises:
        SystemExit: If one is not there, or the training was interrupted.
    """
    if not settings.refiner:
        return {'simgan': short_simgan(settings)}
    found = {}
    for given in settings.refiner:
        name, _, path = given.partition('=')
        if not (name and path):
            raise SystemExit(f'--refiner is NAME=PATH, got {given}.')
        if not Path(path).is_file():
            raise SystemExit(f'--refiner {name}: there is no {path}.')
        found[name] = Path(path)
    return found


def short_simgan(settings: Settings) -> Path:
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
    of = HandSettings(
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
        train_simgan(of)
        signal.signal(signal.SIGINT, before)
        state = torch.load(checkpoint, map_location='cpu', weights_only=True)
        if state['step'] < steps:
            (of.run / 'model.onnx').unlink()
            raise KeyboardInterrupt
    return checkpoint


def evaluate(settings: Settings) -> Path:
    """Fill the table, print it, and return the path of table.json."""
    settings = made_small(settings) if settings.small else settings
    settings.run.mkdir(parents=True, exist_ok=True)
    stored = settings.run / 'settings.json'
    now = json.loads(json.dumps(plain(asdict(settings))))
    if stored.exists():
        check_same(json.loads(stored.read_text()), now, stored, settings.MAY_DIFFER)
    else:
        stored.write_text(json.dumps(now, indent=1))
    files = refiners(settings)
    digests = {n: hashlib.sha256(p.read_bytes()).hexdigest()[:8] for n, p in files.items()}

    most = max(settings.times) * settings.hands
    folder = settings.run / 'hands'
    with Progress() as progress:
        rendered = CleanHands(14, DRAWN_AT_ONCE, CLEAN_SEED, size_px=settings.size)
        clean = pool(folder / 'clean', rendered, 0, most, settings.workers, progress)
        real, held_out = real_pools(settings, most, progress)
        learned = {CLEAN: ('clean', clean)}
        for name, path in files.items():
            key = f'{name}-{digests[name]}'
            images = refined(folder / key, clean, load_refiner(path), settings.device, progress)
            learned[f'refined by {name}'] = (key, images)
        learned[REAL] = ('real', real)

        # Seeds first: an interrupted table compares what it has.
        cells: dict[Cell, dict[str, Any]] = {}
        for seed in range(settings.seeds):
            for times in settings.times:
                for name, (key, hands) in learned.items():
                    cell = Cell(name, key, times, seed)
                    cells[cell] = done(cell, settings, hands, held_out, progress)

        metrics = metrics_of(settings, learned, clean, held_out, progress)
    cells = {c: cells[c] for name in learned for c in cells if c.learned == name}
    text = table(cells, settings)
    print(
        f'Joints within {WITHIN_PX:g} px of 224 on {len(held_out.counts)} held-out hands, per '
        f'cent, mean and standard deviation of {settings.seeds} '
        f'{"seed" if settings.seeds == 1 else "seeds"}:\n\n{text}\n'
    )
    for name, figures in metrics.items():
        print(f'{name}: ' + ', '.join(f'{k} {v:.3g}' for k, v in figures.items()))
    write_png(settings.run / 'curve.png', curve(cells, settings))
    shown = {name: hands for name, (_, hands) in learned.items() if name != REAL}
    write_png(settings.run / 'side_by_side.png', side_by_side({**shown, 'real': held_out}))
    result = {
        'table': text,
        'cells': [cell._asdict() | figures for cell, figures in cells.items()],
        'thresholds_px': THRESHOLDS_PX,
        'metrics': metrics,
        'refiners': {name: str(path) for name, path in files.items()},
        'settings': now,
        'commit': commit(),
    }
    path = settings.run / 'table.json'
    path.write_text(json.dumps(result, indent=1))
    print(f'{path}, and curve.png and side_by_side.png beside it.')
    return path


def metrics_of(
    settings: Settings,
    learned: dict[str, tuple[str, Pool]],
    clean: Pool,
    held_out: Pool,
    progress: Progress,
) -> dict[str, dict[str, float]]:
    """Return the metrics of `training.synth2real.hand_metrics` of each kind of hands.

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
    task = progress.add_task('Metrics', total=len(learned))
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
        progress.advance(task)
    progress.remove_task(task)
    return result


if __name__ == '__main__':
    try:
        evaluate(tyro.cli(Settings, description=__doc__))
    except KeyboardInterrupt:
        raise SystemExit('Stopped. The same command goes on with what is missing.') from None
