# Making things durable together: flushes, one a medium under way and one more for all who came meanwhile; and rounds,
# each of which writes all slots of the maps that differ from what is on disk.
#
# A slot of a map on disk: 0 magic  4 crc32  8 area u8  9 version u8  12 slot u32  16 tag (a generation) u32  20 sequence u32
# 24 first 8 bytes of the volume's uuid (of a save's map: XOR those of its medium's)  32 the bits. Copy sequence & 1 of two is the one that is written (rule 2).


cdef void flush(Core c, task_t *t, uint32_t mask, uint8_t step) noexcept nogil:
    """The task goes on at `step` when each medium was flushed once from its start; t.failed names those that could not."""
    cdef uint32_t i
    t.step = step
    t.failed = 0
    t.flush_mask = mask
    if not mask:
        ready(c, t)
        return
    for i in range(c.media_end):
        if (mask >> i) & 1:
            t.flush_need[i] = c.media[i].flush_started + 1
            c.media[i].flush_wanted = t.flush_need[i]
    enqueue(c, t, Q_FLUSH)


cdef bint flushes_start(Core c) noexcept nogil:
    cdef uint32_t i
    cdef action_t *a
    cdef bint any = False
    for i in range(c.media_end):
        if c.media[i].flush_wanted > c.media[i].flush_started and not c.media[i].flushing:
            c.media[i].flush_started += 1
            c.media[i].flushing = 1
            a = emit(c, ACT_FLUSH)
            a.medium = <uint8_t>i
            a.tag = TAG_FLUSH | i
            c.media[i].in_flight += 1
            any = True
    return any


cdef void flushed(Core c, uint32_t medium, int32_t result) noexcept nogil:
    cdef uint32_t done = c.media[medium].flush_started
    cdef uint32_t bit = <uint32_t>1 << medium
    cdef int32_t at = c.lists[Q_FLUSH].first
    cdef int32_t following
    cdef task_t *t
    c.media[medium].flushing = 0
    if result < 0:
        flush_failed(c, medium)
    while at >= 0:
        t = &c.tasks[at]
        following = t.next
        if t.flush_mask & bit and t.flush_need[medium] <= done:
            t.flush_mask &= ~bit
            if result < 0:
                t.failed |= bit
            if not t.flush_mask:
                flush_over(c, t)
        at = following


cdef void flush_failed(Core c, uint32_t i) noexcept nogil:
    """Rule 3: it is not tried again as if nothing had happened."""
    medium_fail(c, i)


cdef void flush_over(Core c, task_t *t) noexcept nogil:
    """Rule 3: a leg that was the last one when its flush failed, and is not any more, lacks what another has."""
    cdef uint32_t i
    for i in range(c.media_end):
        if (t.failed >> i) & 1 and c.media[i].state == LEG_IN_SYNC:
            flush_failed(c, i)
    ready(c, t)


# --- rounds -------------------------------------------------------------------------------------

cdef void round_wait(Core c, task_t *t, uint8_t classes, uint8_t step) noexcept nogil:
    """The task goes on at `step` when all that is dirty now in maps of these classes is durable; else t.status is set."""
    t.step = step
    t.need = c.round_started + 1
    c.round_wanted = t.need
    c.round_next |= classes
    enqueue(c, t, Q_ROUND)


cdef bint round_start(Core c) noexcept nogil:
    if c.round_running or c.round_wanted <= c.round_started:
        return False
    c.round_started += 1
    c.round_running = 1
    c.round_class = c.round_next
    c.round_next = 0
    c.round_phase = 1
    c.round_failed = 0
    c.round_media = 0
    c.round_map = 0
    c.round_slot = 0
    round_go(c)
    return True


cdef map_t *round_current(Core c) noexcept nogil:
    """The map that the round's scan stands at, or NULL where it is not of this round's phase and classes."""
    cdef medium_t *m
    if c.round_phase == 2:
        # A recover's map is cleared on disk only when what a stale leg missed of it is durable.
        return &c.pending if c.round_map == 0 and c.round_class & CLASS_COPIES else NULL
    if c.round_map == 0:
        return &c.live if c.round_class & CLASS_MARKS else NULL
    if c.round_map == 1:
        return &c.missed if c.missed_tag else NULL
    m = &c.media[c.round_map - 2]
    if not c.round_class & CLASS_COPIES or not m.used:
        return NULL
    if m.role == ROLE_SAVE and m.state == SAVE_FILLING:
        return &m.map
    if c.point_lacks != NULL and c.round_map - 2 == c.point_save:
        return &m.map
    return NULL


