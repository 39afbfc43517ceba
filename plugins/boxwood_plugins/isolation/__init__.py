"""Isolation drivers: how a runtime document becomes a supervised process."""
