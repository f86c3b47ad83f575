"""Folders of grey images for training, batches of them: eyes, rendered or photographed."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.utils.data import Dataset

_SUFFIXES = ('.png', '.jpg', '.jpeg', '.tif', '.tiff', '.bmp')


class GreyImages(Dataset[Tensor]):
    """Batches of the images below a folder, each a function of a seed and its number.

    Args:
        folder: With images in it or in its folders, of 8 or 16 bits; colours become grey.
        batch: Images of a batch.
        seed: Of their order.
        size: Rows and columns they are brought to, px.

    Raises:
        FileNotFoundError: If there are no images.
    """

    def __init__(self, folder: Path, batch: int, seed: int, size: tuple[int, int]) -> None:
        self.paths = sorted(p for p in folder.rglob('*') if p.suffix.lower() in _SUFFIXES)
        if not self.paths:
            raise FileNotFoundError(f'{folder} has no images ({", ".join(_SUFFIXES)}).')
        self.batch, self.seed, self.size = batch, seed, size
        self._order = lru_cache(2)(self._permutation)

    def __len__(self) -> int:
        """Return the number of batches that show each image once."""
        return -(-len(self.paths) // self.batch)

    def __getitem__(self, number: int) -> Tensor:
        """Return a batch (B, 1, H, W), 0 to 1; any number will do, epochs follow one another."""
        count = len(self.paths)
        shown = range(number * self.batch, (number + 1) * self.batch)
        images = [self._read(self.paths[self._order(n // count)[n % count]]) for n in shown]
        return torch.from_numpy(np.stack(images))[:, None]

    def _permutation(self, epoch: int) -> list[int]:
        order = np.random.default_rng((self.seed, epoch)).permutation(len(self.paths))
        return [int(index) for index in order]

    def _read(self, path: Path) -> npt.NDArray[np.float32]:
        image = cv2.imread(str(path), cv2.IMREAD_ANYDEPTH | cv2.IMREAD_GRAYSCALE)
        if image is None:
            raise OSError(f'{path} cannot be read as an image.')
        grey = image.astype(np.float32) / np.float32(65535 if image.dtype == np.uint16 else 255)
        height, width = self.size
        if grey.shape != (height, width):
            grey = cv2.resize(grey, (width, height), interpolation=cv2.INTER_AREA)
        return np.asarray(grey, np.float32)
