# Copies, the one mechanism under bringing a leg in, filling a save and recovering: read the part of a locked range that is
# still wanted, write it where it is missing, make that durable, mark it. Hosts' writes ask for copies of what they will
# overwrite; the background copier asks for the rest.


cdef bint copy_wanted(Core c, task_t *t, uint64_t extent) noexcept nogil:
    cdef medium_t *m = &c.media[t.medium]
    if t.kind == TASK_RECOVER:
        return c.recovering and not c.recover_failed and map_test(&c.pending, extent)
    if not m.used:
        return False
    if t.kind == TASK_FILL:
        return m.role == ROLE_SAVE and m.state == SAVE_FILLING and not map_test(&m.map, extent)
    return m.role == ROLE_LEG and m.syncing == SYNC_COPYING and map_test(&m.map, extent)


cdef bint copy_alive(Core c, task_t *t) noexcept nogil:
    """Whether what the copy is for is still there: the save fills, the leg is brought in."""
    cdef medium_t *m = &c.media[t.medium]
    if t.kind == TASK_FILL:
        return m.used and m.role == ROLE_SAVE and m.state == SAVE_FILLING
    return m.used and m.role == ROLE_LEG and m.syncing == SYNC_COPYING


cdef bint copy_part(Core c, task_t *t) noexcept nogil:
    """Finds the first run in the task's range that is still wanted, as t.part."""
    cdef uint64_t extent = extent_of(c, t.offset)
    cdef uint64_t end = extent_of(c, t.offset + t.length - 1) + 1
    cdef uint64_t first, most = COPY_BYTES >> c.extent_shift
    while extent < end and not copy_wanted(c, t, extent):
        extent += 1
    if extent == end:
        return False
    first = extent
    while extent < end and extent - first < most and copy_wanted(c, t, extent):
        extent += 1
    t.part = first << c.extent_shift
    t.part_length = (extent << c.extent_shift) - t.part
    if t.part + t.part_length > c.size:
        t.part_length = c.size - t.part
    return True


cdef bint copy_spawn(Core c, uint8_t kind, uint8_t medium, uint64_t first, uint64_t end, bint background) noexcept nogil:
    """Queues a copy of extents [first, end). False when there is no room for a task."""
    cdef task_t *t
    if c.lists[Q_FREE].count <= TASKS_SPARE:
        return False
    t = task_new(c, kind, STEP_BEGIN)
    t.medium = medium
    t.background = background
    t.offset = first << c.extent_shift
    t.length = (end << c.extent_shift) - t.offset
    c.copy_active += 1
    if background:
        c.background_active += 1
        if kind == TASK_RECOVER:
            c.recover_copies += 1
        else:
            c.media[medium].copies += 1
    lock(c, t, STEP_LOCKED)
    return True


cdef bint copies_spawn_one(Core c, uint8_t kind, uint8_t medium, const map_t *m, bint value, uint64_t first, uint64_t last) noexcept nogil:
    cdef uint64_t end
    cdef uint64_t most = COPY_BYTES >> c.extent_shift
    first = map_next(m, first, value)
    while first <= last and first < c.extents:
        if lock_has_copy(c, kind, medium, first << c.extent_shift):
            first = map_next(m, first + 1, value)
            continue
        end = first + 1
        while end <= last and end - first < most and map_test(m, end) == value:
            end += 1
        if not copy_spawn(c, kind, medium, first, end, False):
            return False
        first = map_next(m, end, value)
    return True


cdef bint copies_spawn(Core c, task_t *t, bint recover_too) noexcept nogil:
    """Asks for all that must be copied before this task's range is overwritten: first what saves lack, then the recover's."""
    cdef uint64_t first = extent_of(c, t.lock_offset)
    cdef uint64_t last = extent_of(c, t.lock_offset + t.lock_length - 1)
    cdef uint32_t i
    for i in range(MAX_MEDIA):
        if c.media[i].used and c.media[i].role == ROLE_SAVE and c.media[i].state == SAVE_FILLING:
            if not copies_spawn_one(c, TASK_FILL, <uint8_t>i, &c.media[i].map, False, first, last):
                return False
    if c.sparse_newest and not copies_spawn_one(c, TASK_KEEP, c.store, &c.media[c.store].map, False, first, last):
        return False
    if recover_too and c.recovering:
        return copies_spawn_one(c, TASK_RECOVER, c.recover_source, &c.pending, True, first, last)
    return True


