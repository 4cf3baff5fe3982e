"""What things cost, measured."""
