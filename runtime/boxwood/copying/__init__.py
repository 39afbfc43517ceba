"""Images from one place to another without an engine: nothing is unpacked, nothing changed.

Both places are named in a transport's terms (:mod:`boxwood.drivers.registry`). ``boxwood copy`` and
``boxwood image mirror`` are made of it.
"""
