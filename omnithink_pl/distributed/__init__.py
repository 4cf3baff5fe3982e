"""Collectives, the failure barrier, and work divided among ranks."""
