"""Images from one Boxwood to another without a registry (``docs/store-to-store.md``).

Both engines are asked by the same client, which carries the frames of one to the other
(:mod:`~boxwood.services.images.peers.channel`). The receiving one says what it wants.
"""
