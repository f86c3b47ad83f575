"""Translations of earlier steps, which a discriminator is shown besides those of now."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor


class ImagePool:
    """CycleGAN's pool: of every image that is given, one is returned, a new one or an old one.

    J.-Y. Zhu, T. Park, P. Isola, A. A. Efros, "Unpaired image-to-image translation using
    cycle-consistent adversarial networks", ICCV 2017, section 4: the 50 images made last, after
    SimGAN's history. As in the authors' code an old image makes room for a new one when it is
    returned, with probability 1/2, so that what a pool holds is older than 50 images. Images are
    kept on the CPU; chance is PyTorch's own.

    Args:
        size: Images that are kept; 0 returns every image as it is.
    """

    def __init__(self, size: int = 50) -> None:
        self.size = size
        self._images: list[Tensor] = []

    def __len__(self) -> int:
        """Return how many images there are."""
        return len(self._images)

    def exchanged(self, images: Tensor) -> Tensor:
        """Return a batch (B, ...) for a batch; nothing can be learned through it.

        While the pool fills, images are kept and returned as well.
        """
        returned = []
        for image in images.detach():
            if len(self) < self.size:
                self._images.append(image.cpu().clone())
            elif self.size and torch.rand(()) < 0.5:
                place = int(torch.randint(self.size, ()))
                old = self._images[place]
                self._images[place] = image.cpu().clone()
                image = old.to(images.device)
            returned.append(image)
        return torch.stack(returned)

    def state_dict(self) -> dict[str, Any]:
        """Return what is kept."""
        return {'images': list(self._images)}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take what was kept."""
        self._images = list(state_dict['images'])
