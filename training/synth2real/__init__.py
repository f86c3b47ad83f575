"""Rendered depth made to look measured: SimGAN, CycleGAN, and a GAN posed by joints."""
