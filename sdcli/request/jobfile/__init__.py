"""Job files: the requests of a batch from YAML, JSON, JSON lines, CSV, prompt lines and pictures."""
