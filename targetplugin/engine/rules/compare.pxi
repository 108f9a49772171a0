# Comparing legs: a run of extents is locked, read from every leg in sync, and compared two by two in copy buffers, which is
# the executor's to do. What differs is told and left as it is: nobody knows which leg is right.
#
# Its buffers come before its lock: who has a lock waits for buffers of those that only wait for disks.


cdef int compare_check(Core c, uint64_t offset, uint64_t length) noexcept nogil:
    """0, or the errno for which this run can't be compared now."""
    cdef uint64_t unit = <uint64_t>1 << c.extent_shift
    if c.booting or c.closing or c.comparing:
        return -EBUSY
    if not length or length > COPY_BYTES or offset % unit or offset >= c.size or length > c.size - offset:
        return -ERANGE
    if __builtin_popcount(legs_in_sync(c)) < 2:
        return -EINVAL
    return 0


cdef void compare_advance(Core c, task_t *t) noexcept nogil:
    cdef uint32_t at
    if t.step == STEP_BEGIN:
        if __builtin_popcount(c.buffers_free) < 2:
            enqueue(c, t, Q_BUFFER)
            return
        t.buffer = <uint8_t>__builtin_ctz(c.buffers_free)
        c.buffers_free &= c.buffers_free - 1
        t.tail_at = <uint32_t>__builtin_ctz(c.buffers_free)
        c.buffers_free &= c.buffers_free - 1
        lock(c, t, STEP_LOCKED)
        return
    if t.step == STEP_LOCKED:
        # Rule 4 holds for it, too: while it has the lock no write of the run is half done.
        t.need = c.events
        t.issued = legs_in_sync(c) & ~c.unreadable
        memset(c.compared, 0, sizeof(c.compared))
        if __builtin_popcount(t.issued) < 2:
            compare_end(c, t, 0 if c.unreadable else -EINVAL)
            return
        t.medium = <uint8_t>__builtin_ctz(t.issued)
        t.issued &= t.issued - 1
        c.compared_with = t.medium
        compare_read(c, t)
        emit_io(c, t, ACT_READ, t.medium, t.offset, t.length, BUFFER_COPY, t.buffer, 0, 0)
        return
    if c.events != t.need:
        # A leg failed, left or came: what was read may be another medium's by now.
        t.step = STEP_LOCKED
        ready(c, t)
        return
    if t.step == STEP_READ:
        if t.failed:
            c.unreadable |= t.failed  # told, not mended: nor is a leg given up for it
            t.step = STEP_LOCKED
            ready(c, t)
            return
        t.part = 0
        compare_part(c, t)
        return
    if t.status > 0:  # the byte that differs first, counted from 1
        at = <uint32_t>((t.part + t.status - 1) >> c.extent_shift)
        c.compared[at] |= <uint16_t>(1 << t.source)
        t.part = <uint64_t>(at + 1) << c.extent_shift
        if t.part < t.length:
            compare_part(c, t)
            return
    if t.issued:
        compare_read(c, t)
    else:
        compare_end(c, t, 0)


cdef void compare_read(Core c, task_t *t) noexcept nogil:
    """Reads the next leg."""
    t.source = <uint8_t>__builtin_ctz(t.issued)
    t.issued &= t.issued - 1
    t.failed = 0
    t.step = STEP_READ
    emit_io(c, t, ACT_READ, t.source, t.offset, t.length, BUFFER_COPY, t.tail_at, 0, 0)


cdef void compare_part(Core c, task_t *t) noexcept nogil:
    """Compares both buffers from t.part on."""
    cdef action_t *a
    t.status = 0
    t.step = STEP_DONE
    a = emit_io(c, t, ACT_COMPARE, t.source, t.offset + t.part, t.length - t.part, BUFFER_COPY, t.buffer, t.part, 0)
    a.copy = t.tail_at


cdef void compare_end(Core c, task_t *t, int32_t status) noexcept nogil:
    c.buffers_free |= <uint32_t>1 << t.tail_at
    buffer_free(c, t)
    c.comparing = 0
    c.copy_active -= 1
    emit_done(c, t.number, status)
    task_end(c, t)
