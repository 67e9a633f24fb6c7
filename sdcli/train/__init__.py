"""Train: LoRAs and textual inversions from a folder of pictures, and what training shows the network."""
