"""Benches that a user runs on the own machine: which driver is quick here, and what changed since.

:mod:`boxwood.bench.frame` measures and counts and knows no kind of driver; a module such as
:mod:`boxwood.bench.storage` says what is measured.
"""
