"""The client of the service, and its connection to the scheduler."""

from swarm.client.client import AsyncClient, AsyncJobHandle, Client, JobHandle, environment
from swarm.service.published.job_state import ENDED, JobState

__all__ = ["ENDED", "AsyncClient", "AsyncJobHandle", "Client", "JobHandle", "JobState", "environment"]
