# Requests from above, each a task: a point (save, recover, swap), bringing a leg in, dropping a medium, cleaning the log,
# and the start. A point: make durable beforehand what can be, hold hosts, drain, make durable the little that was added,
# switch in memory, write the record (which is the commit), let hosts go on.


cdef void hosts_release(Core c) noexcept nogil:
    cdef task_t *t
    while c.lists[Q_HOLD].first >= 0:
        t = &c.tasks[c.lists[Q_HOLD].first]
        host_begin(c, t)


cdef void hosts_refuse(Core c) noexcept nogil:
    """Those that wait are told of an error."""
    cdef task_t *t
    while c.lists[Q_HOLD].first >= 0:
        t = &c.tasks[c.lists[Q_HOLD].first]
        dequeue(c, t)
        c.host_active += 1
        host_end(c, t, STATUS_READ_ERROR if t.kind == TASK_READ else STATUS_WRITE_ERROR)


cdef void hosts_pause(Core c) noexcept nogil:
    c.paused = True
    emit_event(c, EVENT_PAUSED, 0)


cdef bint drained(Core c, task_t *t) noexcept nogil:
    cdef medium_t *m
    cdef int32_t at
    if t.kind == TASK_DROP:
        m = &c.media[t.medium]
        at = c.locks.first
        while at >= 0:
            if c.tasks[at].medium == t.medium and c.tasks[at].kind in (TASK_FILL, TASK_SYNC, TASK_KEEP):
                return False
            at = c.tasks[at].lock_next
        return m.in_flight == 0 and m.flush_wanted <= m.flush_started
    if t.kind == TASK_CLEAN:
        return c.host_active == 0 and c.copy_active == 0
    return c.host_active == 0 and (not c.turning or turn_undisturbed(c))


cdef void drains_check(Core c) noexcept nogil:
    cdef int32_t at = c.lists[Q_DRAIN].first
    cdef int32_t following
    while at >= 0:
        following = c.tasks[at].next
        if drained(c, &c.tasks[at]):
            ready(c, &c.tasks[at])
        at = following


# --- points -------------------------------------------------------------------------------------

cdef int point_check(Core c, int kind, uint32_t mask, uint32_t source, uint32_t generation, uint32_t save) noexcept nogil:
    """0, or the errno for which this point can't be: -EBUSY, -EINVAL."""
    cdef uint32_t sync = legs_in_sync(c)
    cdef uint32_t i
    if c.point_task >= 0 or c.booting or c.closing or c.store_making:
        return -EBUSY
    if c.recovering and not turns(c, kind, generation, save):
        return -EBUSY
    if not sync:
        return -EIO
    if kind == POINT_SPLIT:
        return 0 if mask and (mask & sync) == mask and sync & ~mask else -EINVAL
    if kind == POINT_SWAP:
        if not mask:
            return -EINVAL
        for i in range(MAX_MEDIA):
            if (mask >> i) & 1 and not (c.media[i].used and c.media[i].role == ROLE_NONE and medium_fits(c, &c.media[i].spec)):
                return -EINVAL
            if c.media[i].used and c.media[i].role == ROLE_SAVE and c.media[i].state == SAVE_FILLING:
                return -EBUSY
        return -EBUSY if sparse_any(c) else 0  # what they look up would not be in the legs any more
    if save < MAX_MEDIA and save == c.store:
        if not store_there(c) or c.media[save].role != ROLE_STORE:
            return -EINVAL
        if c.sparse_count >= MAX_SPARSE:
            return -ENOSPC
    if source >= MAX_MEDIA or not c.media[source].used or c.media[source].role == ROLE_LEG:
        return -EINVAL
    if save < MAX_MEDIA and save != c.store:
        if not c.media[save].used or c.media[save].role != ROLE_NONE or c.media[save].syncing != SYNC_NO:
            return -EINVAL
        if not medium_fits(c, &c.media[save].spec):
            return -ENOSPC
    if kind == POINT_COPY:
        return 0
    if kind == POINT_RECOVER:
        if source == c.store:
            return 0 if sparse_whole(c, generation) else -EINVAL
        if save == source or c.media[source].spec.data_size < c.size:
            return -EINVAL
        return -EINVAL if c.media[source].role == ROLE_SAVE and c.media[source].state == SAVE_BROKEN else 0
    return -EINVAL


