"""Samplers: generators that walk x down the noise levels; one file each."""
