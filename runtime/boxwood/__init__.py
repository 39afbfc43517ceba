"""Boxwood: a container engine.

A small core that knows what a container engine is, and nothing about how: every how is a plugin.
"""

__version__ = "0.1.0"
