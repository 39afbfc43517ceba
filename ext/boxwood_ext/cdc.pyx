"""Content-defined chunking. See the stub."""

from libc.stdint cimport uint8_t, uint64_t

_MIN, _AVERAGE, _MAX = 2 << 10, 8 << 10, 32 << 10
MINIMUM, AVERAGE, MAXIMUM = _MIN, _AVERAGE, _MAX

cdef uint64_t[256] GEAR


cdef void _fill_gear() noexcept nogil:
    # SplitMix64 (Steele, Lea, Flood 2014) from 0: any fixed, well mixed numbers will do, and these
    # never change, for both ends of a transfer must cut alike.
    cdef uint64_t state = 0, mixed
    cdef int at
    for at in range(256):
        state += <uint64_t>0x9E3779B97F4A7C15
        mixed = state
        mixed = (mixed ^ (mixed >> 30)) * <uint64_t>0xBF58476D1CE4E5B9
        mixed = (mixed ^ (mixed >> 27)) * <uint64_t>0x94D049BB133111EB
        GEAR[at] = mixed ^ (mixed >> 31)


_fill_gear()


cdef size_t _cut(
    const uint8_t *data, size_t size, size_t least, size_t average, size_t most,
    uint64_t strict, uint64_t loose,
) noexcept nogil:
    """Bytes of the first chunk of `data`; `size` when no cut was found in less than `most`.

    The mask is the strict one up to the average size and the loose one beyond: sizes gather
    about it ("normalised chunking"). The hash begins anew in each chunk, so where one ends
    depends on its own bytes alone.
    """
    cdef size_t at = least
    cdef size_t end = size if size < most else most
    cdef size_t middle = average if average < end else end
    cdef uint64_t print_ = 0
    while at < middle:
        print_ = (print_ << 1) + GEAR[data[at]]
        at += 1
        if not print_ & strict:
            return at
    while at < end:
        print_ = (print_ << 1) + GEAR[data[at]]
        at += 1
        if not print_ & loose:
            return at
    return end


def cuts(
    const uint8_t[::1] data, bint final=False, size_t least=_MIN, size_t average=_AVERAGE,
    size_t most=_MAX,
):
    cdef size_t size = data.shape[0], at = 0, step
    cdef int bits = average.bit_length() - 1
    # High bits: each of them depends on many of the last bytes, the lowest on one.
    cdef uint64_t strict = ~(<uint64_t>-1 >> (bits + 2))
    cdef uint64_t loose = ~(<uint64_t>-1 >> (bits - 2))
    cdef list found = []
    if not 64 <= least < average < most or average & (average - 1) or bits > 32:
        raise ValueError(f"chunk sizes: {least}, {average}, {most}")
    if size == 0:
        return found
    cdef const uint8_t *first = &data[0]
    while at < size:
        with nogil:
            step = _cut(first + at, size - at, least, average, most, strict, loose) \
                if size - at > least else size - at
        if step == size - at and step < most and not final:
            break
        at += step
        found.append(at)
    return found
