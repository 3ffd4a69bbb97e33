"""What a user submits: a job, its fields, its file and its problem."""

from swarm.job.job import Job, Scored
from swarm.job.rules import Prune, Stop, Then

__all__ = ["Job", "Prune", "Scored", "Stop", "Then"]
