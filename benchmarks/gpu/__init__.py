"""What a GPU must tell, in half an hour: ``python -m benchmarks.gpu``."""
