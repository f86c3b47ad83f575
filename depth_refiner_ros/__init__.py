"""Repairs depth images in real time: denoised, filled, and honest about which pixels to trust."""

from .arrays import ArrayPipeline, load_pipeline

__all__ = ['ArrayPipeline', 'load_pipeline']
