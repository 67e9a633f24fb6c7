"""What is asked, and its spellings; standard library and Pillow only."""
