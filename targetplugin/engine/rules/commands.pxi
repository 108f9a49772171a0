# Host commands: READ, WRITE, SYNCHRONIZE CACHE on the legs. UNMAP and WRITE SAME of zeros are writes without data.


cdef void host_begin(Core c, task_t *t) noexcept nogil:
    c.host_active += 1
    ready(c, t)


cdef void host_end(Core c, task_t *t, int32_t status) noexcept nogil:
    cdef action_t *a = emit(c, ACT_ANSWER)
    a.number = t.number
    a.status = status
    log_leave(c, t)
    c.host_active -= 1
    task_end(c, t)


cdef inline uint64_t extent_of(Core c, uint64_t offset) noexcept nogil:
    return offset >> c.extent_shift


# --- READ ---------------------------------------------------------------------------------------

cdef void read_advance(Core c, task_t *t) noexcept nogil:
    cdef uint32_t i, failed
    if t.step == STEP_BEGIN:
        if t.status and t.flags & FLAG_FAILED:
            host_end(c, t, STATUS_READ_ERROR)
            return
        if t.status:  # a record that was under way when this came: one that begins now counts
            t.status = 0
            t.flags |= FLAG_FAILED
        # Rule 3: by the last record the next start could believe another leg, and show what is older.
        if wait_record(c, t, c.start_record, STEP_BEGIN):
            return
        read_issue(c, t)
        return
    failed = t.failed
    if t.step == STEP_FAILED:
        host_end(c, t, STATUS_READ_ERROR)
        return
    if not failed:
        c.counters[COUNT_READS] += 1
        host_end(c, t, STATUS_GOOD)
        return
    for i in range(c.media_end):
        if (failed >> i) & 1:
            t.tried |= <uint32_t>1 << i
            if c.media[i].role in (ROLE_SAVE, ROLE_SOURCE, ROLE_STORE):
                host_end(c, t, STATUS_READ_ERROR)
                return
            leg_fail(c, i)
    if leg_least_busy(c, t.tried) < 0:
        host_end(c, t, STATUS_READ_ERROR)
        return
    read_issue(c, t)


cdef void read_issue(Core c, task_t *t) noexcept nogil:
    cdef int leg = leg_least_busy(c, t.tried)
    cdef uint64_t at, end, run, extent
    cdef bint here
    t.failed = 0
    t.step = STEP_DONE
    if leg < 0:
        host_end(c, t, STATUS_NO_LEG)
        return
    if not c.recovering:
        emit_io(c, t, ACT_READ, <uint8_t>leg, t.offset, t.length, BUFFER_HOST, t.number, 0, 0)
        return
    # While a recover runs, what it has not copied yet is read from the save.
    at = t.offset
    end = t.offset + t.length
    while at < end:
        extent = extent_of(c, at)
        here = map_test(&c.pending, extent)
        run = extent
        while (run << c.extent_shift) < end and map_test(&c.pending, run) == here:
            run += 1
        run <<= c.extent_shift
        if run > end:
            run = end
        if not here:
            emit_io(c, t, ACT_READ, <uint8_t>leg, at, run - at, BUFFER_HOST, t.number, at - t.offset, 0)
        elif not recover_read(c, t, at, run - at, BUFFER_HOST, t.number, at - t.offset):
            t.failed = 0
            host_fail_unissued(c, t)
            return
        at = run


cdef bint recover_read(Core c, task_t *t, uint64_t offset, uint64_t length, uint8_t buffer, uint32_t number,
                       uint64_t buffer_offset) noexcept nogil:
    """Reads what is pending from where the recover finds it. False, with nothing asked for, where it can't be had."""
    if c.recover_source >= MAX_MEDIA:
        return False
    if c.recover_source == c.store:
        return store_read(c, t, c.recover_generation, offset, length, NO_SLOT, buffer, number, buffer_offset)
    emit_io(c, t, ACT_READ, c.recover_source, offset, length, buffer, number, buffer_offset, 0)
    return True


cdef void host_fail_unissued(Core c, task_t *t) noexcept nogil:
    """The recover's source is gone. Parts that were issued come back first."""
    if t.waiting:
        t.step = STEP_FAILED
    else:
        host_end(c, t, STATUS_READ_ERROR)


# --- WRITE --------------------------------------------------------------------------------------

cdef bint copies_needed(Core c, uint64_t offset, uint64_t length, bint recover_too) noexcept nogil:
    """Whether something must be copied before this range of the legs is overwritten (rules 8, 14)."""
    cdef uint64_t first = extent_of(c, offset)
    cdef uint64_t last = extent_of(c, offset + length - 1)
    cdef uint32_t i
    if recover_too and c.recovering and map_next(&c.pending, first, True) <= last:
        return True
    if c.sparse_newest and map_next(&c.media[c.store].map, first, False) <= last:
        return True
    for i in range(c.media_end):
        if c.media[i].role == ROLE_SAVE and c.media[i].state == SAVE_FILLING and c.media[i].used:
            if map_next(&c.media[i].map, first, False) <= last:
                return True
    return False


