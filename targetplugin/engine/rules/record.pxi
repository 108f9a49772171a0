# The volume record: one 4 KiB block, written in turn to two slots of every leg, that says all that must be known at once:
# legs and their states, generations, saves that fill, a store, a recover, the activity log. Its write is the commit of a point.
#
#   0 magic  8 crc32 (over the block, this field 0)  12 version u16  14 flags u16 (1 clean, 2 recovering)  16 features u64 (1 a store)
#  24 volume uuid  40 events u64  48 sequence u64  56 operation u64  64 size u64  72 generation u32  76 parent u32
#  80 extent shift u8  81 legs u8  82 saves u8  84 tag of the missed map u32  88 uuid of the recover's source  104 its generation u32
# 108 regions u32  112 legs: 8 x {uuid, state u8, 7 reserved}  304 saves: 15 x {uuid, generation u32, state u8, 3 reserved}
# (the store: uuid, nonce u32, state u8, generations frozen since it broke u24)
# 664 tag of the pending map u32  688 regions: u32 each. All little-endian.


cdef uint64_t record_want(Core c) noexcept nogil:
    """The number of the next record to be started, which is asked for hereby. A view has none: nobody waits for it."""
    if c.view:
        return c.record_done
    c.record_wanted = c.record_started + 1
    return c.record_wanted


cdef void guard(Core c) noexcept nogil:
    """Rules 3 and 9: what has become stale or broken is durable before a host is answered, or its write goes out."""
    c.guard_record = record_want(c)


cdef void record_build(Core c) noexcept nogil:
    cdef uint8_t *b = c.record_buffer
    cdef uint32_t i, legs = 0, saves = 0
    cdef uint8_t *at
    memset(b, 0, SLOT_BYTES)
    memcpy(b, RECORD_MAGIC, 8)
    put16(b + 12, 1)
    put16(b + 14, (1 if c.clean else 0) | (2 if c.recovering else 0))
    memcpy(b + 24, c.uuid, 16)
    put64(b + 40, c.events)
    put64(b + 48, c.record_started)
    put64(b + 56, c.op)
    put64(b + 64, c.size)
    put32(b + 72, c.generation)
    put32(b + 76, c.parent)
    b[80] = <uint8_t>c.extent_shift
    for i in range(MAX_MEDIA):
        if not c.media[i].used:
            continue
        if c.media[i].role == ROLE_LEG and legs < MAX_LEGS:
            at = b + 112 + 24 * legs
            memcpy(at, c.media[i].spec.uuid, 16)
            at[16] = c.media[i].state
            legs += 1
        elif c.media[i].role == ROLE_SAVE and c.media[i].state != SAVE_WHOLE and saves < MAX_SAVES:
            at = b + 304 + 24 * saves
            memcpy(at, c.media[i].spec.uuid, 16)
            put32(at + 16, c.media[i].generation)
            at[20] = c.media[i].state
            saves += 1
        elif c.media[i].role == ROLE_STORE and saves < MAX_SAVES:
            at = b + 304 + 24 * saves
            memcpy(at, c.media[i].spec.uuid, 16)
            put32(at + 16, <uint32_t>c.store_nonce)  # which of the heads on it counts
            at[20] = c.media[i].state
            put24(at + 21, store_lost_since(c))
            put64(b + 16, FEATURE_STORE)
            saves += 1
    b[81] = <uint8_t>legs
    b[82] = <uint8_t>saves
    put32(b + 84, c.missed_tag)
    if c.recovering and c.recover_source < MAX_MEDIA:
        memcpy(b + 88, c.media[c.recover_source].spec.uuid, 16)
        put32(b + 104, c.recover_generation)
        put32(b + 664, turn_counts(c))
    put32(b + 108, c.region_count)
    for i in range(c.region_count):
        put32(b + 688 + 4 * i, c.regions[i].region)
    put32(b + 8, <uint32_t>crc32(0, b, SLOT_BYTES))


cdef void record_start(Core c) noexcept nogil:
    cdef uint32_t i
    cdef action_t *a
    c.record_started += 1
    c.record_failed = 0
    c.record_told = c.record_extra
    c.record_extra = 0
    record_build(c)
    for i in range(MAX_MEDIA):
        if not ((leg_written(c, i) and not c.record_leaving) or (c.record_told >> i) & 1):
            continue
        a = emit(c, ACT_WRITE)
        a.medium = <uint8_t>i
        a.offset = c.media[i].spec.record_offset + (c.record_started & 1) * SLOT_BYTES
        a.length = SLOT_BYTES
        a.buffer = BUFFER_META
        a.address = c.record_buffer
        a.flags = ACT_DURABLE
        a.tag = TAG_RECORD | i
        c.media[i].in_flight += 1
        c.record_waiting += 1
    c.record_leaving = 0
    c.counters[COUNT_RECORDS] += 1
    if not c.record_waiting:
        record_over(c)


cdef void record_written(Core c, uint32_t medium, int32_t result) noexcept nogil:
    if result < 0:
        c.record_failed |= <uint32_t>1 << medium
    c.record_waiting -= 1
    if not c.record_waiting:
        record_over(c)


