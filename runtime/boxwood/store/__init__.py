"""What the engine keeps on disk: content, layers and records."""
