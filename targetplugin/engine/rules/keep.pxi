# Copies to the store: what a host or a recover overwrites is read from a leg, written to free slots, flushed, and durable as
# entries before the overwriting goes on (rule 8). Where there is no room, saves are lost, the oldest that nobody holds first,
# and durably so before the write goes on (rule 9): no save ever stops a host.


cdef inline bint keep_wanted(Core c, uint64_t extent) noexcept nogil:
    return c.sparse_newest != 0 and not map_test(&c.media[c.store].map, extent)


cdef bint keep_part(Core c, task_t *t) noexcept nogil:
    """Finds the first run in the task's range that no entry has for the newest save, as t.part, and takes slots for it, or
    for its begin. False where nothing is wanted. t.slots_held of 0: there is no room."""
    cdef uint64_t extent = extent_of(c, t.offset)
    cdef uint64_t end = extent_of(c, t.offset + t.length - 1) + 1
    cdef uint32_t most = min(<uint32_t>(COPY_BYTES >> c.extent_shift), <uint32_t>256)
    cdef int32_t slot
    t.slots_held = 0
    while extent < end and not keep_wanted(c, extent):
        extent += 1
    if extent == end:
        return False
    t.part = extent << c.extent_shift
    while extent < end and t.slots_held < most and keep_wanted(c, extent):
        slot = slot_take(c)
        if slot < 0:
            break
        c.buffer_slots[t.buffer][t.slots_held] = <uint32_t>slot
        t.slots_held += 1
        extent += 1
    t.part_length = min(extent << c.extent_shift, c.size) - t.part
    return True


cdef void keep_write(Core c, task_t *t) noexcept nogil:
    """Writes what was read to the slots that it has, neighbours in one go."""
    cdef uint32_t i = 0, first
    cdef uint32_t *slots = c.buffer_slots[t.buffer]
    cdef uint64_t at, length
    t.step = STEP_WRITTEN
    while i < t.slots_held:
        first = i
        i += 1
        while i < t.slots_held and slots[i] == slots[i - 1] + 1 and slots[i] % c.store_page:
            i += 1
        at = <uint64_t>first << c.extent_shift
        length = min(<uint64_t>(i - first) << c.extent_shift, t.part_length - at)
        emit_io(c, t, ACT_WRITE, c.store, slot_offset(c, slots[first]), length, BUFFER_COPY, t.buffer, at, 0)
    at = <uint64_t>t.slots_held << c.extent_shift
    if t.part_length < at:
        # The volume ends in the midst of its last extent. When it has grown, what came to it is zeros in earlier saves, too.
        length = at - t.part_length
        at = slot_offset(c, slots[t.slots_held - 1]) + (<uint64_t>1 << c.extent_shift) - length
        emit_io(c, t, ACT_ZERO, c.store, at, length, BUFFER_COPY, t.buffer, 0, ACT_UNMAP)


cdef void keep_put(Core c, task_t *t) noexcept nogil:
    """What the slots hold counts, for the save that is the newest now: the range was locked all the time."""
    cdef uint32_t i
    cdef uint64_t extent = extent_of(c, t.part)
    for i in range(t.slots_held):
        if keep_wanted(c, extent + i):
            entry_put(c, c.buffer_slots[t.buffer][i], extent + i, c.sparse_newest)
            map_set(&c.media[c.store].map, extent + i)
        else:
            slot_give_back(c, c.buffer_slots[t.buffer][i])
    t.slots_held = 0


cdef void keep_warn(Core c) noexcept nogil:
    if not c.store_warned and c.store_used * 5 >= c.store_limit * 4:
        c.store_warned = 1
        emit_event(c, EVENT_STORE_LOW, c.store)


cdef void keep_end(Core c, task_t *t) noexcept nogil:
    cdef uint32_t i
    if store_there(c):
        for i in range(t.slots_held):
            slot_give_back(c, c.buffer_slots[t.buffer][i])
    t.slots_held = 0
    copy_end(c, t)


