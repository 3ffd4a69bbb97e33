"""Loggers of Dask and Bokeh that say much, and the variable by which a user says how much of it to show."""

from __future__ import annotations

LOGGING = "DASK_LOGGING__DISTRIBUTED"
NOISY = ("distributed", "distributed.worker", "distributed.nanny", "distributed.scheduler", "bokeh")
