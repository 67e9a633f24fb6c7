"""The mathematics of diffusion sampling; knows no Request and no network."""
