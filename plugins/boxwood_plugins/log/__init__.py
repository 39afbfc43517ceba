"""Log drivers: what becomes of the records that a shim has put on disk."""
