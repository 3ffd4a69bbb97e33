"""Runs trainings: everything that executes a user's code or touches a GPU. It decides nothing."""

from swarm import old_names

old_names.install()
