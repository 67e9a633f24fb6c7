"""Schedules: which noise levels a run visits; one file each."""
