# Tasks and what they wait in: queues, and the locks on ranges that keep overlapping writes in order (rule 4).


cdef inline int32_t index_of(Core c, task_t *t) noexcept nogil:
    return <int32_t>(t - c.tasks)


cdef void enqueue(Core c, task_t *t, uint8_t queue) noexcept nogil:
    """Moves a task to the end of a queue."""
    cdef list_t *q
    cdef int32_t i = index_of(c, t)
    dequeue(c, t)
    q = &c.lists[queue]
    t.queue = queue
    t.next = -1
    t.previous = q.last
    if q.last >= 0:
        c.tasks[q.last].next = i
    else:
        q.first = i
    q.last = i
    q.count += 1


cdef void push(Core c, task_t *t, uint8_t queue) noexcept nogil:
    """Puts a task that is in no queue to the front of one."""
    cdef list_t *q = &c.lists[queue]
    cdef int32_t i = index_of(c, t)
    t.queue = queue
    t.previous = -1
    t.next = q.first
    if q.first >= 0:
        c.tasks[q.first].previous = i
    else:
        q.last = i
    q.first = i
    q.count += 1


cdef void dequeue(Core c, task_t *t) noexcept nogil:
    cdef list_t *q
    if t.queue == Q_NONE:
        return
    q = &c.lists[t.queue]
    if t.previous >= 0:
        c.tasks[t.previous].next = t.next
    else:
        q.first = t.next
    if t.next >= 0:
        c.tasks[t.next].previous = t.previous
    else:
        q.last = t.previous
    q.count -= 1
    t.queue = Q_NONE


cdef inline void ready(Core c, task_t *t) noexcept nogil:
    enqueue(c, t, Q_READY)


cdef void wake_all(Core c, uint8_t queue) noexcept nogil:
    while c.lists[queue].first >= 0:
        ready(c, &c.tasks[c.lists[queue].first])


cdef task_t *task_new(Core c, uint8_t kind, uint8_t step) noexcept nogil:
    """A task in no queue, or NULL when all are in use."""
    cdef task_t *t
    if c.lists[Q_FREE].first < 0:
        return NULL
    t = &c.tasks[c.lists[Q_FREE].first]
    dequeue(c, t)
    memset(t, 0, sizeof(task_t))
    t.kind = kind
    t.step = step
    t.next = t.previous = t.lock_next = t.lock_previous = -1
    t.buffer = NO_BUFFER
    return t


cdef void task_end(Core c, task_t *t) noexcept nogil:
    unlock(c, t)
    store_leave(c, t)
    dequeue(c, t)
    push(c, t, Q_FREE)  # the next one is this again, which the processor has at hand
    if c.lists[Q_TASK].first >= 0 and c.lists[Q_FREE].count > TASKS_SPARE:
        wake_all(c, Q_TASK)


# --- locks: one list in the order of asking; a task has its lock when nothing before it overlaps ----

cdef bint lock_blocked(Core c, task_t *t) noexcept nogil:
    cdef int32_t i = t.lock_previous
    cdef task_t *other
    while i >= 0:
        other = &c.tasks[i]
        if other.lock_offset < t.lock_offset + t.lock_length and t.lock_offset < other.lock_offset + other.lock_length:
            return True
        i = other.lock_previous
    return False


cdef void lock(Core c, task_t *t, uint8_t step) noexcept nogil:
    """Asks for the task's range; the task goes on at `step` when it has it."""
    t.lock_offset = t.offset
    t.lock_length = t.length
    lock_range(c, t, step)


cdef void lock_range(Core c, task_t *t, uint8_t step) noexcept nogil:
    """The same where its range was widened."""
    cdef int32_t i = index_of(c, t)
    t.step = step
    t.in_locks = 1
    t.lock_next = -1
    t.lock_previous = c.locks.last
    if c.locks.last >= 0:
        c.tasks[c.locks.last].lock_next = i
    else:
        c.locks.first = i
    c.locks.last = i
    c.locks.count += 1
    if lock_blocked(c, t):
        t.locked = 0
        c.lock_waiters += 1
        dequeue(c, t)
    else:
        t.locked = 1
        ready(c, t)


cdef void unlock(Core c, task_t *t) noexcept nogil:
    cdef int32_t i
    cdef task_t *waiter
    if not t.in_locks:
        return
    if t.lock_previous >= 0:
        c.tasks[t.lock_previous].lock_next = t.lock_next
    else:
        c.locks.first = t.lock_next
    if t.lock_next >= 0:
        c.tasks[t.lock_next].lock_previous = t.lock_previous
    else:
        c.locks.last = t.lock_previous
    c.locks.count -= 1
    i = t.lock_next
    if not t.locked:
        c.lock_waiters -= 1
    t.in_locks = t.locked = 0
    if not c.lock_waiters:
        return
    while i >= 0:
        waiter = &c.tasks[i]
        if not waiter.locked and not lock_blocked(c, waiter):
            waiter.locked = 1
            c.lock_waiters -= 1
            ready(c, waiter)
        i = waiter.lock_next


cdef bint lock_has_copy(Core c, uint8_t kind, uint8_t medium, uint64_t at) noexcept nogil:
    """Whether such a copy of the byte `at` is under way or waits for its lock."""
    cdef int32_t i = c.locks.last
    cdef task_t *t
    while i >= 0:
        t = &c.tasks[i]
        if t.kind == kind and t.medium == medium and t.offset <= at < t.offset + t.length:
            return True
        i = t.lock_previous
    return False


# --- actions ------------------------------------------------------------------------------------

cdef action_t *emit(Core c, uint8_t kind) noexcept nogil:
    """A cleared action at the end of the queue."""
    cdef action_t *bigger
    cdef uint64_t i
    if c.action_tail - c.action_head == c.action_room:
        bigger = <action_t *>calloc(c.action_room * 2, sizeof(action_t))
        if bigger == NULL:
            abort()  # an action that is lost would be a write that is lost
        for i in range(c.action_room):
            bigger[i] = c.actions[(c.action_head + i) & (c.action_room - 1)]
        free(c.actions)
        c.actions = bigger
        c.action_tail -= c.action_head
        c.action_head = 0
        c.action_room *= 2
    cdef action_t *a = &c.actions[c.action_tail & (c.action_room - 1)]
    c.action_tail += 1
    memset(a, 0, sizeof(action_t))
    a.kind = kind
    return a


cdef action_t *emit_io(Core c, task_t *t, uint8_t kind, uint8_t medium, uint64_t offset, uint64_t length,
                  uint8_t buffer, uint32_t number, uint64_t buffer_offset, uint8_t flags) noexcept nogil:
    """A read or write for a task, which waits for it."""
    cdef action_t *a = emit(c, kind)
    a.medium = medium
    a.offset = offset
    a.length = <uint32_t>length
    a.buffer = buffer
    a.number = number
    a.buffer_offset = buffer_offset
    a.flags = flags
    a.tag = TAG_TASK | (<uint64_t>index_of(c, t) << 8) | medium
    c.media[medium].in_flight += 1
    t.waiting += 1
    return a


cdef void emit_event(Core c, uint32_t event, uint8_t medium) noexcept nogil:
    cdef action_t *a = emit(c, ACT_EVENT)
    a.number = event
    a.medium = medium


cdef void emit_done(Core c, uint32_t request, int32_t status) noexcept nogil:
    cdef action_t *a = emit(c, ACT_DONE)
    a.number = request
    a.status = status
