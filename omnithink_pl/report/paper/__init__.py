"""The numbers that the paper prints, shipped with the package."""
