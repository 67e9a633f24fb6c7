"""Key maps: tensor names in files of other programs, and the names that our networks use."""