cdef void pending_collect(Core c) noexcept nogil:
    """Rule 13: what differs, but for what the save looks up in a leg anyway. Grows only, so it may be collected twice."""
    cdef medium_t *source = &c.media[c.point_source]
    cdef uint64_t index, word, base
    cdef uint64_t size = (c.extents + 7) >> 3
    cdef uint64_t room
    cdef bint filling = source.role == ROLE_SAVE
    cdef uint32_t slot
    if c.point_source == c.store:
        for slot in range(c.store_ready):
            if c.entries[slot].tag >= c.point_generation:
                map_or_word(&c.pending, c.entries[slot].extent >> 6, <uint64_t>1 << (c.entries[slot].extent & 63))
        return
    for index in range((c.extents + 63) >> 6):
        word = c.live.words[index]
        if c.point_base != NULL:
            base = 0
            room = size - (index << 3)
            memcpy(&base, c.point_base + (index << 3), 8 if room > 8 else room)
            word |= base
        if filling:
            word &= source.map.words[index]
        if word:
            map_or_word(&c.pending, index, word)


cdef void has_begin(Core c) noexcept nogil:
    """Rule 11: what a medium has of the point because it holds an older save is on it before the record makes it valid. An
    attempt that came to nothing left slots of the same tag there: all are written, and with numbers above theirs."""
    cdef map_t *m = &c.media[c.point_save].map
    cdef uint32_t slot
    for slot in range(m.slots):
        m.sequence[slot] = <uint32_t>(c.events << 3)
        m.dirty[slot] = 1


cdef void has_collect(Core c) noexcept nogil:
    """All but what differs from the older save. Shrinks only, so it may be collected twice."""
    cdef map_t *m = &c.media[c.point_save].map
    cdef uint64_t index, word, base
    cdef uint64_t size = (c.extents + 7) >> 3
    cdef uint64_t room
    for index in range((c.extents + 63) >> 6):
        base = 0
        room = size - (index << 3)
        memcpy(&base, c.point_lacks + (index << 3), 8 if room > 8 else room)
        word = ~(base | c.live.words[index])
        if (index + 1) << 6 > c.extents:
            word &= (<uint64_t>1 << (c.extents & 63)) - 1
        map_put_word(m, index, word)


cdef void point_collect(Core c) noexcept nogil:
    if c.point_kind == POINT_RECOVER:
        pending_collect(c)
    if c.point_lacks != NULL:
        has_collect(c)


cdef void point_switch(Core c) noexcept nogil:
    cdef uint32_t i
    cdef medium_t *m
    c.point_switched = 1
    for i in range(MAX_MEDIA):
        c.before_role[i] = c.media[i].role
        c.before_state[i] = c.media[i].state
    c.before_parent = c.parent
    c.before_op = c.op
    c.before_missed = c.missed_tag
    memcpy(c.frozen, c.live.words, <size_t>c.live.slots * SLOT_WORDS * 8)
    c.frozen_generation = c.generation
    c.parent = c.generation
    c.generation += 1
    c.events += 1
    c.op = c.point_op
    # All legs were flushed and all marks are durable: the log starts empty.
    while c.region_count:
        log_forget(c, c.region_count - 1)
    map_reset(&c.live, AREA_LIVE_EVEN if c.generation % 2 == 0 else AREA_LIVE_ODD, c.generation)
    if c.point_save < MAX_MEDIA and c.point_save == c.store:
        sparse_add(c, c.frozen_generation)
        c.head_extra = 0  # the list has it
    elif c.point_save < MAX_MEDIA:
        m = &c.media[c.point_save]
        m.role = ROLE_SAVE
        m.state = SAVE_FILLING
        m.generation = c.frozen_generation
        m.cursor = 0
    if c.point_kind == POINT_SPLIT:
        c.record_extra = c.point_mask
        for i in range(MAX_MEDIA):
            if (c.point_mask >> i) & 1:
                c.media[i].role = ROLE_NONE
    elif c.point_kind == POINT_RECOVER:
        if c.turning:
            turn_switch(c)
        c.parent = c.point_generation
        c.recovering = 1
        c.recover_failed = 0
        c.recover_source = <uint8_t>c.point_source
        c.recover_generation = c.point_generation
        c.recover_cursor = 0
        c.pending_total = c.pending.count
        if c.media[c.point_source].role == ROLE_NONE:
            c.media[c.point_source].role = ROLE_SOURCE
        if leg_absent(c):
            map_or(&c.missed, c.pending.words)
    elif c.point_kind == POINT_SWAP:
        c.parent = c.point_generation
        for i in range(MAX_MEDIA):
            m = &c.media[i]
            if m.used and m.role == ROLE_LEG:
                if m.state == LEG_IN_SYNC:
                    c.record_extra |= <uint32_t>1 << i
                m.role = ROLE_NONE
                m.syncing = SYNC_NO
        for i in range(MAX_MEDIA):
            if (c.point_mask >> i) & 1:
                c.media[i].role = ROLE_LEG
                c.media[i].state = LEG_IN_SYNC
                c.media[i].present = 1
        c.missed_tag = 0


