"""The loop of one job: ask, look into the archive, submit, journal, tell."""

from swarm.search.search import CRASHES_ALLOWED, LOSSES_ALLOWED, MOST_FAILURES, Search

__all__ = ["CRASHES_ALLOWED", "LOSSES_ALLOWED", "MOST_FAILURES", "Search"]
