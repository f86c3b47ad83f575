"""What a refiner made earlier, so that the discriminator does not forget it (SimGAN, 2.3)."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor


class HistoryBuffer:
    """Keeps refined images, on the CPU, whichever device they come from.

    What it draws and replaces is decided by PyTorch's own randomness.

    Args:
        size: Images that are kept, the paper's B; 0 keeps none.
    """

    def __init__(self, size: int) -> None:
        self.size = size
        self._images = torch.empty(0)

    def __len__(self) -> int:
        """Return how many images there are."""
        return len(self._images)

    def mixed(self, images: Tensor) -> Tensor:
        """Return images of which one half, if that many are kept, are earlier ones; keep some.

        Half of a batch is drawn from the buffer for a discriminator's step, and half of the batch
        replaces random images of the buffer after it, as in the paper: what is drawn is older
        than this batch. While the buffer fills, all of the half is added.

        Args:
            images: (b, ...), as refined now.

        Returns:
            (b, ...): the first half is of now.
        """
        images = images.detach()
        half = len(images) // 2
        drawn = images[len(images) - half :]
        if half and len(self) >= half:
            chosen = torch.randperm(len(self))[:half]
            drawn = self._images[chosen].to(images.device)
        self._replace(images[torch.randperm(len(images))[:half]].cpu())
        return torch.cat([images[: len(images) - half], drawn])

    def state_dict(self) -> dict[str, Any]:
        """Return what is kept."""
        return {'images': self._images}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take what was kept."""
        self._images = state_dict['images']

    def _replace(self, images: Tensor) -> None:
        added = images[: self.size - len(self)]
        if len(added):
            self._images = torch.cat([self._images, added]) if len(self) else added.clone()
        others = images[len(added) : len(added) + self.size]
        if len(others):
            self._images[torch.randperm(len(self))[: len(others)]] = others
