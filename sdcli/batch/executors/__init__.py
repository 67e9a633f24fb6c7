"""Executors: where the pictures of a batch are drawn, one file a place."""
