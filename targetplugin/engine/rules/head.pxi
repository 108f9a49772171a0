# The head of the store: one 4 KiB block, written in turn to two places of its medium, that says which groups and which saves
# without fill there are. It lies where legs have their records. A save is in it before the record that makes it one (a start
# takes a generation that is not frozen for none), without it before its entries go, and broken in it before a host's write
# goes on.
#
#   0 magic  8 crc32  12 version u16  14 saves u16  16 nonce u64  24 volume uuid  40 sequence u64  48 groups u32
#  52 entries of a page u32  56 extent shift u8  64 saves: 255 x {generation u32, flags u8 (1 held, 2 broken), 3 reserved}


cdef uint64_t head_want(Core c) noexcept nogil:
    """The number of the next head, which is asked for hereby."""
    c.head_wanted = c.head_started + 1
    return c.head_wanted


cdef void head_save(uint8_t *b, uint32_t at, uint32_t generation, uint8_t flags) noexcept nogil:
    put32(b + 64 + 8 * at, generation)
    b[68 + 8 * at] = flags


cdef void head_start(Core c) noexcept nogil:
    cdef uint8_t *b = c.head_buffer
    cdef uint32_t i, saves = 0
    cdef action_t *a
    c.head_started += 1
    memset(b, 0, SLOT_BYTES)
    memcpy(b, HEAD_MAGIC, 8)
    put16(b + 12, 1)
    put64(b + 16, c.store_nonce)
    memcpy(b + 24, c.uuid, 16)
    put64(b + 40, c.head_started)
    put32(b + 48, c.head_groups)
    put32(b + 52, c.store_page)
    b[56] = <uint8_t>c.extent_shift
    for i in range(c.sparse_count):
        if not c.sparse[i].leaving:
            head_save(b, saves, c.sparse[i].generation, c.sparse[i].flags)
            saves += 1
    if c.head_extra:
        head_save(b, saves, c.head_extra, 0)
        saves += 1
    c.head_told = c.head_extra
    put16(b + 14, <uint16_t>saves)
    put32(b + 8, <uint32_t>crc32(0, b, SLOT_BYTES))
    c.head_waiting = 1
    a = emit(c, ACT_WRITE)
    a.medium = c.store
    a.offset = c.media[c.store].spec.record_offset + (c.head_started & 1) * SLOT_BYTES
    a.length = SLOT_BYTES
    a.buffer = BUFFER_META
    a.address = b
    a.flags = ACT_DURABLE
    a.tag = TAG_HEAD | c.store
    c.media[c.store].in_flight += 1


cdef void head_written(Core c, int32_t result) noexcept nogil:
    c.head_waiting = 0
    if result < 0:
        store_break(c)  # nobody could say any more which of its saves are whole
        head_over(c)
        return
    if c.head_done < c.head_guard <= c.head_started:
        sweep(c)  # what only those saves had found that are known as lost now
    c.head_done = c.head_started
    head_over(c)


cdef void head_over(Core c) noexcept nogil:
    """Those go on whose head is durable, or never will be."""
    cdef int32_t at = c.lists[Q_HEAD].first
    cdef int32_t following
    cdef task_t *t
    while at >= 0:
        t = &c.tasks[at]
        following = t.next
        if t.need <= c.head_done:
            ready(c, t)
        elif head_never(c):
            if t.kind != TASK_WRITE and t.kind != TASK_RECOVER:  # those wait for the record that says so then
                t.status = -EIO
            ready(c, t)
        at = following


cdef inline bint head_never(Core c) noexcept nogil:
    """Whether no head is written any more."""
    return not store_there(c)


cdef bint wait_head(Core c, task_t *t, uint64_t need, uint8_t step) noexcept nogil:
    """True when the task must wait for that head; it goes on at `step`, with t.status set if it can't be written."""
    t.step = step
    if need <= c.head_done:
        return False
    if head_never(c):
        t.status = -EIO
        return False
    t.need = need
    enqueue(c, t, Q_HEAD)
    return True


cdef bint wait_lost(Core c, task_t *t, uint8_t step) noexcept nogil:
    """Rule 9: True when a host's write must wait until it is durable that saves without fill are broken. Where their store
    failed, the legs say so."""
    t.step = step
    if c.head_guard <= c.head_done or head_never(c):
        return False
    t.need = c.head_guard
    enqueue(c, t, Q_HEAD)
    return True


# --- groups -----------------------------------------------------------------------------------------

cdef bint extend_due(Core c) noexcept nogil:
    """Whether another group should be made: before anyone has to wait for it."""
    if not store_there(c) or c.extending or c.store_ready >= c.store_limit or not c.sparse_newest:
        return False
    return c.store_ready - c.store_used <= c.store_page // 2


cdef void extend(Core c) noexcept nogil:
    cdef task_t *t = task_new(c, TASK_EXTEND, STEP_BEGIN)
    if t != NULL:
        c.extending = 1
        ready(c, t)


cdef bint page_begin(Core c, task_t *t) noexcept nogil:
    """Asks for both copies of the next group's page: empty, durable, before the head says that there is such a group. False:
    there is no memory for its entries."""
    cdef uint32_t i, page = c.head_groups
    cdef action_t *a
    if store_grow(c, min(c.store_slots, (page + 1) * c.store_page)):
        return False
    t.failed = 0
    for i in range(1, PAGES + 1):  # behind the head
        page_fill(c, c.head_buffer + i * SLOT_BYTES, page)
        a = emit_io(c, t, ACT_WRITE, c.store, page_offset(c, page), SLOT_BYTES, BUFFER_META, 0, 0, ACT_DURABLE)
        a.address = c.head_buffer + i * SLOT_BYTES
    return True