cdef void point_revert(Core c) noexcept nogil:
    """The record could be written nowhere, so nothing has happened. No host command came in between."""
    cdef uint32_t i
    c.generation = c.frozen_generation
    c.parent = c.before_parent
    c.op = c.before_op
    c.missed_tag = c.before_missed
    c.events += 1  # over a record that reached only a leg on its way out
    c.recovering = 0
    map_reset(&c.live, AREA_LIVE_EVEN if c.generation % 2 == 0 else AREA_LIVE_ODD, c.generation)
    memcpy(c.live.words, c.frozen, <size_t>c.live.slots * SLOT_WORDS * 8)
    map_recount(&c.live)
    map_dirty_all(&c.live)
    for i in range(MAX_MEDIA):
        if i != c.store:
            c.media[i].role = c.before_role[i]
            c.media[i].state = c.before_state[i]
    if c.turning:
        turn_revert(c)
    if c.point_save < MAX_MEDIA and c.point_save == c.store:
        sparse_revert(c)
        c.head_told = HEAD_UNKNOWN
        c.store_lost_at = min(c.store_lost_at, c.generation)  # if it broke meanwhile
    for i in range(MAX_MEDIA):
        if c.media[i].given_up:
            leg_fail(c, i)  # what was given up meanwhile stays so: late requests write to it


cdef void point_advance(Core c, task_t *t) noexcept nogil:
    cdef uint8_t classes = CLASS_MARKS
    if c.point_cancelled:
        point_over(c, t, -ECANCELED)
        return
    if c.point_kind == POINT_RECOVER or c.point_lacks != NULL:
        classes |= CLASS_COPIES
    if t.step == STEP_BEGIN:
        if point_tell_store(c, t):
            return
        t.step = STEP_TOLD_STORE
    if t.step == STEP_TOLD_STORE:
        if t.status and c.point_save < MAX_MEDIA and c.point_save == c.store:
            point_over(c, t, t.status)
            return
        t.status = 0  # no save of it is left, which this point's record says
        if classes & CLASS_COPIES:
            # Rule 13: a map without its commit is void, so its tag is never used again: a durable record is past it.
            c.events += 1
            c.point_tag = <uint32_t>c.events
            if not c.turning:
                map_reset(&c.pending, AREA_PENDING, c.point_tag)
            if c.point_lacks != NULL:
                has_begin(c)
            if wait_record(c, t, record_want(c), STEP_RECORDED):
                return
        t.step = STEP_RECORDED
    if t.step == STEP_RECORDED:
        if t.status:
            point_over(c, t, t.status)
            return
        flush(c, t, legs_written(c), STEP_FLUSHED)
        return
    if t.step == STEP_FLUSHED:
        if not c.turning:
            point_collect(c)
        round_wait(c, t, classes, STEP_PREPARED)
        return
    if t.step == STEP_PREPARED:
        if t.status:
            point_over(c, t, t.status)
            return
        if c.point_waits and not c.point_may_pause:
            point_wait(c, t, STEP_PREPARED, EVENT_READY)
            return
        hosts_pause(c)
        t.step = STEP_DRAINED
        enqueue(c, t, Q_DRAIN)
        return
    if t.step == STEP_DRAINED:
        emit_event(c, EVENT_DRAINED, 0)
        # Rule 6: every leg that the point rests on.
        flush(c, t, legs_written(c), STEP_FLUSHED_AGAIN)
        return
    if t.step == STEP_FLUSHED_AGAIN:
        if point_lost(c, t):
            return
        if c.turning:
            round_wait(c, t, classes, STEP_READ)
            return
        point_collect(c)
        round_wait(c, t, classes, STEP_DURABLE)
        return
    if t.step == STEP_READ:  # of a turn: all that was pending is on disk
        if t.status or point_is_lost(c, t):
            point_over(c, t, t.status if t.status else -EIO)
            return
        turn_collect(c)
        round_wait(c, t, classes, STEP_DURABLE)
        return
    if t.step == STEP_DURABLE:
        if t.status:
            point_over(c, t, t.status)
            return
        if c.point_waits:
            # Rule 21. What fails meanwhile was flushed before, and hosts write nothing: no more has to be made durable.
            point_wait(c, t, STEP_HELD, EVENT_HELD)
            return
        t.step = STEP_HELD
    if t.step == STEP_HELD:
        if point_lost(c, t):
            return
        point_switch(c)
        if c.point_kind == POINT_SWAP:
            # Rule 18: the old legs know that they are the save before the new ones know that they are legs.
            c.record_leaving = 1
            wait_record(c, t, record_want(c), STEP_TOLD)
            return
        t.step = STEP_TOLD
    if t.step == STEP_TOLD:
        t.status = 0
        if wait_record(c, t, record_want(c), STEP_DONE):
            return
    if t.step == STEP_DONE:
        if not t.status:
            if not c.missed_tag:
                map_reset(&c.missed, AREA_MISSED, 0)
            point_over(c, t, 0)
            return
        point_revert(c)
        t.status = 0
        if wait_record(c, t, record_want(c), STEP_REVERTED):
            return
    point_over(c, t, -EIO)


