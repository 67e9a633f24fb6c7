"""The embedded model: a diffusers folder with its card and its credits."""

from pathlib import Path

FOLDER = Path(__file__).parent
