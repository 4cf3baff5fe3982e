"""What ``main.py`` can do with a trainer beside training, one verb a file."""
