"""A run, or several, as one HTML page, and its figures as files."""

from swarm.report.report import Part, job_file, page, write

__all__ = ["Part", "job_file", "page", "write"]
