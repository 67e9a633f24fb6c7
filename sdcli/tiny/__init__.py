"""The embedded model: a diffusers folder with its card and its credits."""
