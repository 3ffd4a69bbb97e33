"""What the pages of one search are made of: words, ranges, interpolated ground, and what a thread works out."""
