"""The hot paths of Boxwood, compiled. Nothing in here imports the rest of Boxwood."""
