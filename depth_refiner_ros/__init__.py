"""Repairs depth images in real time: denoised, filled, and honest about which pixels to trust."""
