"""Gaze of rendered and photographed eyes."""
