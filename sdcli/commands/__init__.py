"""The commands of `sd`; one file each."""
