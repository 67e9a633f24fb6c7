"""Guidance: how the estimates of prompt and negative prompt become one; one file each."""
