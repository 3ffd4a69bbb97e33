"""What a user submits: a job, its fields, its file and its problem."""

from swarm.job.job import Job
from swarm.job.rules import Prune, Stop, Then
from swarm.job.specification.merit import Scored

__all__ = ["Job", "Prune", "Scored", "Stop", "Then"]
