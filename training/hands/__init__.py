"""Detector and 3-D joints of hands in depth images."""
