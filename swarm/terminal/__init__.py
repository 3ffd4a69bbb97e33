"""What people see in a terminal: progress while a search runs, and tables."""