cdef void buffer_free(Core c, task_t *t) noexcept nogil:
    if t.buffer != NO_BUFFER:
        c.buffers_free |= <uint32_t>1 << t.buffer
        t.buffer = NO_BUFFER
        wake_all(c, Q_BUFFER)  # all: the first may need none any more


cdef void copy_end(Core c, task_t *t) noexcept nogil:
    buffer_free(c, t)
    c.copy_active -= 1
    if t.background:
        c.background_active -= 1
        if t.kind == TASK_RECOVER:
            c.recover_copies -= 1
        else:
            c.media[t.medium].copies -= 1
    task_end(c, t)


cdef void copy_fail(Core c, task_t *t) noexcept nogil:
    """The copy can't be had: the save is broken, the leg stays out, the recover stops where it is."""
    if t.kind == TASK_FILL:
        save_break(c, t.medium)
    elif t.kind == TASK_SYNC:
        leg_fail(c, t.medium)
    else:
        recover_fail(c)
    copy_end(c, t)


cdef void recover_fail(Core c) noexcept nogil:
    """Its source can't be read, or the legs can't take it: it stops where it is."""
    if not c.recover_failed:
        c.recover_failed = 1
        emit_event(c, EVENT_RECOVER_FAILED, c.recover_source)


cdef void copy_advance(Core c, task_t *t) noexcept nogil:
    cdef uint32_t i, failed
    cdef int source
    cdef uint64_t extent
    if t.step == STEP_BEGIN:  # again, after its copies before write
        lock(c, t, STEP_LOCKED)
        return
    if t.step == STEP_LOCKED:
        if t.kind == TASK_RECOVER and copies_needed(c, t.offset, t.length, False):
            # Rule 8: copiers obey copy before write like hosts. What those need that copy meanwhile, it has not.
            buffer_free(c, t)
            unlock(c, t)
            t.step = STEP_BEGIN
            if copies_spawn(c, t, False):
                ready(c, t)
            else:
                enqueue(c, t, Q_TASK)
            return
        if t.kind == TASK_RECOVER:
            # Rule 9: nor does it overwrite what a save lacks for good, before that is known as broken.
            if t.status:
                copy_fail(c, t)
                return
            if wait_record(c, t, c.guard_record, STEP_LOCKED) or wait_lost(c, t, STEP_LOCKED):
                return
        if not copy_part(c, t):
            copy_end(c, t)
            return
        if t.buffer == NO_BUFFER:
            if not c.buffers_free:
                enqueue(c, t, Q_BUFFER)
                return
            t.buffer = <uint8_t>__builtin_ctz(c.buffers_free)
            c.buffers_free &= ~(<uint32_t>1 << t.buffer)
        t.failed = 0
        t.step = STEP_READ
        if t.kind == TASK_RECOVER:
            t.source = c.recover_source
            if not recover_read(c, t, t.part, t.part_length, BUFFER_COPY, t.buffer, 0):
                copy_fail(c, t)
            return
        source = leg_least_busy(c, t.tried)
        if source < 0:
            copy_fail(c, t)
            return
        t.source = <uint8_t>source
        emit_io(c, t, ACT_READ, t.source, t.part, t.part_length, BUFFER_COPY, t.buffer, 0, 0)
        return
    if t.kind != TASK_RECOVER and not copy_alive(c, t):
        copy_end(c, t)
        return
    if t.step == STEP_READ:
        if t.failed:
            if t.kind == TASK_RECOVER:
                copy_fail(c, t)
                return
            t.tried |= t.failed
            leg_fail(c, t.source)
            t.step = STEP_LOCKED
            ready(c, t)
            return
        if t.kind == TASK_RECOVER:
            t.issued = legs_written(c)
        else:
            t.issued = <uint32_t>1 << t.medium
        t.step = STEP_WRITTEN
        for i in range(MAX_MEDIA):
            if (t.issued >> i) & 1:
                emit_io(c, t, ACT_WRITE, <uint8_t>i, t.part, t.part_length, BUFFER_COPY, t.buffer, 0, 0)
        return
    if t.step == STEP_WRITTEN:
        if t.kind == TASK_RECOVER:
            if not write_settle(c, t):
                copy_fail(c, t)
                return
            flush(c, t, t.issued & legs_written(c), STEP_FLUSHED)
        elif t.failed:
            copy_fail(c, t)
        elif t.kind == TASK_FILL:
            flush(c, t, t.issued, STEP_FLUSHED)
        else:
            for extent in range(extent_of(c, t.part), extent_of(c, t.part + t.part_length - 1) + 1):
                if map_test(&c.media[t.medium].map, extent):
                    map_clear(&c.media[t.medium].map, extent)
                    c.counters[COUNT_SYNCED] += 1
            t.step = STEP_LOCKED
            ready(c, t)
        return
    if t.step == STEP_FLUSHED:
        if t.kind == TASK_FILL:
            if t.failed:
                copy_fail(c, t)
                return
        elif not t.issued & ~t.failed & legs_in_sync(c):
            copy_fail(c, t)
            return
        t.step = STEP_RECORDED
    if t.step == STEP_RECORDED:
        if t.status:
            copy_fail(c, t)
            return
        if t.kind == TASK_RECOVER and wait_record(c, t, c.guard_record, STEP_RECORDED):
            return
        for extent in range(extent_of(c, t.part), extent_of(c, t.part + t.part_length - 1) + 1):
            if t.kind == TASK_FILL:
                map_set(&c.media[t.medium].map, extent)
                c.counters[COUNT_FILLED] += 1
            else:
                map_clear(&c.pending, extent)
                c.counters[COUNT_RECOVERED] += 1
        round_wait(c, t, CLASS_COPIES, STEP_DONE)
        return
    if t.step == STEP_DONE:
        if t.status:
            if t.kind == TASK_RECOVER:
                for extent in range(extent_of(c, t.part), extent_of(c, t.part + t.part_length - 1) + 1):
                    map_set(&c.pending, extent)
            copy_fail(c, t)
            return
        store_leave(c, t)
        t.step = STEP_LOCKED
        ready(c, t)


