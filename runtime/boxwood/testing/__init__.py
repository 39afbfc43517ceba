"""Suites that a driver passes: one kit for each contract."""
