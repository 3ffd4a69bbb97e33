"""Who shares the slots of a cluster, and how many each may take."""
