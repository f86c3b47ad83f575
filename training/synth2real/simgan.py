"""SimGAN, Algorithm 1 of the paper: the training loop."""

from __future__ import annotations

from dataclasses import asdict
from functools import partial
import math
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Subset

from ..networks.hourglass import load_hourglass
from ..networks.simgan import (
    REAL,
    REFINED,
    Discriminator,
    Refined,
    patches,
)
from ..refiners import EYES, HANDS, export_refiner, simgan_refiner
from ..running import Run, commit
from .history_buffer import HistoryBuffer
from .simgan_domains import Rounds, gaze, hands
from .simgan_losses import (
    PSI,
    Psi,
    accuracy,
    adversarial,
    features_of,
    lost_share,
    self_regularisation,
)
from .simgan_settings import GazeSettings, HandSettings, rate, updates


def psi_of(name: str) -> Psi:
    """Return what self-regularisation keeps."""
    if name in PSI:
        return PSI[name]
    if not Path(name).exists():
        raise SystemExit(f'--psi {name} is neither a file nor one of {", ".join(PSI)}.')
    return features_of(load_hourglass(Path(name)))


class Best:
    """The best weights so far, by a score of which least is best."""

    def __init__(self) -> None:
        self.score, self.step = math.inf, 0
        self.weights: dict[str, Tensor] = {}

    def update(self, score: float, step: int, network: nn.Module) -> bool:
        """Keep the weights if they are better, and return whether they are."""
        better = score < self.score
        if better:
            self.score, self.step = score, step
            self.weights = {k: v.detach().cpu().clone() for k, v in network.state_dict().items()}
        return better

    def state_dict(self) -> dict[str, Any]:
        """Return what is kept."""
        return {'score': self.score, 'step': self.step, 'weights': self.weights}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take what was kept."""
        self.score, self.step = state_dict['score'], state_dict['step']
        self.weights = state_dict['weights']


def known(image: Tensor) -> Refined:
    """Return images of which is kept what is not 0."""
    return Refined(image, (image != 0).to(image.dtype))


def train(settings: HandSettings | GazeSettings) -> Path:
    """Train, export, and return the path of the model."""
    if settings.devices * settings.nodes > 1:
        raise SystemExit('SimGAN trains on one device: its history is that of one refiner.')
    # Not Fabric's mixed precision: it would round depth itself to bfloat16, by up to 4 mm.
    fabric = settings.fabric()
    computing = partial(torch.autocast, fabric.device.type, torch.bfloat16, enabled=settings.mixed)
    psi = psi_of(settings.psi)
    domain = hands(settings) if isinstance(settings, HandSettings) else gaze(settings)

    raw_refiner = simgan_refiner(asdict(settings))
    raw_discriminator = Discriminator(
        domain.channels, domain.layers, domain.size, settings.adversarial
    )
    refiner_adam, discriminator_adam = (
        torch.optim.Adam(network.parameters(), settings.learning_rate, betas=(0.5, 0.999))
        for network in (raw_refiner, raw_discriminator)
    )
    history, best = HistoryBuffer(settings.history), Best()
    run = Run(
        fabric,
        settings.run,
        settings,
        refiner=raw_refiner,
        discriminator=raw_discriminator,
        refiner_optimizer=refiner_adam,
        discriminator_optimizer=discriminator_adam,
        history=history,
        best=best,
    )
    for network in (raw_refiner, raw_discriminator):
        network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    refiner, refiner_optimizer = fabric.setup(raw_refiner, refiner_adam)
    discriminator, discriminator_optimizer = fabric.setup(raw_discriminator, discriminator_adam)
    grid = (1, 1) if settings.adversarial == 'global' else patches(domain.layers, domain.size)
    fabric.print(
        f'{len(domain.checked)} images of {domain.size} are classified in {grid} patches.'
    )

    @torch.no_grad()
    def report(step: int) -> None:
        device = fabric.device
        parts = domain.checked.to(device).split(settings.batch)
        with computing():
            after = torch.cat([refiner(part).without_holes().float() for part in parts])
            on_refined = discriminator(domain.seen(known(after)))
            on_real = discriminator(domain.seen(known(domain.wanted.to(device))))
        figures = domain.figures(domain.checked, after.cpu(), domain.wanted)
        figures['refined_found'] = float(accuracy(on_refined, REFINED))
        figures['real_found'] = float(accuracy(on_real, REAL))
        run.write(step, 'validation', figures)
        run.picture(step, 'validation', domain.sheet(domain.checked, after.cpu(), domain.wanted))
        line = ', '.join(f'{name} {value:.3g}' for name, value in figures.items())
        # A run that was interrupted keeps what one that was not would have kept.
        regular = step % settings.validate_every == 0 or step == settings.steps
        if regular and step > settings.refiner_alone + settings.discriminator_alone:
            line += '; best so far' * best.update(domain.score(figures), step, raw_refiner)
        fabric.print(f'step {step}: {line}', flush=True)

    rounds = Rounds(domain.synthetic, domain.real, settings)
    loader = fabric.setup_dataloaders(
        DataLoader(
            Subset(rounds, range(run.start, settings.steps)),
            batch_size=None,
            num_workers=settings.workers,
        ),
        use_distributed_sampler=False,
    )
    step = run.start
    if step == 0:
        report(0)
    for step, (synthetic, real) in run.steps(loader):
        wanted = updates(step, settings)
        for optimizer in (refiner_optimizer, discriminator_optimizer):
            for group in optimizer.param_groups:
                group['lr'] = rate(step, settings)
        losses: dict[str, Tensor] = {}

        # Refiner: be taken for real, and stay close; at first, only that.
        for image in synthetic[: wanted.refiner]:
            with computing():
                refined = refiner(image)
            stays = self_regularisation(psi, refined, image, unit=domain.unit, hole=domain.hole)
            loss = settings.self_weight * stays
            if domain.area_weight:
                off = (lost_share(refined, image) - domain.lacking).abs()
                loss = loss + domain.area_weight * off
            if wanted.discriminator:
                with computing():
                    fooled = adversarial(discriminator(domain.seen(refined)).float(), REAL)
                loss = loss + fooled
                losses['refiner'] = fooled
            refiner_optimizer.zero_grad()
            fabric.backward(loss)
            refiner_optimizer.step()
            losses['self_regularisation'] = stays

        # Discriminator: tell real images from refined ones, of now and of earlier.
        for image, measured in zip(synthetic[wanted.refiner :], real, strict=True):
            with torch.no_grad(), computing():
                now = refiner(image).without_holes()
            with computing():
                on_refined = discriminator(domain.seen(known(history.mixed(now)))).float()
                on_real = discriminator(domain.seen(known(measured))).float()
            discriminator_loss = adversarial(on_refined, REFINED) + adversarial(on_real, REAL)
            discriminator_optimizer.zero_grad()
            fabric.backward(discriminator_loss)
            discriminator_optimizer.step()
            losses['discriminator'] = discriminator_loss
            right = accuracy(on_refined, REFINED) + accuracy(on_real, REAL)
            losses['accuracy'] = right / 2

        run.log(step, losses, next(iter(losses)))
        if run.validates(step):
            report(step)
            late = step - max(best.step, settings.refiner_alone + settings.discriminator_alone)
            if 0 < settings.patience * settings.validate_every <= late:
                fabric.print(f'No better refiner since step {best.step}.')
                break
    run.save(step)

    network = simgan_refiner(asdict(settings))
    network.load_state_dict(
        best.weights or {k: v.cpu() for k, v in raw_refiner.state_dict().items()}
    )
    fabric.print(
        f'Of step {best.step}.' if best.weights else 'None was validated: of the last step.'
    )
    model = settings.run / 'model.onnx'
    metadata = {
        'name': f'simgan_{settings.domain}',
        'sizes': [list(domain.size)],
        'step': best.step or step,
        'commit': commit(),
    }
    unit = HANDS if settings.domain == 'hands' else EYES
    export_refiner(network, model, domain.checked[:4], metadata, unit)
    return model
