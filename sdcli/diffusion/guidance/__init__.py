"""Guidance: how predictions for the prompt and against the negative become one; one file each."""
