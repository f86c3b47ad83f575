"""Metric depth of a single colour image."""
