"""Depth of colour by pix2pix and by a two-stage cascade."""
