"""Prompt: the languages that prompts are written in, read into parts, schedules, weighted pieces and chunks of tokens."""
