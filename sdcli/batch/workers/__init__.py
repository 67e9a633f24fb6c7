"""Workers: processes and actors that draw the tasks of a batch, and how tasks are handed to them."""
