"""What the pages know of a running cluster: why slots are idle, and what users may do to jobs."""