cdef sparse_t *keep_victim(Core c) noexcept nogil:
    """The oldest save that nobody holds and no recover reads; NULL: there is none."""
    cdef uint32_t i
    for i in range(c.sparse_count):
        if c.sparse[i].flags or c.sparse[i].leaving:
            continue
        if c.recovering and c.recover_source == c.store and c.sparse[i].generation == c.recover_generation:
            continue
        return &c.sparse[i]
    return NULL


cdef void keep_make_room(Core c, task_t *t) noexcept nogil:
    """There is no free slot: waits for what becomes free, or gives saves up. The task goes on with its lock."""
    cdef sparse_t *victim
    cdef uint32_t i
    t.step = STEP_LOCKED
    if c.extending or sweeping(c):
        enqueue(c, t, Q_ROOM)
        return
    if c.store_ready < c.store_limit:
        extend(c)
        enqueue(c, t, Q_ROOM)
        return
    if wait_lost(c, t, STEP_LOCKED):
        return  # what was lost last makes room when that is known
    for i in range(c.sparse_count):
        if c.sparse[i].leaving and wait_head(c, t, c.head_wanted, STEP_LOCKED):
            return  # so does what is released
    victim = keep_victim(c)
    if victim != NULL:
        sparse_break(c, victim)
    else:
        # All that would find what is overwritten here go, though they are held.
        for i in range(c.sparse_count):
            if entry_find(c, extent_of(c, t.part), c.sparse[i].generation) < 0:
                sparse_break(c, &c.sparse[i])
    ready(c, t)  # where no save wants a copy any more, whoever overwrites it waits for the head


cdef void keep_read(Core c, task_t *t) noexcept nogil:
    """Reads from a leg what its slots are for."""
    cdef int leg = leg_least_busy(c, t.tried)
    if leg < 0:
        keep_lose(c, t)
        return
    t.source = <uint8_t>leg
    t.failed = 0
    t.step = STEP_READ
    emit_io(c, t, ACT_READ, t.source, t.part, t.part_length, BUFFER_COPY, t.buffer, 0, 0)


cdef void keep_advance(Core c, task_t *t) noexcept nogil:
    if not store_there(c):
        keep_end(c, t)
        return
    if t.step == STEP_LOCKED:
        if t.buffer == NO_BUFFER:
            if not c.buffers_free:
                enqueue(c, t, Q_BUFFER)
                return
            t.buffer = <uint8_t>__builtin_ctz(c.buffers_free)
            c.buffers_free &= ~(<uint32_t>1 << t.buffer)
        if not keep_part(c, t):
            keep_end(c, t)
        elif not t.slots_held:
            keep_make_room(c, t)
        else:
            keep_read(c, t)
        return
    if t.step == STEP_READ:
        if t.failed:
            t.tried |= t.failed
            leg_fail(c, t.source)
            keep_read(c, t)
        else:
            keep_write(c, t)
        return
    if t.step == STEP_WRITTEN:
        if t.failed:
            # Its file system may be full: then slots that were written before can be written again, and these can't. A
            # medium that failed shows by its head.
            c.store_limit = c.store_ready
            t.slots_held = 0
            if not wait_head(c, t, head_want(c), STEP_LOCKED):
                ready(c, t)
            return
        flush(c, t, <uint32_t>1 << c.store, STEP_FLUSHED)
        return
    if t.step == STEP_FLUSHED:
        keep_put(c, t)
        keep_warn(c)
        round_wait(c, t, CLASS_COPIES, STEP_DONE)
        return
    t.status = 0  # of a round that failed on the last leg: the store's page is durable, or its medium has failed
    t.step = STEP_LOCKED
    ready(c, t)


cdef void keep_lose(Core c, task_t *t) noexcept nogil:
    """No leg can be read, so the saves that would find this there have lost it."""
    cdef uint32_t i
    for i in range(c.sparse_count):
        if entry_find(c, extent_of(c, t.part), c.sparse[i].generation) < 0:
            sparse_break(c, &c.sparse[i])
    keep_end(c, t)
