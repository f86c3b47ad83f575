"""Classical algorithms on arrays: what a stage does when it has no model."""
