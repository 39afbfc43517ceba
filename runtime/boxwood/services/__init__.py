"""The services: one owner for each kind of object."""
