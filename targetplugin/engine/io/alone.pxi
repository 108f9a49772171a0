# Commands that read what they then change are atomic against all others on the same blocks: what came before is over when
# one begins, and what comes after waits until it is over. Such commands are few; without one nothing is looked at.


cdef inline bint is_alone(uint8_t kind) noexcept nogil:
    return kind >= KIND_WRITE_VERIFY


cdef bint hindered(volume_t *v, slot_t *s) noexcept nogil:
    """Whether a command must wait for one that came before it."""
    cdef uint32_t i
    cdef slot_t *other
    cdef bint alone = is_alone(s.kind)
    for i in range(MAX_HOST):
        other = &v.slots[i]
        if (other.used and other.count and other.arrival < s.arrival and (alone or is_alone(other.kind))
                and other.lba < s.lba + s.count and s.lba < other.lba + other.count):
            return True
    return False


cdef void begin(reactor_t *r, volume_t *v, uint32_t tag, uint64_t lba, uint64_t count) noexcept nogil:
    """Starts a command that is found right, on these blocks; later, if it must wait."""
    cdef slot_t *s = &v.slots[tag]
    if v.left and unanswered_hinders(r, v, s, lba, count):
        answer(v, tag, BUSY, NULL, 0, 0, 0)
        return
    s.lba = lba
    s.count = count
    v.arrivals += 1
    s.arrival = v.arrivals
    if is_alone(s.kind):
        v.alone += 1
    if v.alone and hindered(v, s):
        s.waits = 1
        v.waiting += 1
    else:
        start(r, v, tag)


cdef void begin_waiting(reactor_t *r, volume_t *v) noexcept nogil:
    """Starts those that nothing hinders any more."""
    cdef uint32_t i
    v.freed = 0
    for i in range(MAX_HOST):
        if v.slots[i].used and v.slots[i].waits and not hindered(v, &v.slots[i]):
            v.slots[i].waits = 0
            v.waiting -= 1
            start(r, v, i)


cdef inline void over(volume_t *v, slot_t *s) noexcept nogil:
    """A command leaves its blocks to those that wait."""
    if s.count and is_alone(s.kind):
        v.alone -= 1
    s.count = 0
    s.kind = KIND_PYTHON
    if v.waiting:
        v.freed = 1
        v.touched = 1
