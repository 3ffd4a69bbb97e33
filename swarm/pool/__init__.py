"""Evaluations as futures that are pinned to the slots of a Dask cluster, and the same on a virtual clock."""

from swarm.pool.base import OnReport, Pool

__all__ = ["OnReport", "Pool"]
