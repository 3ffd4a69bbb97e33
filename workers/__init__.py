"""Runs trainings: everything that executes a user's code or touches a GPU. It decides nothing."""
