"""Upscalers: how the networks of upscaler files are told and built, by the names and shapes of their tensors."""
