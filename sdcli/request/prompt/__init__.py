"""Prompt: the languages of prompts, read into parts, schedules, weighted pieces and chunks of tokens."""
