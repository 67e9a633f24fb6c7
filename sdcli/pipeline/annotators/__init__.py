"""Annotators: what is read off a picture, as a picture; one file each."""