# --- the background copier ----------------------------------------------------------------------

cdef bint background_run(Core c, uint8_t kind, uint8_t medium, const map_t *m, bint value, uint64_t *cursor, uint32_t copies) noexcept nogil:
    """Starts copies along a map up to the limit. True when the map is done and none is under way."""
    cdef uint64_t first, end
    cdef uint64_t most = COPY_BYTES >> c.extent_shift
    if (m.count == 0) if value else (m.count == m.bits):
        return copies == 0
    while copies < c.copies_allowed:
        first = map_next(m, cursor[0], value)
        if first >= c.extents:
            if copies == 0 and cursor[0]:
                cursor[0] = 0
                continue
            return False
        end = first + 1
        while end < c.extents and end - first < most and map_test(m, end) == value:
            end += 1
        if not copy_spawn(c, kind, medium, first, end, True):
            return False
        copies += 1
        cursor[0] = end
    return False


cdef void background(Core c) noexcept nogil:
    cdef uint32_t i
    cdef medium_t *m
    cdef task_t *t
    c.copying = False
    if c.booting or c.closing or c.paused:
        return  # not before a point's record is durable: what it copies over would be lost without it
    for i in range(MAX_MEDIA):
        m = &c.media[i]
        if not m.used:
            continue
        if m.role == ROLE_LEG and m.syncing == SYNC_COPYING:
            c.copying = True
            if background_run(c, TASK_SYNC, <uint8_t>i, &m.map, True, &m.cursor, m.copies):
                t = task_new(c, TASK_JOIN, STEP_BEGIN)
                if t != NULL:
                    t.medium = <uint8_t>i
                    m.syncing = SYNC_ENDING
                    ready(c, t)
        elif m.role == ROLE_SAVE and m.state == SAVE_FILLING:
            c.copying = True
            # Rule 8: whole only when every mark is durable, for nothing is copied to it before a host's write from here on.
            if (background_run(c, TASK_FILL, <uint8_t>i, &m.map, False, &m.cursor, m.copies)
                    and not copies_left(c, TASK_FILL, <uint8_t>i)):
                m.state = SAVE_WHOLE
                record_want(c)
                emit_event(c, EVENT_SAVE_WHOLE, <uint8_t>i)
    if c.recovering and not c.recover_failed and not c.turning:
        c.copying = True
        if background_run(c, TASK_RECOVER, c.recover_source, &c.pending, True, &c.recover_cursor, c.recover_copies):
            if not copies_left(c, TASK_RECOVER, c.recover_source):
                c.recovering = 0
                if c.recover_source == c.store:
                    sweep(c)
                record_want(c)
                emit_event(c, EVENT_RECOVERED, c.recover_source)


