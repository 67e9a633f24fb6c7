"""The mathematics; knows no Request and no network."""
