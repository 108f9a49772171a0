# The activity log: regions of 4 MiB that may hold writes which are not flushed or not marked on disk. It is part of the
# volume record. Rule 1: a region is in a durable record before a write in it goes to any leg.


cdef int log_enter(Core c, task_t *t) noexcept nogil:
    """Counts a write in. 0: go on; 1: wait for the record t.need; 2: the log is full, wait for a cleaning."""
    cdef uint32_t first = <uint32_t>(t.offset >> REGION_SHIFT)
    cdef uint32_t last = <uint32_t>((t.offset + t.length - 1) >> REGION_SHIFT)
    cdef uint32_t region, missing = 0
    cdef region_t *entry
    for region in range(first, last + 1):
        if not c.region_index[region]:
            missing += 1
    if c.region_count + missing > c.log_room:
        return 2
    t.need = 0
    for region in range(first, last + 1):
        if not c.region_index[region]:
            c.region_count += 1
            c.region_index[region] = <uint16_t>c.region_count
            entry = &c.regions[c.region_count - 1]
            entry.region = region
            entry.users = 0
            entry.record = record_want(c)
        entry = &c.regions[c.region_index[region] - 1]
        if entry.record > c.record_done and entry.record <= c.record_started and not c.record_waiting:
            entry.record = record_want(c)  # the one that should have held it failed
        entry.users += 1
        entry.touched = c.cleanings
        if entry.record > t.need:
            t.need = entry.record
    t.logged = 1
    return 1 if t.need > c.record_done else 0


cdef void log_leave(Core c, task_t *t) noexcept nogil:
    cdef uint32_t region
    if not t.logged:
        return
    t.logged = 0
    for region in range(<uint32_t>(t.offset >> REGION_SHIFT), <uint32_t>((t.offset + t.length - 1) >> REGION_SHIFT) + 1):
        if c.region_index[region]:  # as long as points wait for writes, always
            c.regions[c.region_index[region] - 1].users -= 1


cdef void log_forget(Core c, uint32_t at) noexcept nogil:
    """Takes the entry at an index out; the last one moves to its place."""
    c.region_index[c.regions[at].region] = 0
    c.region_count -= 1
    if at != c.region_count:
        c.regions[at] = c.regions[c.region_count]
        c.region_index[c.regions[at].region] = <uint16_t>(at + 1)


cdef uint32_t log_clean(Core c) noexcept nogil:
    """Begins a cleaning; several may be under way, each with its number: what a later one saw written stays for that one."""
    cdef uint32_t i
    c.cleanings += 1
    for i in range(c.region_count):
        if c.regions[i].users:
            c.regions[i].touched = c.cleanings
    return c.cleanings


cdef void log_evict(Core c, uint32_t cleaning) noexcept nogil:
    """Rule 1: only what was flushed and marked since this cleaning began, and not written since, leaves."""
    cdef uint32_t i = 0
    while i < c.region_count:
        if c.regions[i].users == 0 and c.regions[i].touched < cleaning:
            log_forget(c, i)
        else:
            i += 1
    wake_all(c, Q_LOG)


cdef void log_or_into(Core c, map_t *m) noexcept nogil:
    """Every extent of every logged region counts as written."""
    cdef uint32_t i
    cdef uint64_t first, last
    for i in range(c.region_count):
        first = <uint64_t>c.regions[i].region << (REGION_SHIFT - c.extent_shift)
        last = first + (<uint64_t>1 << (REGION_SHIFT - c.extent_shift)) - 1
        if first < m.bits:
            map_set_range(m, first, last)
