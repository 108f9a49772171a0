# The store: a sparse medium that saves without fill share. It holds entries, each an extent as it was before it was
# overwritten, with a tag: the generation of the newest such save then. A save of generation g finds an extent in the entry
# with the smallest tag from g on, else in the legs (rule 10): so what is overwritten is copied once, not once a save, and one
# in the middle goes by forgetting entries that none needs any more. Tags count time on the legs, whatever generation came
# from which: so a recover, too, copies what it overwrites.
#
# Its medium is made of groups: two copies of a page, then its slots, an extent each. A page on disk: 0 magic  4 crc32
# 12 page u32  20 sequence u32  24 nonce u64  32 an {extent u32, tag u32} a slot; a tag of 0: none. Copy sequence & 1 is the
# one that is written. Which groups there are and which saves, the head says: see head.pxi.


cdef bint store_there(Core c) noexcept nogil:
    """Whether the volume has a store that takes copies."""
    return c.store < MAX_MEDIA and c.media[c.store].state == STORE_READY


cdef inline uint32_t store_pages(Core c) noexcept nogil:
    """Pages of all slots that there is room for."""
    return (c.store_slots + c.store_page - 1) // c.store_page


cdef inline uint64_t group_offset(Core c, uint32_t group) noexcept nogil:
    return group * (<uint64_t>PAGES * SLOT_BYTES + (<uint64_t>c.store_page << c.extent_shift))


