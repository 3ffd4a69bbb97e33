"""What the fields of a job say together: what is good, what contradicts what, and how two jobs differ."""
