"""Network drivers: what a sandbox is connected to."""