cdef inline uint64_t slot_offset(Core c, uint32_t slot) noexcept nogil:
    return (group_offset(c, slot // c.store_page) + PAGES * SLOT_BYTES
            + (<uint64_t>(slot % c.store_page) << c.extent_shift))


cdef uint32_t store_room(Core c, const medium_spec_t *spec) noexcept nogil:
    """How many slots fit on a medium."""
    cdef uint64_t group = group_offset(c, 1)
    cdef uint64_t slots = spec.data_size // group * c.store_page
    cdef uint64_t rest = spec.data_size % group
    if rest > PAGES * SLOT_BYTES:
        slots += (rest - PAGES * SLOT_BYTES) >> c.extent_shift
    return <uint32_t>min(slots, <uint64_t>0x7FFFFFFF)


cdef int store_make(Core c, uint32_t medium) noexcept nogil:
    """Room in memory for an empty store on a medium. 0, -ENOSPC or -ENOMEM."""
    cdef uint32_t pages
    store_free(c)
    c.store_slots = c.store_limit = store_room(c, &c.media[medium].spec)
    if not c.store_slots:
        return -ENOSPC
    pages = store_pages(c)
    map_free(&c.media[medium].map)
    c.page_dirty = <uint8_t *>calloc(pages, 1)
    c.page_sequence = <uint32_t *>calloc(pages, 4)
    if c.page_dirty == NULL or c.page_sequence == NULL or map_make(&c.media[medium].map, c.extents, AREA_HAS, 0):
        store_free(c)
        return -ENOMEM
    c.store = <uint8_t>medium
    return 0


cdef void store_free(Core c) noexcept nogil:
    """Forgets it, and its saves."""
    free(c.entries)
    free(c.buckets)
    free(c.page_dirty)
    free(c.page_sequence)
    c.entries = NULL
    c.buckets = NULL
    c.page_dirty = NULL
    c.page_sequence = NULL
    c.entries_room = c.bucket_count = 0
    c.store_slots = c.store_ready = c.store_limit = c.store_used = c.store_hint = 0
    c.head_groups = c.head_extra = c.head_told = c.pages_dirty = 0
    c.head_guard = 0
    c.sparse_count = c.sparse_newest = 0
    c.sweep_at = <uint32_t>NO_SLOT
    c.sweep_again = c.sweep_dead = c.store_warned = 0
    c.store = NO_BUFFER


cdef int store_grow(Core c, uint32_t slots) noexcept nogil:
    """Room in memory for entries of so many slots. 0 or -ENOMEM."""
    cdef entry_t *entries
    cdef int32_t *buckets
    cdef uint32_t i, count, room
    if slots > c.entries_room:
        room = min(c.store_slots, max(slots, c.entries_room * 2))
        entries = <entry_t *>realloc(c.entries, <size_t>room * sizeof(entry_t))
        if entries == NULL:
            return -ENOMEM
        c.entries = entries
        for i in range(c.entries_room, room):
            entries[i].extent = NO_EXTENT
            entries[i].tag = 0
            entries[i].next = NO_SLOT
        c.entries_room = room
    if slots > c.bucket_count:
        count = max(c.bucket_count, <uint32_t>64)
        while count < slots:
            count *= 2
        buckets = <int32_t *>malloc(<size_t>count * 4)
        if buckets == NULL:
            return -ENOMEM
        memset(buckets, 0xFF, <size_t>count * 4)
        free(c.buckets)
        c.buckets = buckets
        c.bucket_count = count
        for i in range(c.store_ready):
            if c.entries[i].tag:
                entry_link(c, i)
    return 0


# --- entries --------------------------------------------------------------------------------------

cdef inline int32_t *bucket_of(Core c, uint32_t extent) noexcept nogil:
    return &c.buckets[(extent * <uint32_t>2654435761) >> 7 & (c.bucket_count - 1)]


cdef void entry_link(Core c, uint32_t slot) noexcept nogil:
    cdef int32_t *bucket = bucket_of(c, c.entries[slot].extent)
    c.entries[slot].next = bucket[0]
    bucket[0] = <int32_t>slot


cdef void entry_unlink(Core c, uint32_t slot) noexcept nogil:
    cdef int32_t *at = bucket_of(c, c.entries[slot].extent)
    while at[0] != <int32_t>slot:
        at = &c.entries[at[0]].next
    at[0] = c.entries[slot].next


cdef int32_t entry_find(Core c, uint64_t extent, uint32_t generation) noexcept nogil:
    """The slot where a save of that generation finds an extent; NO_SLOT: in the legs."""
    cdef int32_t at, found = NO_SLOT
    if not c.bucket_count:
        return NO_SLOT
    at = bucket_of(c, <uint32_t>extent)[0]
    while at >= 0:
        if (c.entries[at].extent == extent and c.entries[at].tag >= generation
                and (found < 0 or c.entries[at].tag < c.entries[found].tag)):
            found = at
        at = c.entries[at].next
    return found


cdef uint32_t entry_before(Core c, uint32_t slot) noexcept nogil:
    """The tag of the next older entry of the same extent; 0: there is none."""
    cdef int32_t at = bucket_of(c, c.entries[slot].extent)[0]
    cdef uint32_t before = 0
    while at >= 0:
        if (c.entries[at].extent == c.entries[slot].extent and c.entries[at].tag < c.entries[slot].tag
                and c.entries[at].tag > before):
            before = c.entries[at].tag
        at = c.entries[at].next
    return before


cdef inline void page_touch(Core c, uint32_t page) noexcept nogil:
    """It is not on disk as it is."""
    if not c.page_dirty[page]:
        c.page_dirty[page] = 1
        c.pages_dirty += 1


cdef void entry_put(Core c, uint32_t slot, uint64_t extent, uint32_t tag) noexcept nogil:
    """A slot that was taken holds this now."""
    cdef sparse_t *s = sparse_find(c, tag)
    c.entries[slot].extent = <uint32_t>extent
    c.entries[slot].tag = tag
    entry_link(c, slot)
    page_touch(c, slot // c.store_page)
    if s != NULL:
        s.entries += 1


cdef int32_t slot_take(Core c) noexcept nogil:
    """A free slot, which nobody else gets; NO_SLOT: there is none now."""
    while c.store_hint < c.store_ready:  # all below it are taken
        c.store_hint += 1
        if c.entries[c.store_hint - 1].extent == NO_EXTENT:
            c.entries[c.store_hint - 1].extent = 0
            c.store_used += 1
            return <int32_t>(c.store_hint - 1)
    return NO_SLOT


cdef void slot_give_back(Core c, uint32_t slot) noexcept nogil:
    c.entries[slot].extent = NO_EXTENT
    c.entries[slot].tag = 0
    c.store_used -= 1
    if c.store_hint > slot:
        c.store_hint = slot
    if c.store_used * 5 < c.store_limit * 4:
        c.store_warned = 0


# --- saves ----------------------------------------------------------------------------------------

cdef sparse_t *sparse_find(Core c, uint32_t generation) noexcept nogil:
    cdef uint32_t i
    for i in range(c.sparse_count):
        if c.sparse[i].generation == generation:
            return &c.sparse[i]
    return NULL


cdef bint sparse_whole(Core c, uint32_t generation) noexcept nogil:
    """Whether there is such a save, and its content."""
    cdef sparse_t *s = sparse_find(c, generation)
    return s != NULL and not s.flags & SPARSE_BROKEN


cdef bint sparse_any(Core c) noexcept nogil:
    """Whether something is looked up in the store."""
    cdef uint32_t i
    for i in range(c.sparse_count):
        if not c.sparse[i].flags & SPARSE_BROKEN:
            return True
    return c.recovering and c.recover_source == c.store


cdef void sparse_add(Core c, uint32_t generation) noexcept nogil:
    """The newest from now on: it has no entry, so all that is overwritten is copied again."""
    cdef sparse_t *s = &c.sparse[c.sparse_count]
    memset(s, 0, sizeof(sparse_t))
    s.generation = generation
    c.sparse_count += 1
    c.sparse_newest = generation
    map_reset(&c.media[c.store].map, AREA_HAS, 0)


cdef void sparse_count_anew(Core c) noexcept nogil:
    """Which is the newest, and what it needs no copy of."""
    cdef uint32_t i, newest = 0
    for i in range(c.sparse_count):
        if not c.sparse[i].flags & SPARSE_BROKEN:
            newest = max(newest, c.sparse[i].generation)
    c.sparse_newest = newest
    map_reset(&c.media[c.store].map, AREA_HAS, 0)
    if newest:
        for i in range(c.store_ready):
            if c.entries[i].tag >= newest:
                map_set(&c.media[c.store].map, c.entries[i].extent)


cdef void sparse_remove(Core c, uint32_t generation) noexcept nogil:
    cdef sparse_t *s = sparse_find(c, generation)
    cdef uint32_t at
    if s == NULL:
        return
    at = <uint32_t>(s - c.sparse)
    c.sparse_count -= 1
    while at < c.sparse_count:  # in the order of their generations
        c.sparse[at] = c.sparse[at + 1]
        at += 1
    if generation == c.sparse_newest:
        sparse_count_anew(c)
    sweep(c)


cdef void sparse_revert(Core c) noexcept nogil:
    """A point came to nothing, and its generation goes on. Nothing was copied for it: hosts waited for its record."""
    c.sparse_count -= 1
    sparse_count_anew(c)


cdef void sparse_break(Core c, sparse_t *s) noexcept nogil:
    """Rule 9: it is broken, durably before any host's write goes on. Nobody looks anything up for it any more."""
    if s.flags & SPARSE_BROKEN:
        return
    s.flags |= SPARSE_BROKEN
    c.head_guard = s.lost = head_want(c)
    if s.generation == c.sparse_newest:
        sparse_count_anew(c)
    emit_event(c, EVENT_SPARSE_LOST, c.store)


cdef void sparse_break_all(Core c) noexcept nogil:
    cdef uint32_t i
    for i in range(c.sparse_count):
        c.sparse[i].flags |= SPARSE_BROKEN
    c.sparse_newest = 0


cdef uint32_t store_lost_since(Core c) noexcept nogil:
    """Generations that were frozen since the store broke, 0 while it is there. Its head can't be written any more, and may
    name a save whose point came to nothing: that generation is another's now."""
    return 0 if store_there(c) else min(c.generation - c.store_lost_at, <uint32_t>0xFFFFFF)


cdef void store_break(Core c) noexcept nogil:
    """Its medium failed: all its saves are broken, which the legs say."""
    if not store_there(c):
        return
    c.media[c.store].state = STORE_LOST
    c.store_lost_at = c.generation
    sparse_break_all(c)
    guard(c)
    wake_all(c, Q_ROOM)
    head_over(c)
    emit_event(c, EVENT_STORE_BROKEN, c.store)


# --- what nobody needs any more -------------------------------------------------------------------

cdef bint entry_needed(Core c, uint32_t slot) noexcept nogil:
    """Whether a save, or a recover from one, finds it."""
    cdef uint32_t i, generation, tag = c.entries[slot].tag
    cdef uint32_t before = entry_before(c, slot)
    if c.recovering and c.recover_source == c.store and before < c.recover_generation <= tag:
        return True
    for i in range(c.sparse_count):
        generation = c.sparse[i].generation
        if before < generation <= tag and (not c.sparse[i].flags & SPARSE_BROKEN or c.sparse[i].lost > c.head_done):
            return True
    return False


cdef void sweep(Core c) noexcept nogil:
    """Begins to look for entries that none needs; from the start again where one is under way."""
    if not store_there(c):
        return
    if c.sweep_at == <uint32_t>NO_SLOT and not c.sweep_dead:
        c.sweep_at = 0
    else:
        c.sweep_again = 1


cdef inline bint sweeping(Core c) noexcept nogil:
    return c.sweep_at != <uint32_t>NO_SLOT or c.sweep_dead


cdef inline bint sweep_due(Core c) noexcept nogil:
    """Whether another part of it can be done now."""
    if not store_there(c):
        return False
    return c.sweep_at != <uint32_t>NO_SLOT or (c.sweep_dead and not c.store_readers[c.store_epoch ^ 1])


cdef void sweep_some(Core c) noexcept nogil:
    """Looks at some entries. Those that none needs are found no more; their slots are free when all who may read them are
    done. A part at a time: all volumes of the thread wait meanwhile."""
    cdef uint32_t slot, end, old
    cdef sparse_t *s
    if not store_there(c):
        return
    if c.sweep_at != <uint32_t>NO_SLOT:
        end = min(c.store_ready, c.sweep_at + SWEEP_AT_ONCE)
        for slot in range(c.sweep_at, end):
            if c.entries[slot].tag and not entry_needed(c, slot):
                s = sparse_find(c, c.entries[slot].tag)
                if s != NULL:
                    s.entries -= 1
                entry_unlink(c, slot)
                c.entries[slot].tag = 0
                c.entries[slot].extent = NO_EXTENT - 1
                page_touch(c, slot // c.store_page)
                c.sweep_dead = 1
        if end < c.store_ready:
            c.sweep_at = end
            return
        c.sweep_at = <uint32_t>NO_SLOT
        if c.sweep_dead:
            c.store_epoch ^= 1
    old = c.store_epoch ^ 1
    if not c.sweep_dead:
        wake_all(c, Q_ROOM)
    elif not c.store_readers[old]:
        for slot in range(c.store_ready):
            if c.entries[slot].extent == NO_EXTENT - 1:
                slot_give_back(c, slot)
        c.sweep_dead = 0
        wake_all(c, Q_ROOM)
    else:
        return
    if c.sweep_again:
        c.sweep_again = 0
        c.sweep_at = 0


# --- reading it -----------------------------------------------------------------------------------

cdef void store_enter(Core c, task_t *t) noexcept nogil:
    """The task reads entries from here on: their slots stay theirs till it ends."""
    if not t.reads_store:
        t.reads_store = 1 + c.store_epoch
        c.store_readers[c.store_epoch] += 1


cdef void store_leave(Core c, task_t *t) noexcept nogil:
    if t.reads_store:
        c.store_readers[t.reads_store - 1] -= 1
        t.reads_store = 0


cdef bint store_read(Core c, task_t *t, uint32_t generation, uint64_t offset, uint64_t length, int leg,
                     uint8_t buffer, uint32_t number, uint64_t buffer_offset) noexcept nogil:
    """Reads a range of the volume as a save without fill has it, piece by piece. Of what no entry has: from `leg`; where
    that is none, False, with nothing asked for."""
    cdef uint64_t at = offset, run, end = offset + length
    cdef int32_t slot, next_slot
    cdef uint64_t place
    if leg < 0:
        while at < end:
            if entry_find(c, extent_of(c, at), generation) < 0:
                return False
            at = (extent_of(c, at) + 1) << c.extent_shift
        at = offset
    store_enter(c, t)
    while at < end:
        slot = entry_find(c, extent_of(c, at), generation)
        run = (extent_of(c, at) + 1) << c.extent_shift
        next_slot = slot
        while run < end:
            next_slot = next_slot + 1 if slot >= 0 else NO_SLOT
            if (slot >= 0 and not next_slot % c.store_page) or entry_find(c, extent_of(c, run), generation) != next_slot:
                break
            run += <uint64_t>1 << c.extent_shift
        run = min(run, end)
        if slot >= 0:
            place = slot_offset(c, <uint32_t>slot) + (at & ((<uint64_t>1 << c.extent_shift) - 1))
            emit_io(c, t, ACT_READ, c.store, place, run - at, buffer, number, buffer_offset + at - offset, 0)
        else:
            emit_io(c, t, ACT_READ, <uint8_t>leg, at, run - at, buffer, number, buffer_offset + at - offset, 0)
        at = run
    return True


# --- its pages on disk ----------------------------------------------------------------------------

cdef bint page_due(Core c, uint32_t page) noexcept nogil:
    return c.page_dirty[page]


cdef inline uint32_t pages_end(Core c) noexcept nogil:
    """Above the last that may have to be written."""
    return c.head_groups if store_there(c) and c.pages_dirty else 0


cdef void page_fill(Core c, uint8_t *b, uint32_t page) noexcept nogil:
    """A page as it is on disk; its sequence is the next."""
    cdef uint32_t i, slot = page * c.store_page
    c.page_sequence[page] += 1
    memset(b, 0, SLOT_BYTES)
    memcpy(b, PAGE_MAGIC, 4)
    put32(b + 12, page)
    put32(b + 20, c.page_sequence[page])
    put64(b + 24, c.store_nonce)
    for i in range(c.store_page):
        if slot + i < c.entries_room and c.entries[slot + i].tag:
            put32(b + 32 + 8 * i, c.entries[slot + i].extent)
            put32(b + 36 + 8 * i, c.entries[slot + i].tag)
    put32(b + 4, <uint32_t>crc32(0, b, SLOT_BYTES))


cdef uint64_t page_offset(Core c, uint32_t page) noexcept nogil:
    """Where its copy of this sequence lies."""
    return group_offset(c, page) + (c.page_sequence[page] & 1) * <uint64_t>SLOT_BYTES


cdef void page_write(Core c, uint32_t page) noexcept nogil:
    cdef uint32_t buffer = <uint32_t>__builtin_ctz(c.slot_free)
    cdef uint8_t *b = c.slot_memory + buffer * SLOT_BYTES
    cdef action_t *a
    c.page_dirty[page] = 0
    c.pages_dirty -= 1
    page_fill(c, b, page)
    c.slot_free &= ~(<uint32_t>1 << buffer)
    a = emit(c, ACT_WRITE)
    a.medium = c.store
    a.offset = page_offset(c, page)
    a.length = SLOT_BYTES
    a.buffer = BUFFER_META
    a.address = b
    a.flags = ACT_DURABLE
    a.tag = TAG_SLOT | (<uint64_t>buffer << 8) | c.store
    c.media[c.store].in_flight += 1
    c.slot_waiting[buffer] = 1
    c.counters[COUNT_SLOTS] += 1
