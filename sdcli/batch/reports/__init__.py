"""Reports: what a batch leaves for people and for CI, one file a format."""
