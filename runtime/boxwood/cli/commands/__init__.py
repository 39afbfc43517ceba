"""One module per command, each with its declaration as `COMMAND`."""
