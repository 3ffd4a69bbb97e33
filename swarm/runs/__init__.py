"""A stored run, read: what was found, its history, schedule and winner, and exports."""

from swarm.runs.run import STORE, Run, StoreName, named_store, stored_job

__all__ = ["STORE", "Run", "StoreName", "named_store", "stored_job"]
