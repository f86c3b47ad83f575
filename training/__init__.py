"""Offline half of the project: synthetic worlds, sensor models, networks, their training."""
