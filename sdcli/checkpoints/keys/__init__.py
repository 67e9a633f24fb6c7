"""Key maps: tensor names in a file <-> our networks' names for the same tensors, which are diffusers' names.

Start with `single_file`: it sorts the keys of a whole file by component. `ldm` and `midas` hold the tables of names.
"""
