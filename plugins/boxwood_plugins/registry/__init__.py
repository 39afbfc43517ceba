"""Registry transports: where images come from and go to."""
