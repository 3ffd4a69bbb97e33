"""Earlier results that a job begins with: where they are, and what of them belongs to its space."""