cdef void record_over(Core c) noexcept nogil:
    cdef uint32_t failed = c.record_failed & ~c.record_told
    cdef uint32_t good = legs_in_sync(c) & ~failed
    cdef uint32_t i
    cdef int32_t at, following
    cdef task_t *t
    cdef bint waited
    for i in range(MAX_MEDIA):
        if (failed >> i) & 1:
            leg_fail(c, i)  # does nothing to the last one
    if failed and good:
        record_want(c)  # the survivors must know of it before anyone goes on
        return
    if not good:
        # No leg has it: whoever waits is told, and nothing that needed it has happened.
        at = c.lists[Q_RECORD].first
        while at >= 0:
            t = &c.tasks[at]
            following = t.next
            if t.need <= c.record_started:
                t.status = -EIO
                ready(c, t)
            at = following
        # Rule 2: its place may be damaged now, so the next goes there again: the other has the last whole one.
        waited = c.record_wanted > c.record_started
        c.record_started += 1
        if waited:
            c.record_wanted = c.record_started + 1
        return
    c.record_done = c.record_started
    at = c.lists[Q_RECORD].first
    while at >= 0:
        t = &c.tasks[at]
        following = t.next
        if t.need <= c.record_done:
            ready(c, t)
        at = following


cdef bint wait_record(Core c, task_t *t, uint64_t need, uint8_t step) noexcept nogil:
    """True when the task must wait for that record; it goes on at `step`, with t.status set if it failed."""
    t.step = step
    if need <= c.record_done:
        return False
    if need <= c.record_started and not c.record_waiting:
        need = record_want(c)  # it failed on all legs; ask again
    t.need = need
    enqueue(c, t, Q_RECORD)
    return True


# --- media ----------------------------------------------------------------------------------------

cdef inline bint medium_fits(Core c, const medium_spec_t *spec) noexcept nogil:
    """Whether it has room for the volume and its maps. One that has no maps can be a store, whatever its size."""
    return spec.map_slots * <uint64_t>SLOT_BITS >= c.extents and spec.data_size >= c.size


# --- legs ---------------------------------------------------------------------------------------

cdef inline bint leg_written(Core c, uint32_t i) noexcept nogil:
    """Whether medium i is a leg that takes every write: in sync, or being brought in."""
    return (c.media[i].used and c.media[i].role == ROLE_LEG and c.media[i].present
            and (c.media[i].state == LEG_IN_SYNC or c.media[i].syncing != SYNC_NO))


cdef uint32_t legs_written(Core c) noexcept nogil:
    cdef uint32_t i, mask = 0
    for i in range(c.media_end):
        if leg_written(c, i):
            mask |= <uint32_t>1 << i
    return mask


cdef uint32_t legs_in_sync(Core c) noexcept nogil:
    cdef uint32_t i, mask = 0
    for i in range(c.media_end):
        if c.media[i].used and c.media[i].role == ROLE_LEG and c.media[i].state == LEG_IN_SYNC:
            mask |= <uint32_t>1 << i
    return mask


cdef bint leg_absent(Core c) noexcept nogil:
    """Whether a leg misses what is written now."""
    cdef uint32_t i
    for i in range(c.media_end):
        if c.media[i].used and c.media[i].role == ROLE_LEG and not leg_written(c, i):
            return True
        if c.media[i].used and c.media[i].syncing == SYNC_PREPARING:
            return True
    return False


cdef int leg_least_busy(Core c, uint32_t without) noexcept nogil:
    """An in-sync leg to read from, or -1."""
    cdef int best = -1
    cdef uint32_t i
    cdef uint32_t mask = legs_in_sync(c) & ~without
    for i in range(c.media_end):
        if (mask >> i) & 1 and (best < 0 or c.media[i].in_flight < c.media[best].in_flight):
            best = <int>i
    return best


cdef void missed_open(Core c) noexcept nogil:
    """From here on the missed map counts."""
    if not c.missed_tag:
        c.missed_tag = <uint32_t>c.events
        map_reset(&c.missed, AREA_MISSED, c.missed_tag)


cdef void missed_begin(Core c) noexcept nogil:
    """A leg leaves: it may lack what was not flushed on it, and what a recover has still to copy."""
    missed_open(c)
    log_or_into(c, &c.missed)
    if c.recovering:
        map_or(&c.missed, c.pending.words)
    if c.turning == TURN_COLLECTED:
        map_or(&c.missed, c.turned)  # which counts until the record says otherwise


cdef void leg_fail(Core c, uint32_t i) noexcept nogil:
    """Rule 3: the leg is stale from here on, unless it is the last one, which never becomes stale."""
    cdef medium_t *m = &c.media[i]
    if not m.used or m.role != ROLE_LEG:
        return
    if m.state == LEG_IN_SYNC:
        if not legs_in_sync(c) & ~(<uint32_t>1 << i):
            return
        m.state = LEG_STALE
    elif m.syncing == SYNC_NO:
        return
    m.syncing = SYNC_NO
    m.cursor = 0
    c.events += 1
    missed_begin(c)
    guard(c)
    emit_event(c, EVENT_LEG_STALE, <uint8_t>i)


cdef void save_break(Core c, uint32_t i) noexcept nogil:
    """Rule 9: a save that can't get its copy is broken, and never stops a host."""
    cdef medium_t *m = &c.media[i]
    if not m.used or m.role != ROLE_SAVE or m.state != SAVE_FILLING:
        return
    m.state = SAVE_BROKEN
    guard(c)
    emit_event(c, EVENT_SAVE_BROKEN, <uint8_t>i)


cdef void medium_fail(Core c, uint32_t i) noexcept nogil:
    leg_fail(c, i)
    save_break(c, i)
    if i == c.store:
        store_break(c)
