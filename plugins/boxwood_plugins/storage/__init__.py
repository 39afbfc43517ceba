"""Storage drivers: where a container's file system comes from."""
