"""Families: what makes one kind of checkpoint different; one file each."""
