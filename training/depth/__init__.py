"""Depth refinement: fills holes and corrects measurements of a depth camera."""