cdef bint point_tell_store(Core c, task_t *t) noexcept nogil:
    """A save without fill is in the store's head before the record makes it one; and one that came to nothing is not there
    any more, for its generation may be frozen now. True when the point must wait for that."""
    cdef uint32_t extra = 0
    if not store_there(c):
        return False
    if c.point_save == c.store:
        extra = c.generation
    c.head_extra = extra
    return wait_head(c, t, c.head_started if c.head_told == extra else head_want(c), STEP_TOLD_STORE)


cdef bint point_is_lost(Core c, task_t *t) noexcept nogil:
    """Whether legs that the point rests on failed in the meantime."""
    cdef uint32_t sync = legs_in_sync(c)
    if not sync & ~t.failed or c.point_failed:
        return True
    if c.point_save < MAX_MEDIA and c.point_save == c.store and not store_there(c):
        return True
    if c.point_kind == POINT_RECOVER and c.point_source == c.store and not sparse_whole(c, c.point_generation):
        return True
    if c.point_kind == POINT_RECOVER and c.media[c.point_source].role == ROLE_SAVE and c.media[c.point_source].state == SAVE_BROKEN:
        return True
    return c.point_kind == POINT_SPLIT and ((c.point_mask & sync) != c.point_mask or not sync & ~c.point_mask)


cdef bint point_lost(Core c, task_t *t) noexcept nogil:
    """Ends a point that is lost, before anything was switched."""
    if not point_is_lost(c, t):
        return False
    point_over(c, t, -EIO)
    return True


cdef void hosts_resume(Core c) noexcept nogil:
    if c.paused:
        c.paused = False
        emit_event(c, EVENT_RESUMED, 0)
    hosts_release(c)


cdef void point_over(Core c, task_t *t, int32_t status) noexcept nogil:
    c.head_extra = 0
    if not status:
        c.head_told = 0  # what it named is a save, or it named none
    if c.turning and status:
        turn_back(c)
    elif c.turning:
        turn_over(c)
    c.point_task = -1
    c.point_base = NULL
    c.point_lacks = NULL
    c.point_save = NO_BUFFER
    hosts_resume(c)
    emit_done(c, t.number, status)
    task_end(c, t)


# --- bringing a leg in, dropping a medium -----------------------------------------------------------

cdef void sync_advance(Core c, task_t *t) noexcept nogil:
    cdef medium_t *m = &c.media[t.medium]
    if t.step == STEP_BEGIN:
        if m.syncing == SYNC_PREPARING and m.state == LEG_STALE:
            round_wait(c, t, CLASS_MARKS, STEP_DURABLE)
            return
        t.step = STEP_DURABLE
    if t.step == STEP_DURABLE and not t.status:
        # Rule 11: the record says that it is a leg, and out of sync, before its first byte is overwritten.
        if m.syncing == SYNC_PREPARING:
            m.syncing = SYNC_NO
            m.role = ROLE_LEG
            t.flags |= FLAG_NEW
            c.events += 1
        if wait_record(c, t, record_want(c), STEP_RECORDED):
            return
    if t.status or m.role != ROLE_LEG:
        if m.syncing == SYNC_PREPARING:
            m.syncing = SYNC_NO
        if t.flags & FLAG_NEW and m.role == ROLE_LEG:
            # No record has it, so it stays what it was; over one that did get to a disk though it failed, another is written.
            m.role = ROLE_NONE
            c.events += 1
            guard(c)
        emit_done(c, t.number, t.status if t.status else -ECANCELED)
        task_end(c, t)
        return
    m.present = 1
    sync_begin(c, t.medium)
    emit_done(c, t.number, 0)
    task_end(c, t)


