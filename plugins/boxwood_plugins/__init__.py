"""The drivers that come with Boxwood, found by entry point as any other plugin is."""
