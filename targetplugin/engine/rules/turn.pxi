# Taking back a recover that still copies, by the save that it took of what it replaced (undo). What it had pending is in the legs
# as it was, so of that save only what was overwritten since is pending from then on. The other map counts until the record
# says so: so this one is written with hosts held and no copy under way, each slot once, to the place that the other's is not in
# (rule 2); and where nothing comes of it, the other is as it was.


cdef bint turns(Core c, int kind, uint32_t generation, uint32_t save) noexcept nogil:
    """Whether a point takes back the recover that runs. It takes no undo save: what hosts see is not all in the legs."""
    return kind == POINT_RECOVER and generation == c.generation - 1 and save >= MAX_MEDIA


cdef int turn_prepare(Core c) noexcept nogil:
    """Room for what must not be lost on the way. 0 or -ENOMEM."""
    c.turned = <uint64_t *>malloc(<size_t>c.pending.slots * SLOT_WORDS * 8)
    c.turned_sequence = <uint32_t *>malloc(<size_t>c.pending.slots * 4)
    if c.turned == NULL or c.turned_sequence == NULL:
        turn_free(c)
        return -ENOMEM
    c.turning = TURN_PREPARED
    return 0


cdef void turn_free(Core c) noexcept nogil:
    free(c.turned)
    free(c.turned_sequence)
    c.turned = NULL
    c.turned_sequence = NULL
    c.turning = TURN_NO


cdef bint turn_undisturbed(Core c) noexcept nogil:
    """Whether nothing is under way that writes the map of what is pending: copies of the recover, a leg's last maps."""
    cdef uint32_t i
    for i in range(TASKS):
        if c.tasks[i].queue != Q_FREE and c.tasks[i].kind in (TASK_RECOVER, TASK_JOIN):
            return False
    return True


cdef uint32_t turn_counts(Core c) noexcept nogil:
    """The tag of the map that a record says is pending: the other one's until the undo is switched to."""
    return c.turned_tag if c.turning == TURN_COLLECTED and not c.point_switched else c.pending.tag


cdef void turn_collect(Core c) noexcept nogil:
    """The map becomes the undo's. Call it when no round is under way and all of the other map is on disk."""
    memcpy(c.turned, c.pending.words, <size_t>c.pending.slots * SLOT_WORDS * 8)
    memcpy(c.turned_sequence, c.pending.sequence, <size_t>c.pending.slots * 4)
    c.turned_tag = c.pending.tag
    c.turning = TURN_COLLECTED
    map_reset(&c.pending, AREA_PENDING, c.point_tag)
    pending_collect(c)


cdef void turn_back(Core c) noexcept nogil:
    """Nothing came of it: the recover goes on where it was."""
    cdef uint32_t slot
    if c.turning == TURN_COLLECTED:
        map_reset(&c.pending, AREA_PENDING, c.turned_tag)
        memcpy(c.pending.words, c.turned, <size_t>c.pending.slots * SLOT_WORDS * 8)
        map_recount(&c.pending)
        map_dirty_all(&c.pending)
        for slot in range(c.pending.slots):
            # What was written is void: the next goes there, for the other place has what counts.
            if (c.pending.sequence[slot] - c.turned_sequence[slot]) % 2:
                c.pending.sequence[slot] += 1
    turn_free(c)


cdef void turn_switch(Core c) noexcept nogil:
    c.before_source = c.recover_source
    c.before_generation = c.recover_generation
    c.before_failed = c.recover_failed
    c.before_total = c.pending_total
    if c.recover_source < MAX_MEDIA and c.media[c.recover_source].role == ROLE_SOURCE:
        c.media[c.recover_source].role = ROLE_NONE


cdef void turn_revert(Core c) noexcept nogil:
    c.recovering = 1
    c.recover_source = c.before_source
    c.recover_generation = c.before_generation
    c.recover_failed = c.before_failed
    c.pending_total = c.before_total
    turn_back(c)


cdef void turn_over(Core c) noexcept nogil:
    """The undo is in force."""
    if c.before_source == c.store:
        sweep(c)
    turn_free(c)