cdef void drop_advance(Core c, task_t *t) noexcept nogil:
    cdef medium_t *m = &c.media[t.medium]
    if t.step == STEP_BEGIN:
        if wait_record(c, t, record_want(c), STEP_RECORDED):
            return
    if t.step == STEP_RECORDED or not drained(c, t):
        t.step = STEP_DRAINED
        enqueue(c, t, Q_DRAIN)
        return
    map_free(&m.map)
    memset(m, 0, sizeof(medium_t))
    if t.medium == c.store:
        store_free(c)
        wake_all(c, Q_ROOM)
        head_over(c)
    emit_done(c, t.number, 0)
    task_end(c, t)


# --- cleaning the log, closing ----------------------------------------------------------------------

cdef void clean_advance(Core c, task_t *t) noexcept nogil:
    if t.step == STEP_BEGIN:
        if c.closing and t.flags & FLAG_CLOSE:
            t.step = STEP_DRAINED
            enqueue(c, t, Q_DRAIN)
            return
        t.step = STEP_DRAINED
    if t.step == STEP_DRAINED:
        if c.view:
            clean_over(c, t, 0)
            return
        t.part = log_clean(c)
        flush(c, t, legs_written(c), STEP_FLUSHED)
        return
    if t.step == STEP_FLUSHED:
        if not legs_in_sync(c) & ~t.failed:
            clean_over(c, t, -EIO)
            return
        round_wait(c, t, CLASS_MARKS | (CLASS_COPIES if t.flags & FLAG_CLOSE else 0), STEP_DURABLE)
        return
    if t.step == STEP_DURABLE:
        if t.status:
            clean_over(c, t, t.status)
            return
        log_evict(c, <uint32_t>t.part)
        if t.number != NO_REQUEST:
            c.clean = 1 if t.flags & FLAG_CLOSE else 0
            if wait_record(c, t, record_want(c), STEP_RECORDED):
                return
    clean_over(c, t, t.status)


cdef void clean_over(Core c, task_t *t, int32_t status) noexcept nogil:
    cdef int32_t at = c.lists[Q_LOG].first
    while status and at >= 0:
        # There is no room for their regions and there will be none.
        c.tasks[at].status = status
        ready(c, &c.tasks[at])
        at = c.lists[Q_LOG].first
    c.cleaning = 0
    if t.number != NO_REQUEST:
        emit_done(c, t.number, status)
    task_end(c, t)


cdef void clean_when_full(Core c) noexcept nogil:
    cdef task_t *t
    if c.cleaning or c.booting or c.closing:
        return
    if c.region_count * 4 < c.log_room * 3 and c.lists[Q_LOG].first < 0:
        return
    t = task_new(c, TASK_CLEAN, STEP_BEGIN)
    if t != NULL:
        c.cleaning = 1
        t.number = NO_REQUEST
        ready(c, t)


# --- the start ----------------------------------------------------------------------------------

cdef void boot_advance(Core c, task_t *t) noexcept nogil:
    cdef uint32_t i
    if t.step == STEP_DURABLE and t.status:
        # The last leg did not take it: so the one that has it must not become stale, and hosts can't be served.
        t.status = 0
        t.step = STEP_BEGIN
        t.part += 1
        if t.part >= BOOT_ATTEMPTS:
            hosts_refuse(c)
            enqueue(c, t, Q_BOOT)
            return
    if t.step == STEP_BEGIN:
        if c.damaged:
            # Rule 3: before a record makes the leg that has it stale.
            round_wait(c, t, CLASS_MARKS | CLASS_COPIES, STEP_DURABLE)
            return
        t.step = STEP_DURABLE
    if t.step == STEP_DURABLE:
        c.damaged = 0
        guard(c)  # where it fails, hosts wait for another: the last one on disk may believe a leg that this start does not
        c.start_record = c.guard_record
        if wait_record(c, t, c.guard_record, STEP_RECORDED):
            return
    c.booting = 0
    for i in range(MAX_MEDIA):
        if c.media[i].used and c.media[i].role == ROLE_LEG and c.media[i].present and c.media[i].state != LEG_IN_SYNC:
            sync_begin(c, i)
    hosts_release(c)
    task_end(c, t)