cdef void round_go(Core c) noexcept nogil:
    """Writes dirty slots while there are buffers; ends the phase when all are written."""
    cdef map_t *m
    cdef uint32_t mask, waiting, i
    while True:
        waiting = MAX_SLOT_BUFFERS - <uint32_t>__builtin_popcount(c.slot_free)
        if c.round_map >= (1 if c.round_phase == 2 else MAX_MEDIA + 3):
            if waiting:
                return
            if c.round_phase == 1:
                c.round_phase = 2
                c.round_map = 0
                c.round_slot = 0
                continue
            round_over(c)
            return
        if c.round_phase == 1 and c.round_map == MAX_MEDIA + 2:
            if c.round_slot >= pages_end(c):
                c.round_map += 1
            elif not page_due(c, c.round_slot):
                c.round_slot += 1
            elif c.slot_free:
                page_write(c, c.round_slot)
                c.round_slot += 1
            else:
                return
            continue
        m = round_current(c)
        if m == NULL or c.round_slot >= m.slots:
            c.round_map += 1
            c.round_slot = 0
            continue
        if not m.dirty[c.round_slot]:
            c.round_slot += 1
            continue
        if not c.slot_free:
            return
        if c.round_phase == 1 and c.round_map >= 2:
            mask = <uint32_t>1 << (c.round_map - 2)
        else:
            mask = legs_in_sync(c)
            for i in range(MAX_MEDIA):
                if leg_written(c, i) and c.media[i].syncing == SYNC_ENDING:
                    mask |= <uint32_t>1 << i
        slot_write(c, m, c.round_slot, mask)
        c.round_slot += 1


cdef void slot_owner(Core c, uint8_t area, uint32_t medium, uint8_t *owner) noexcept nogil:
    """Whose a slot is. A save's map counts on its own medium alone: as a leg, it may have one of the same tag for nothing."""
    cdef uint32_t i
    memcpy(owner, c.uuid, 8)
    if area == AREA_HAS:
        for i in range(8):
            owner[i] ^= c.media[medium].spec.uuid[i]


cdef void slot_write(Core c, map_t *m, uint32_t slot, uint32_t mask) noexcept nogil:
    cdef uint32_t buffer = <uint32_t>__builtin_ctz(c.slot_free)
    cdef uint8_t *b = c.slot_memory + buffer * SLOT_BYTES
    cdef uint32_t i
    cdef action_t *a
    m.dirty[slot] = 0
    m.sequence[slot] += 1
    memset(b, 0, 32)
    memcpy(b, SLOT_MAGIC, 4)
    b[8] = m.area
    b[9] = 1
    put32(b + 12, slot)
    put32(b + 16, m.tag)
    put32(b + 20, m.sequence[slot])
    slot_owner(c, m.area, <uint32_t>__builtin_ctz(mask) if mask else 0, b + 24)
    memcpy(b + 32, m.words + <uint64_t>slot * SLOT_WORDS, SLOT_WORDS * 8)
    put32(b + 4, <uint32_t>crc32(0, b, SLOT_BYTES))
    c.slot_free &= ~(<uint32_t>1 << buffer)
    c.slot_waiting[buffer] = 0
    for i in range(MAX_MEDIA):
        if not (mask >> i) & 1:
            continue
        if slot >= c.media[i].spec.map_slots:
            c.round_failed = 1
            continue
        a = emit(c, ACT_WRITE)
        a.medium = <uint8_t>i
        a.offset = (c.media[i].spec.maps_offset
                    + (<uint64_t>m.area * c.media[i].spec.map_slots * 2 + slot * 2 + (m.sequence[slot] & 1)) * SLOT_BYTES)
        a.length = SLOT_BYTES
        a.buffer = BUFFER_META
        a.address = b
        a.flags = ACT_DURABLE
        a.tag = TAG_SLOT | (<uint64_t>buffer << 8) | i
        c.media[i].in_flight += 1
        c.slot_waiting[buffer] += 1
    c.counters[COUNT_SLOTS] += 1
    if not c.slot_waiting[buffer]:
        c.slot_free |= <uint32_t>1 << buffer


cdef void slot_again(Core c, const uint8_t *b) noexcept nogil:
    """Rule 2: a slot that could not be written goes to the same place again, which may be damaged: the other has the last."""
    cdef map_t *m = &c.live if b[8] <= AREA_LIVE_ODD else &c.missed if b[8] == AREA_MISSED else &c.pending
    if b[8] <= AREA_PENDING and m.sequence[get32(b + 12)] == get32(b + 20):
        m.sequence[get32(b + 12)] += 1


cdef void slot_written(Core c, uint32_t buffer, uint32_t medium, int32_t result) noexcept nogil:
    if result < 0:
        if c.point_task >= 0 and medium == c.point_save:
            c.point_failed = 1
        if c.media[medium].role == ROLE_LEG and legs_in_sync(c) == <uint32_t>1 << medium:
            c.round_failed = 1  # the last leg: nobody may believe that it is durable
            slot_again(c, c.slot_memory + buffer * SLOT_BYTES)
        medium_fail(c, medium)
    c.slot_waiting[buffer] -= 1
    if not c.slot_waiting[buffer]:
        c.slot_free |= <uint32_t>1 << buffer
        round_go(c)


cdef void round_over(Core c) noexcept nogil:
    cdef int32_t at = c.lists[Q_ROUND].first
    cdef int32_t following
    cdef uint32_t i
    cdef task_t *t
    c.round_running = 0
    c.round_done = c.round_started
    if c.round_failed:
        # The slots were taken for clean: write them again next time.
        for i in range(c.live.slots):
            c.live.dirty[i] = 1
            c.missed.dirty[i] = 1
            c.pending.dirty[i] = 1
    while at >= 0:
        t = &c.tasks[at]
        following = t.next
        if t.need <= c.round_done:
            if c.round_failed:
                t.status = -EIO
            ready(c, t)
        at = following
