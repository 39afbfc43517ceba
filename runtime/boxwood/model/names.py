"""Names of containers: which are allowed, and made-up ones."""

from __future__ import annotations

import random
import re

from boxwood.errors import InvalidArgument

ALLOWED = "[a-zA-Z0-9][a-zA-Z0-9_.-]"
_NAME = re.compile(ALLOWED + r"+\Z")

# Woods and their properties; a name says nothing about the container, so any two words do.
_ADJECTIVES = (
    "airy", "ample", "brave", "bright", "brisk", "calm", "clever", "coral", "cosy", "crisp",
    "curious", "deft", "dense", "eager", "early", "fair", "fine", "firm", "fleet", "fond",
    "frosty", "gentle", "glad", "golden", "grand", "hale", "handy", "happy", "hardy", "humble",
    "jolly", "keen", "kind", "light", "lively", "lucid", "lucky", "mellow", "merry", "mighty",
    "mild", "modest", "neat", "nimble", "noble", "patient", "placid", "polished", "proud", "quick",
    "quiet", "rapid", "ready", "robust", "rosy", "rustic", "serene", "sharp", "silent", "sleek",
    "smooth", "snug", "sober", "solid", "steady", "still", "sturdy", "subtle", "sunny", "supple",
    "swift", "tender", "tidy", "tough", "tranquil", "true", "upright", "vivid", "warm", "witty",
)  # fmt: skip
_NOUNS = (
    "acacia", "alder", "almond", "apple", "ash", "aspen", "balsa", "bamboo", "basswood", "beech",
    "birch", "bog", "boxwood", "briar", "bubinga", "butternut", "cedar", "cherry", "chestnut",
    "cocobolo", "cork", "cypress", "dogwood", "ebony", "elder", "elm", "fir", "gum", "hawthorn",
    "hazel", "hemlock", "hickory", "holly", "hornbeam", "ironwood", "iroko", "ivy", "jarrah",
    "juniper", "kauri", "kingwood", "laburnum", "larch", "laurel", "lilac", "lime", "linden",
    "locust", "mahogany", "mango", "maple", "meranti", "mulberry", "myrtle", "oak", "olive",
    "osage", "padauk", "palm", "pear", "pecan", "pine", "plane", "plum", "poplar", "quince",
    "redwood", "rosewood", "rowan", "sandalwood", "sapele", "satinwood", "spruce", "sycamore",
    "tamarack", "teak", "thuja", "tulipwood", "walnut", "wenge", "willow", "yew", "zebrano",
)  # fmt: skip


def check_name(name: str) -> str:
    """Return ``name`` without a leading slash; raises InvalidArgument in Docker's words."""
    bare = name.removeprefix("/")
    if _NAME.match(bare) is None:
        raise InvalidArgument(f"Invalid container name ({name}), only {ALLOWED} are allowed")
    return bare


def random_name(retry: int = 0) -> str:
    """Return a made-up name; after a collision (``retry`` > 0) with a digit at its end."""
    name = f"{random.choice(_ADJECTIVES)}_{random.choice(_NOUNS)}"
    return f"{name}{random.randrange(10)}" if retry else name
