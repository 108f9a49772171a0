# A look at a save that is not on a medium of its own, or not all of it: one without fill, or one that fills. Hosts write meanwhile:
# the run is locked, so that what is looked up in the legs is not overwritten; what was found is handed to whoever asked.


cdef int look_medium(Core c, uint32_t generation) noexcept nogil:
    """The medium that has what the save has of its own: its own while it is known, or the store. -1: there is no such save,
    or it is broken."""
    cdef int i
    cdef medium_t *m
    for i in range(MAX_MEDIA):
        m = &c.media[i]
        if m.used and m.role == ROLE_SAVE and m.generation == generation and m.state in (SAVE_FILLING, SAVE_WHOLE):
            return i
    return c.store if store_there(c) and sparse_whole(c, generation) else -1


cdef int look_check(Core c, uint32_t generation, uint64_t offset, uint64_t length) noexcept nogil:
    """0, or the errno for which it can't be read."""
    if c.booting or c.closing:
        return -EBUSY
    if not length or length > COPY_BYTES or offset >= c.size or length > c.size - offset or (offset | length) % 512:
        return -ERANGE
    return 0 if look_medium(c, generation) >= 0 else -ENOENT


cdef bint filled_read(Core c, task_t *t) noexcept nogil:
    """Asks for what a save that fills has from its medium, and for the rest from a leg, where it is as it was: it is copied
    before it is overwritten (rule 8). False: no leg can be read."""
    cdef const map_t *has = &c.media[t.medium].map
    cdef uint64_t at = t.offset
    cdef uint64_t end = t.offset + t.length
    cdef uint64_t run, extent
    cdef bint here
    cdef int leg = leg_least_busy(c, t.tried)
    if leg < 0 and map_next(has, extent_of(c, at), False) <= extent_of(c, end - 1):
        return False
    while at < end:
        extent = extent_of(c, at)
        here = map_test(has, extent)
        while (extent << c.extent_shift) < end and map_test(has, extent) == here:
            extent += 1
        run = min(extent << c.extent_shift, end) - at
        emit_io(c, t, ACT_READ, t.medium if here else <uint8_t>leg, at, run, BUFFER_COPY, t.buffer, at - t.offset, 0)
        at += run
    return True


cdef void look_end(Core c, task_t *t, int32_t status) noexcept nogil:
    buffer_free(c, t)
    c.copy_active -= 1
    emit_done(c, t.number, status)
    task_end(c, t)


cdef void look_advance(Core c, task_t *t) noexcept nogil:
    cdef action_t *a
    cdef uint32_t generation = t.flush_mask  # of the save
    cdef uint32_t i
    cdef bint asked
    if t.step == STEP_READ and t.failed:
        if (t.failed >> t.medium) & 1:
            look_end(c, t, -EIO)
            return
        for i in range(MAX_MEDIA):
            if (t.failed >> i) & 1:
                t.tried |= <uint32_t>1 << i
                leg_fail(c, i)
        t.step = STEP_LOCKED
    if t.step == STEP_LOCKED:
        if look_medium(c, generation) != t.medium:
            look_end(c, t, -ENOENT)  # it was lost meanwhile, or became whole
            return
        if t.buffer == NO_BUFFER:
            if not c.buffers_free:
                enqueue(c, t, Q_BUFFER)
                return
            t.buffer = <uint8_t>__builtin_ctz(c.buffers_free)
            c.buffers_free &= ~(<uint32_t>1 << t.buffer)
        t.failed = 0
        t.step = STEP_READ
        if t.medium == c.store:
            asked = store_read(c, t, generation, t.offset, t.length, leg_least_busy(c, t.tried), BUFFER_COPY, t.buffer, 0)
        else:
            asked = filled_read(c, t)
        if not asked:
            look_end(c, t, -EIO)
        return
    if t.step == STEP_READ:
        if look_medium(c, generation) != t.medium:
            look_end(c, t, -ENOENT)
            return
        t.step = STEP_DONE
        a = emit_io(c, t, ACT_GIVE, t.medium, 0, t.length, BUFFER_COPY, t.buffer, 0, 0)
        a.copy = t.number
        return
    look_end(c, t, 0)
