# Maps of extents in memory. Owns setting, clearing, counting and scanning; knows no disk but for which slots are dirty.


cdef int map_make(map_t *m, uint64_t bits, uint8_t area, uint32_t tag) noexcept nogil:
    """Room for `bits` bits, all clear. Returns 0 or -ENOMEM."""
    memset(m, 0, sizeof(map_t))
    m.bits = bits
    m.area = area
    m.tag = tag
    m.slots = <uint32_t>((bits + SLOT_BITS - 1) // SLOT_BITS)
    m.words = <uint64_t *>calloc(m.slots * SLOT_WORDS, 8)
    m.dirty = <uint8_t *>calloc(m.slots, 1)
    m.sequence = <uint32_t *>calloc(m.slots, 4)
    if m.words == NULL or m.dirty == NULL or m.sequence == NULL:
        map_free(m)
        return -ENOMEM
    return 0


cdef void map_free(map_t *m) noexcept nogil:
    free(m.words)
    free(m.dirty)
    free(m.sequence)
    memset(m, 0, sizeof(map_t))


cdef void map_reset(map_t *m, uint8_t area, uint32_t tag) noexcept nogil:
    """All clear, and clean: a slot that is not on disk with this tag reads as clear."""
    memset(m.words, 0, <size_t>m.slots * SLOT_WORDS * 8)
    memset(m.dirty, 0, m.slots)
    m.count = 0
    m.area = area
    m.tag = tag


cdef inline bint map_test(const map_t *m, uint64_t bit) noexcept nogil:
    return (m.words[bit >> 6] >> (bit & 63)) & 1


cdef inline void map_set(map_t *m, uint64_t bit) noexcept nogil:
    cdef uint64_t one = <uint64_t>1 << (bit & 63)
    if not m.words[bit >> 6] & one:
        m.words[bit >> 6] |= one
        m.count += 1
        m.dirty[bit // SLOT_BITS] = 1


cdef inline void map_clear(map_t *m, uint64_t bit) noexcept nogil:
    cdef uint64_t one = <uint64_t>1 << (bit & 63)
    if m.words[bit >> 6] & one:
        m.words[bit >> 6] &= ~one
        m.count -= 1
        m.dirty[bit // SLOT_BITS] = 1


cdef uint64_t map_next(const map_t *m, uint64_t start, bint value) noexcept nogil:
    """The first bit at or after `start` that is `value`; m.bits where there is none."""
    cdef uint64_t word
    cdef uint64_t at = start
    while at < m.bits:
        word = m.words[at >> 6]
        if not value:
            word = ~word
        word >>= at & 63
        if word:
            at += <uint64_t>__builtin_ctzll(word)
            return at if at < m.bits else m.bits
        at = (at | 63) + 1
    return m.bits


cdef void map_or_word(map_t *m, uint64_t index, uint64_t word) noexcept nogil:
    cdef uint64_t added
    if (index + 1) << 6 > m.bits:
        if index << 6 >= m.bits:
            return
        word &= (<uint64_t>1 << (m.bits & 63)) - 1
    added = word & ~m.words[index]
    if added:
        m.words[index] |= added
        m.count += <uint64_t>__builtin_popcountll(added)
        m.dirty[(index << 6) // SLOT_BITS] = 1


cdef void map_put_word(map_t *m, uint64_t index, uint64_t word) noexcept nogil:
    if m.words[index] != word:
        m.count += <uint64_t>__builtin_popcountll(word)
        m.count -= <uint64_t>__builtin_popcountll(m.words[index])
        m.words[index] = word
        m.dirty[(index << 6) // SLOT_BITS] = 1


cdef void map_or(map_t *m, const uint64_t *words) noexcept nogil:
    """ORs another map's words, of the same number of bits, in."""
    cdef uint64_t index
    for index in range((m.bits + 63) >> 6):
        if words[index]:
            map_or_word(m, index, words[index])


cdef void map_or_bytes(map_t *m, const uint8_t *data) noexcept nogil:
    """ORs a bitmap in that is given as ceil(bits / 8) bytes, lowest bit first."""
    cdef uint64_t index, word, room
    cdef uint64_t size = (m.bits + 7) >> 3
    for index in range((m.bits + 63) >> 6):
        word = 0
        room = size - (index << 3)
        memcpy(&word, data + (index << 3), 8 if room > 8 else room)
        if word:
            map_or_word(m, index, word)


cdef void map_set_range(map_t *m, uint64_t first, uint64_t last) noexcept nogil:
    cdef uint64_t bit
    if last >= m.bits:
        last = m.bits - 1
    for bit in range(first, last + 1):
        map_set(m, bit)


cdef void map_recount(map_t *m) noexcept nogil:
    cdef uint64_t index
    m.count = 0
    for index in range(<uint64_t>m.slots * SLOT_WORDS):
        m.count += <uint64_t>__builtin_popcountll(m.words[index])


cdef bint map_slot_used(const map_t *m, uint32_t slot) noexcept nogil:
    """Whether the slot was ever written, or has a bit set."""
    cdef uint64_t index
    if m.sequence[slot]:
        return True
    for index in range(<uint64_t>slot * SLOT_WORDS, <uint64_t>(slot + 1) * SLOT_WORDS):
        if m.words[index]:
            return True
    return False
