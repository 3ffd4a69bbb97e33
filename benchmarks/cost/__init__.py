"""What the service, its pages and a slice of a training cost."""
