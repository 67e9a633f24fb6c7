"""Model files: what they are, from their headers and configs alone. Imports no torch."""
