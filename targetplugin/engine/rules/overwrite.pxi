# A host's write over extents that a recover has pending. It needs no copy of its own: what the host does not write of its
# first and last extent is read from the save, and goes to the legs with the host's data as one write of whole extents. Then
# rule 14 as for a copy: legs flushed, clear durable, answer. Zeros must cover whole extents: they carry no data to join.


cdef void overwrite_widen(Core c, task_t *t) noexcept nogil:
    """Whether the write can do so, as t.wide; and what it locks."""
    cdef uint64_t mask = (<uint64_t>1 << c.extent_shift) - 1
    cdef uint64_t first = extent_of(c, t.offset)
    cdef uint64_t last = extent_of(c, t.offset + t.length - 1)
    cdef uint64_t end = min((last + 1) << c.extent_shift, c.size)
    t.wide = 0
    t.lock_offset = t.offset
    t.lock_length = t.length
    if not c.recovering or map_next(&c.pending, first, True) > last or last - first >= 64:
        return
    if t.flags & FLAG_ZERO and (t.offset & mask or t.offset + t.length != end):
        return
    if (t.offset & mask) + (end - t.offset - t.length) > COPY_BYTES:
        return
    t.wide = 1
    t.lock_offset = first << c.extent_shift
    t.lock_length = end - t.lock_offset


cdef bint overwrite_due(Core c, task_t *t) noexcept nogil:
    """With the lock: whether there is something pending still."""
    return (t.wide and c.recovering
            and map_next(&c.pending, extent_of(c, t.offset), True) <= extent_of(c, t.offset + t.length - 1))


cdef void overwrite_begin(Core c, task_t *t) noexcept nogil:
    """The region is in the log: reads from the save what the host does not write."""
    cdef uint64_t end = t.lock_offset + t.lock_length
    cdef uint64_t last = extent_of(c, end - 1)
    cdef uint64_t after = t.offset + t.length
    t.head = t.tail = 0
    if map_test(&c.pending, extent_of(c, t.offset)):
        t.head = <uint32_t>(t.offset - t.lock_offset)
    if map_test(&c.pending, last):
        t.tail = <uint32_t>(end - after)
    if not t.head and not t.tail:
        overwrite_issue(c, t)
        return
    if c.recover_failed or c.recover_source >= MAX_MEDIA:
        host_end(c, t, STATUS_WRITE_ERROR)
        return
    if not c.buffers_free:
        enqueue(c, t, Q_BUFFER)
        return
    t.buffer = <uint8_t>__builtin_ctz(c.buffers_free)
    c.buffers_free &= ~(<uint32_t>1 << t.buffer)
    t.failed = 0
    t.step = STEP_READ
    if t.head and t.tail and last == extent_of(c, t.lock_offset):
        # One extent, one request: what lies between the two is read with them.
        t.tail_at = <uint32_t>(after - t.lock_offset)
        if not recover_read(c, t, t.lock_offset, t.lock_length, BUFFER_COPY, t.buffer, 0):
            overwrite_lost(c, t)
        return
    t.tail_at = t.head
    if t.head and not recover_read(c, t, t.lock_offset, t.head, BUFFER_COPY, t.buffer, 0):
        overwrite_lost(c, t)
        return
    if t.tail and not recover_read(c, t, after, t.tail, BUFFER_COPY, t.buffer, t.tail_at):
        overwrite_lost(c, t)


cdef void overwrite_lost(Core c, task_t *t) noexcept nogil:
    """What is pending can't be had. A part that was asked for comes back first."""
    recover_fail(c)
    if t.waiting:
        t.failed |= <uint32_t>1 << c.recover_source
    else:
        overwrite_end(c, t, STATUS_WRITE_ERROR)


cdef void overwrite_issue(Core c, task_t *t) noexcept nogil:
    """The write of all legs: the host's data between what was read."""
    cdef uint32_t i
    cdef action_t *a
    cdef uint8_t kind = ACT_ZERO if t.flags & FLAG_ZERO else ACT_WRITE
    cdef uint8_t flags = ACT_UNMAP if t.flags & HOST_UNMAP else 0
    t.issued = legs_written(c)
    if not t.issued:
        overwrite_end(c, t, STATUS_NO_LEG)
        return
    write_mark(c, t)
    t.failed = 0
    t.step = STEP_WRITTEN
    for i in range(MAX_MEDIA):
        if (t.issued >> i) & 1:
            a = emit_io(c, t, kind, <uint8_t>i, t.offset - t.head, t.head + t.length + t.tail,
                        BUFFER_JOINED, t.number, 0, flags)
            a.copy = t.buffer
            a.head = t.head
            a.tail = t.tail
            a.tail_at = t.tail_at


cdef void overwrite_clear(Core c, task_t *t) noexcept nogil:
    cdef uint64_t first = extent_of(c, t.lock_offset)
    cdef uint64_t extent
    t.cleared = 0
    for extent in range(first, extent_of(c, t.lock_offset + t.lock_length - 1) + 1):
        if map_test(&c.pending, extent):
            map_clear(&c.pending, extent)
            t.cleared |= <uint64_t>1 << (extent - first)
            c.counters[COUNT_RECOVERED] += 1


cdef void overwrite_restore(Core c, task_t *t) noexcept nogil:
    """The clear is not durable: the save's content counts, and the host is told of an error."""
    cdef uint64_t first = extent_of(c, t.lock_offset)
    cdef uint32_t i
    for i in range(64):
        if (t.cleared >> i) & 1:
            map_set(&c.pending, first + i)


cdef void overwrite_advance(Core c, task_t *t) noexcept nogil:
    """From the reading on."""
    if t.step == STEP_READ:
        if t.failed:
            recover_fail(c)
            overwrite_end(c, t, STATUS_WRITE_ERROR)
            return
        overwrite_issue(c, t)
        return
    if t.step == STEP_WRITTEN:
        if not write_settle(c, t):
            overwrite_end(c, t, STATUS_WRITE_ERROR)
            return
        flush(c, t, t.issued & legs_written(c), STEP_FLUSHED)
        return
    if t.step == STEP_FLUSHED:
        if not t.issued & ~t.failed & legs_in_sync(c):
            overwrite_end(c, t, STATUS_WRITE_ERROR)
            return
        t.step = STEP_RECORDED
    if t.step == STEP_RECORDED:
        # A leg that missed this is durably stale before the extent leaves the map.
        if not t.status and wait_record(c, t, c.guard_record, STEP_RECORDED):
            return
        if t.status:
            overwrite_end(c, t, STATUS_WRITE_ERROR)
            return
        overwrite_clear(c, t)
        round_wait(c, t, CLASS_COPIES, STEP_DURABLE)
        return
    if t.status:
        overwrite_restore(c, t)
    overwrite_end(c, t, STATUS_WRITE_ERROR if t.status else STATUS_GOOD)


cdef void overwrite_end(Core c, task_t *t, int32_t status) noexcept nogil:
    buffer_free(c, t)
    c.counters[COUNT_WRITES] += 1
    host_end(c, t, status)
