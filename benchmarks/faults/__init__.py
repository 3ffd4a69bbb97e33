"""What faults cost."""
