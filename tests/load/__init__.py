"""Load: many containers in a row, side by side and at once, and clients that behave badly."""
