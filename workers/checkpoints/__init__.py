"""Checkpoints, their cache on the machine, and committed results."""
