"""Charts, axes and units that live pages and reports share."""
