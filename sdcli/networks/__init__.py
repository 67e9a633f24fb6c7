"""The borrowed networks: loading them, telling them what to draw, and calling them."""
