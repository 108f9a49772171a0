# The store at a start: as the newest head of those that the record means has it, and the pages of its groups. One that can't
# be had is broken with all its saves, which the first record says: from then on nothing is copied for them.


cdef load_store(Core c, store, slots):
    cdef uint32_t i, slot, page
    cdef int index = known(c, store.uuid)
    cdef const uint8_t *b
    cdef dict pages
    c.store = <uint8_t>index
    c.media[index].role = ROLE_STORE
    c.media[index].state = STORE_LOST
    c.store_lost_at = c.generation - <uint32_t>store.since
    if not c.media[index].present or store_make(c, <uint32_t>index):
        c.store = <uint8_t>index
        c.recover_failed = c.recover_failed or (c.recovering and c.recover_source == index)
        return
    c.recover_failed = c.recover_failed or (c.recovering and c.recover_source == index)  # until its entries are there
    head = newest_head(c, store.nonce, slots)
    if head is None:
        return
    b = <const uint8_t *>head
    c.store_nonce = <uint64_t>get32(b + 20) << 32 | get32(b + 16)
    c.head_started = c.head_done = c.head_wanted = <uint64_t>get32(b + 44) << 32 | get32(b + 40)
    c.head_groups = get32(b + 48)
    for i in range(min(<uint32_t>(b[14] | b[15] << 8), <uint32_t>MAX_SPARSE)):
        if get32(b + 64 + 8 * i) >= c.store_lost_at:
            c.head_told = HEAD_UNKNOWN  # its point came to nothing: the next says so
            continue
        c.sparse[c.sparse_count].generation = get32(b + 64 + 8 * i)
        c.sparse[c.sparse_count].flags = b[68 + 8 * i]
        c.sparse_count += 1
    pages = newest_pages(c, slots)
    if (c.head_groups > store_pages(c) or c.extents >= <uint64_t>NO_EXTENT - 1 or len(pages) < c.head_groups
            or store_grow(c, min(c.store_slots, c.head_groups * c.store_page))):
        sparse_break_all(c)
        return
    if c.recovering and c.recover_source == index:
        c.recover_failed = 0
    group_ready(c)
    for page, block in pages.items():
        b = <const uint8_t *>block
        c.page_sequence[page] = get32(b + 20)
        for i in range(c.store_page):
            slot = page * c.store_page + i
            if slot < c.store_ready and 0 < get32(b + 36 + 8 * i) < c.generation and get32(b + 32 + 8 * i) < c.extents:
                entry_put(c, slot, get32(b + 32 + 8 * i), get32(b + 36 + 8 * i))
                c.store_used += 1
        c.page_dirty[page] = 0
    c.pages_dirty = 0  # they are as they were found
    if store.state is StoreState.READY:
        c.media[index].state = STORE_READY
    else:
        sparse_break_all(c)  # a recover reads on
    sparse_count_anew(c)
    sweep(c)


cdef newest_head(Core c, uint32_t nonce, slots):
    """The head, a block, or None."""
    newest, found = 0, None
    for block in slots:
        if not _checked(block, HEAD_MAGIC[:8], 8):
            continue
        sequence = int.from_bytes(block[40:48], "little")
        if (block[24:40] == c.uuid[:16] and int.from_bytes(block[12:14], "little") == 1 and sequence > newest
                and int.from_bytes(block[16:20], "little") == nonce
                and int.from_bytes(block[52:56], "little") == c.store_page and block[56] == c.extent_shift):
            newest, found = sequence, block
    return found


cdef dict newest_pages(Core c, slots):
    """The newest whole copy of each group's page: number to block."""
    newest, found = {}, {}
    nonce = c.store_nonce
    for block in slots:
        if not _checked(block, PAGE_MAGIC[:4], 4) or int.from_bytes(block[24:32], "little") != nonce:
            continue
        page, sequence = int.from_bytes(block[12:16], "little"), int.from_bytes(block[20:24], "little")
        if page < c.head_groups and sequence > newest.get(page, 0):
            newest[page], found[page] = sequence, block
    return found
