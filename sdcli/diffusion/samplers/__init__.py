"""Samplers: generators that take x down the noise levels, one step a level; one file each."""
