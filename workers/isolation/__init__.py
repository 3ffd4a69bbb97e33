"""Trainings in child processes: forked, limited, told to stop and killed."""