cdef void write_advance(Core c, task_t *t) noexcept nogil:
    cdef int entered
    if t.step == STEP_BEGIN:
        overwrite_widen(c, t)
        if copies_needed(c, t.lock_offset, t.lock_length, not t.wide) and not copies_spawn(c, t, not t.wide):
            enqueue(c, t, Q_TASK)
            return
        lock_range(c, t, STEP_LOCKED)
        return
    if t.step == STEP_LOCKED:
        if t.status:
            host_end(c, t, STATUS_WRITE_ERROR)
            return
        if copies_needed(c, t.lock_offset, t.lock_length, not t.wide):
            if c.recovering and c.recover_failed and not t.wide:
                host_end(c, t, STATUS_WRITE_ERROR)
                return
            unlock(c, t)
            t.step = STEP_BEGIN
            ready(c, t)
            return
        # A save that broke for want of a copy is recorded as broken before this goes out.
        if wait_record(c, t, c.guard_record, STEP_LOCKED) or wait_lost(c, t, STEP_LOCKED):
            return
        entered = log_enter(c, t)
        if entered == 2:
            enqueue(c, t, Q_LOG)
            return
        t.step = STEP_LOGGED
        if entered == 1:
            wait_record(c, t, t.need, STEP_LOGGED)
            return
    if t.step == STEP_LOGGED:
        if t.status:
            host_end(c, t, STATUS_WRITE_ERROR)
            return
        if overwrite_due(c, t):
            overwrite_begin(c, t)
            return
        t.wide = 0
        write_issue(c, t)
        return
    if t.wide:
        overwrite_advance(c, t)
        return
    if t.step == STEP_WRITTEN:
        if not write_settle(c, t):
            t.flags |= FLAG_FAILED
        t.step = STEP_ANSWER
    if t.step == STEP_ANSWER:
        if not t.status and wait_record(c, t, c.guard_record, STEP_ANSWER):
            return
        c.counters[COUNT_WRITES] += 1
        host_end(c, t, STATUS_WRITE_ERROR if t.status or t.flags & FLAG_FAILED else STATUS_GOOD)


cdef void write_mark(Core c, task_t *t) noexcept nogil:
    """Rule 2's marks: in memory now, and the log has them on disk."""
    cdef bint absent = leg_absent(c)
    cdef uint64_t extent
    for extent in range(extent_of(c, t.offset), extent_of(c, t.offset + t.length - 1) + 1):
        map_set(&c.live, extent)
        if absent:
            map_set(&c.missed, extent)


cdef void write_issue(Core c, task_t *t) noexcept nogil:
    cdef uint32_t mask = legs_written(c)
    cdef uint32_t i
    cdef uint8_t kind = ACT_ZERO if t.flags & FLAG_ZERO else ACT_WRITE
    cdef uint8_t flags = ACT_DURABLE if t.flags & HOST_FUA else 0
    if t.flags & HOST_UNMAP:
        flags |= ACT_UNMAP
    if not mask:
        host_end(c, t, STATUS_NO_LEG)
        return
    write_mark(c, t)
    t.step = STEP_WRITTEN
    t.failed = 0
    t.issued = mask
    for i in range(c.media_end):
        if (mask >> i) & 1:
            emit_io(c, t, kind, <uint8_t>i, t.offset, t.length, BUFFER_HOST, t.number, 0, flags)


cdef bint write_settle(Core c, task_t *t) noexcept nogil:
    """After writes to legs: those that failed become stale. False when no leg in sync has the data."""
    cdef uint32_t i, keep
    cdef uint32_t good = t.issued & ~t.failed & legs_in_sync(c)
    cdef uint64_t extent
    if not t.failed and good:
        return True
    keep = 0
    if not good and legs_in_sync(c):
        keep = legs_in_sync(c) & (~legs_in_sync(c) + 1)  # none has it: the lowest stays, the others are brought in from it
    for i in range(c.media_end):
        if (t.failed >> i) & 1 and not (keep >> i) & 1:
            leg_fail(c, i)
    if good:
        return True
    for i in range(c.media_end):
        if not c.media[i].used or c.media[i].role != ROLE_LEG or (keep >> i) & 1:
            continue
        if c.media[i].state == LEG_IN_SYNC:
            leg_fail(c, i)
        elif c.media[i].syncing != SYNC_NO:
            # It may hold what the others do not: copy the range to it again, by this daemon or the next.
            c.media[i].syncing = SYNC_COPYING
            for extent in range(extent_of(c, t.offset), extent_of(c, t.offset + t.length - 1) + 1):
                map_set(&c.media[i].map, extent)
                if c.missed_tag:
                    map_set(&c.missed, extent)
    return False


# --- SYNCHRONIZE CACHE --------------------------------------------------------------------------

cdef void flush_advance(Core c, task_t *t) noexcept nogil:
    if t.step == STEP_BEGIN:
        if not legs_in_sync(c):
            host_end(c, t, STATUS_NO_LEG)
            return
        t.issued = legs_written(c)  # one that is brought in may be the only one when this is over
        flush(c, t, t.issued, STEP_FLUSHED)
        return
    if t.step == STEP_FLUSHED:
        if not t.issued & ~t.failed & legs_in_sync(c):
            t.flags |= FLAG_FAILED
        t.step = STEP_ANSWER
    if not t.status and wait_record(c, t, c.guard_record, STEP_ANSWER):
        return
    c.counters[COUNT_FLUSHES] += 1
    host_end(c, t, STATUS_WRITE_ERROR if t.status or t.flags & FLAG_FAILED else STATUS_GOOD)