cdef void group_ready(Core c) noexcept nogil:
    c.store_ready = min(c.store_slots, c.head_groups * c.store_page)


cdef void extend_over(Core c, task_t *t) noexcept nogil:
    c.extending = 0
    wake_all(c, Q_ROOM)
    task_end(c, t)


cdef void extend_advance(Core c, task_t *t) noexcept nogil:
    if not store_there(c):
        extend_over(c, t)
        return
    if t.step == STEP_BEGIN:
        t.step = STEP_WRITTEN
        if not page_begin(c, t):
            c.store_limit = c.store_ready
            extend_over(c, t)
        return
    if t.step == STEP_WRITTEN:
        if t.failed:
            c.store_limit = c.store_ready  # its file system is full, most likely: it is as large as it will be
            extend_over(c, t)
            return
        c.head_groups += 1
        if wait_head(c, t, head_want(c), STEP_TOLD):
            return
    if not t.status:
        group_ready(c)
    extend_over(c, t)


# --- making one, releasing a save -------------------------------------------------------------------

cdef int store_check(Core c, uint32_t medium) noexcept nogil:
    """0, or the errno for which this medium can't become the store."""
    if c.view or c.booting or c.closing or c.point_task >= 0:
        return -EBUSY
    if medium >= MAX_MEDIA or not c.media[medium].used or c.media[medium].role != ROLE_NONE or not c.media[medium].present:
        return -EINVAL
    if c.media[medium].syncing != SYNC_NO or c.store < MAX_MEDIA:
        return -EBUSY
    if c.extents >= <uint64_t>NO_EXTENT - 1:
        return -ERANGE  # entries have 32 bits for one
    return 0


cdef void store_over(Core c, task_t *t, int32_t status) noexcept nogil:
    if status:
        c.media[c.store].role = ROLE_NONE
        map_free(&c.media[c.store].map)
        store_free(c)
    c.extending = c.store_making = 0
    emit_done(c, t.number, status)
    task_end(c, t)


cdef void store_advance(Core c, task_t *t) noexcept nogil:
    """A medium becomes the store: its first group, its head, then the record that names it."""
    if t.step == STEP_BEGIN:
        t.step = STEP_WRITTEN
        if not page_begin(c, t):
            store_over(c, t, -ENOMEM)
        return
    if t.step == STEP_WRITTEN:
        if t.failed:
            store_over(c, t, -EIO)
            return
        c.head_groups = 1
        if wait_head(c, t, head_want(c), STEP_TOLD):
            return
    if t.step == STEP_TOLD:
        if t.status or not store_there(c):
            store_over(c, t, -EIO)
            return
        group_ready(c)
        c.media[c.store].role = ROLE_STORE
        c.events += 1
        if wait_record(c, t, record_want(c), STEP_RECORDED):
            return
    if t.status or not store_there(c):
        c.events += 1
        guard(c)
        store_over(c, t, -EIO)
        return
    store_over(c, t, 0)


cdef int change_check(Core c, uint32_t generation) noexcept nogil:
    """0, or the errno for which a save can't be released or held now."""
    cdef sparse_t *s = sparse_find(c, generation)
    if c.booting or c.closing or c.view:
        return -EBUSY
    if s == NULL or c.media[c.store].role != ROLE_STORE:
        return -ENOENT
    if s.leaving or (c.recovering and c.recover_source == c.store and c.recover_generation == generation):
        return -EBUSY
    return 0


cdef void forget_advance(Core c, task_t *t) noexcept nogil:
    """A save is released: the head is without it before an entry of it goes, or a copy is not made for it. That of a broken
    store can't be written: then it is gone with the next record that is without the store, and whoever asked is told when
    the legs say that the store is broken. Else a start would find it whole."""
    cdef sparse_t *s = sparse_find(c, <uint32_t>t.part)
    if t.step == STEP_BEGIN and s != NULL and store_there(c):
        s.leaving = 1
        if wait_head(c, t, head_want(c), STEP_TOLD):
            return
    if not store_there(c) and t.step != STEP_RECORDED:
        t.status = 0
        if wait_record(c, t, c.guard_record, STEP_RECORDED):
            return
    if t.status and s != NULL:
        s.leaving = 0
    else:
        sparse_remove(c, <uint32_t>t.part)
    emit_done(c, t.number, t.status)
    task_end(c, t)


cdef void hold_advance(Core c, task_t *t) noexcept nogil:
    """A save is held, or not any more: durable before whoever asked is told."""
    cdef sparse_t *s = sparse_find(c, <uint32_t>t.part)
    if t.step == STEP_BEGIN and s != NULL:
        if t.part_length == SPARSE_HOLD:
            s.flags |= SPARSE_HELD
        else:
            s.flags &= ~<uint8_t>SPARSE_HELD
        if wait_head(c, t, head_want(c), STEP_TOLD):
            return
    emit_done(c, t.number, t.status if s != NULL else -ENOENT)
    task_end(c, t)


# --- what goes on by itself -----------------------------------------------------------------------

cdef bint store_go_on(Core c) noexcept nogil:
    """Starts the head that is asked for, and another group. True when something more can be done at once."""
    cdef bint more = False
    if c.store >= MAX_MEDIA:
        return False
    if c.head_wanted > c.head_started and not c.head_waiting and store_there(c):
        head_start(c)
        more = True
    if extend_due(c):
        extend(c)
        more = more or c.extending
    return more