cdef bint copies_left(Core c, uint8_t kind, uint8_t medium) noexcept nogil:
    """Whether a copy that a host's write asked for still makes itself durable."""
    cdef int32_t i = c.locks.first
    while i >= 0:
        if (c.tasks[i].kind == kind and c.tasks[i].medium == medium) or (c.tasks[i].wide and kind == TASK_RECOVER):
            return True
        i = c.tasks[i].lock_next
    return False


cdef void sync_begin(Core c, uint32_t i) noexcept nogil:
    """A leg that is present and not in sync takes writes from here on, and what it lacks is copied to it."""
    cdef medium_t *m = &c.media[i]
    if m.map.words == NULL:
        if map_make(&m.map, c.extents, AREA_HAS, 0):
            return
    else:
        map_reset(&m.map, AREA_HAS, 0)
    if m.state == LEG_FRESH:
        map_set_range(&m.map, 0, c.extents - 1)
    else:
        map_or(&m.map, c.missed.words)
    m.cursor = 0
    m.syncing = SYNC_COPYING


cdef void map_dirty_all(map_t *m) noexcept nogil:
    cdef uint32_t slot
    for slot in range(m.slots):
        if map_slot_used(m, slot):
            m.dirty[slot] = 1


cdef void join_advance(Core c, task_t *t) noexcept nogil:
    """The end of bringing a leg in: flushed, given all maps, and then in sync by a record."""
    cdef medium_t *m = &c.media[t.medium]
    if t.step == STEP_DONE:
        # Where the record failed it holds what the last leg holds, and the next record will say so.
        if m.role == ROLE_LEG and m.state == LEG_IN_SYNC:
            emit_event(c, EVENT_LEG_IN_SYNC, t.medium)
        task_end(c, t)
        return
    if t.step == STEP_BEGIN:
        c.joins += 1
        m.join = t.part = c.joins
    if m.role != ROLE_LEG or m.syncing != SYNC_ENDING or m.join != t.part:
        task_end(c, t)  # it failed meanwhile; and may have come again, which is another's to end
        return
    if t.status:
        leg_fail(c, t.medium)  # the last leg could not take its maps: this one stays out, and is brought in anew
        task_end(c, t)
        return
    if t.step == STEP_BEGIN:
        flush(c, t, <uint32_t>1 << t.medium, STEP_FLUSHED)
        return
    if t.step == STEP_FLUSHED:
        map_dirty_all(&c.live)
        map_dirty_all(&c.pending)
        if c.missed_tag:
            map_dirty_all(&c.missed)
        round_wait(c, t, CLASS_MARKS | CLASS_COPIES, STEP_DURABLE)
        return
    if t.step == STEP_DURABLE:
        m.syncing = SYNC_NO
        m.state = LEG_IN_SYNC
        c.events += 1
        if not leg_absent(c) and legs_in_sync(c) == legs_written(c):
            c.missed_tag = 0
            map_reset(&c.missed, AREA_MISSED, 0)
        wait_record(c, t, record_want(c), STEP_DONE)
