# A look at a save without fill, while hosts write: the run is locked, so that what it looks up in the legs is not overwritten
# meanwhile; and handed to whoever asked.


cdef int look_check(Core c, uint32_t generation, uint64_t offset, uint64_t length) noexcept nogil:
    """0, or the errno for which it can't be read."""
    if c.booting or c.closing:
        return -EBUSY
    if not length or length > COPY_BYTES or offset >= c.size or length > c.size - offset or (offset | length) % 512:
        return -ERANGE
    return 0 if store_there(c) and sparse_whole(c, generation) else -ENOENT


cdef void look_end(Core c, task_t *t, int32_t status) noexcept nogil:
    buffer_free(c, t)
    c.copy_active -= 1
    emit_done(c, t.number, status)
    task_end(c, t)


cdef void look_advance(Core c, task_t *t) noexcept nogil:
    cdef action_t *a
    cdef uint32_t generation = t.flush_mask  # of the save
    cdef uint32_t i
    if t.step == STEP_READ and t.failed:
        if (t.failed >> c.store) & 1:
            look_end(c, t, -EIO)
            return
        for i in range(MAX_MEDIA):
            if (t.failed >> i) & 1:
                t.tried |= <uint32_t>1 << i
                leg_fail(c, i)
        t.step = STEP_LOCKED
    if t.step == STEP_LOCKED:
        if not store_there(c) or not sparse_whole(c, generation):
            look_end(c, t, -ENOENT)  # it was lost meanwhile
            return
        if t.buffer == NO_BUFFER:
            if not c.buffers_free:
                enqueue(c, t, Q_BUFFER)
                return
            t.buffer = <uint8_t>__builtin_ctz(c.buffers_free)
            c.buffers_free &= ~(<uint32_t>1 << t.buffer)
        t.failed = 0
        t.step = STEP_READ
        if not store_read(c, t, generation, t.offset, t.length, leg_least_busy(c, t.tried), BUFFER_COPY, t.buffer, 0):
            look_end(c, t, -EIO)
        return
    if t.step == STEP_READ:
        if not sparse_whole(c, generation):
            look_end(c, t, -ENOENT)
            return
        t.step = STEP_DONE
        a = emit_io(c, t, ACT_GIVE, c.store, 0, t.length, BUFFER_COPY, t.buffer, 0, 0)
        a.copy = t.number
        return
    look_end(c, t, 0)
