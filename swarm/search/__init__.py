"""The loop of one job: ask, look into the archive, submit, journal, tell."""

from swarm.search.search import Search, replayed
from swarm.search.state import CRASHES_ALLOWED, LOSSES_ALLOWED, MOST_FAILURES, SearchState, replay

__all__ = ["CRASHES_ALLOWED", "LOSSES_ALLOWED", "MOST_FAILURES", "Search", "SearchState", "replay", "replayed"]
