"""JSON shapes of answers: model values as the Engine API's clients expect them.

Empty lists are ``[]``; maps that typed clients index are always there.
"""
