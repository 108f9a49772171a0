# The loop of one thread: what has ended, what has come, what is to go out; and when to sleep. No Python in it.

cdef enum:
    MAX_REQUESTS = 256
    WORKERS = 1024  # of the kernel's: a silent medium may hold many, and another's requests must get one all the same
    MESSAGE_EVENT = 1
    MESSAGE_COMMAND = 2
    MESSAGE_STOP = 3
    MESSAGE_KEPT = 4
    EVENT_ANSWERS = 32  # beside the core's: the last request of a medium that was given up is over
    WAKE_DATA = 1  # user data of the poll on the wake descriptor
    IGNORE_DATA = 3
    POLL_BIT = 2  # in user data: a poll on a ring's descriptor; the rest is the volume's address
    IDLE_CHECKPOINT = 2000000  # microseconds without a write after which the log is emptied
    IDLE_COPIES = 2000000  # microseconds without a copy after which the memory for copies is given back
    SPIN_FORGET = 10000  # microseconds: no gap counts as longer
    SPIN_MORE = 20
    SPIN_DEPTH = 6  # requests to media under way: a few commands of a mirror
    LOOK_MOST = 600000000  # microseconds: without work there is none to look for, but no sleep is for ever

# Something for Python.
ctypedef struct message_t:
    message_t *next
    uint32_t kind
    uint32_t volume  # its handle
    uint32_t a
    uint32_t serial  # of a command
    uint8_t named  # an event: it is about this medium
    uint8_t uuid[16]

ctypedef struct reactor_t:
    uring_t ring
    int wake_fd
    uint64_t now
    uint8_t to_submit
    uint8_t wake_armed
    uint8_t stop
    int park_wanted
    sem_t parked
    sem_t unpark
    io_t *free_io
    io_t *late  # given up, and not over
    uint64_t silent  # microseconds without an answer after which a medium is given up
    volume_t *volumes[256]
    uint32_t volume_end  # above the last
    pthread_mutex_t outbox_lock
    sem_t outbox
    message_t *first
    message_t *last
    sem_t done[256]
    int32_t status[256]
    uint8_t *given[256]  # where a request's data goes
    uint32_t spin
    uint8_t *zeros  # ZERO_BYTES of them


cdef message_t *message(uint32_t kind, volume_t *v, uint32_t a) noexcept nogil:
    cdef message_t *m = <message_t *>calloc(1, sizeof(message_t))
    if m != NULL:
        m.kind = kind
        m.volume = v.handle if v != NULL else 0
        m.a = a
    return m


cdef void post(reactor_t *r, message_t *m) noexcept nogil:
    """Puts a message into the outbox; Python's thread waits there."""
    if m == NULL:
        return
    pthread_mutex_lock(&r.outbox_lock)
    if r.last != NULL:
        r.last.next = m
    else:
        r.first = m
    r.last = m
    pthread_mutex_unlock(&r.outbox_lock)
    sem_post(&r.outbox)


cdef void python_command(reactor_t *r, volume_t *v, uint32_t tag) noexcept nogil:
    cdef message_t *m = message(MESSAGE_COMMAND, v, tag)
    v.slots[tag].python = 1
    v.slots[tag].serial += 1
    if m != NULL:
        m.serial = v.slots[tag].serial
    post(r, m)


cdef void post_event(reactor_t *r, volume_t *v, uint32_t event, uint32_t medium) noexcept nogil:
    """Tells of an event. The medium's uuid is taken now: its index may be another's when Python reads it."""
    cdef message_t *m = message(MESSAGE_EVENT, v, event)
    if m != NULL:
        m.named = core_uuid(v.core, medium, m.uuid)
    post(r, m)


cdef void volume_drive(reactor_t *r, volume_t *v) noexcept nogil:
    cdef action_t *a
    cdef uint64_t begin = microseconds() if v.pausing else 0
    while v.touched:
        v.touched = 0
        if v.freed:
            begin_waiting(r, v)
        core_drive(v.core)
        a = core_next(v.core)
        while a != NULL:
            perform(r, v, a)
            a = core_next(v.core)
    if begin:
        v.pause_work += microseconds() - begin


cdef bint ring_woken(volume_t *v, int32_t result) noexcept nogil:
    """Takes a wake-up of a ring's descriptor. False where it gives errors, or its other end is gone."""
    cdef uint32_t count
    cdef ssize_t got
    if result < 0:
        return False
    got = read(v.ring_fd, &count, 4)
    return got > 0 or (got < 0 and (errno == EAGAIN or errno == EINTR))


cdef bint reap(reactor_t *r) noexcept nogil:
    cdef cqe_t *c
    cdef uint64_t data, drop
    cdef int32_t result
    cdef volume_t *v
    cdef bint any = False
    while io_uring_peek_cqe(&r.ring, &c) == 0:
        data, result = c.user_data, c.res
        io_uring_cqe_seen(&r.ring, c)
        if data == WAKE_DATA:
            r.wake_armed = 0
            read(r.wake_fd, &drop, 8)
        elif data == IGNORE_DATA:
            continue
        elif data & POLL_BIT:
            v = <volume_t *>(data & ~<uint64_t>POLL_BIT)
            v.polling = 0
            if v.map != NULL and not ring_woken(v, result):
                v.gone = 1  # polled again, it would be ready at once, for ever
            continue  # what it is about stands in the ring
        else:
            io_finished(r, <io_t *>data, result)
        any = True
    return any


cdef void arm(reactor_t *r) noexcept nogil:
    """Has the ring wake the loop when a command comes, or Python wants something."""
    cdef uint32_t i
    cdef volume_t *v
    cdef sqe_t *s
    for i in range(r.volume_end):
        v = r.volumes[i]
        if v != NULL and v.map != NULL and not v.polling and not v.gone:
            s = sqe(r)
            io_uring_prep_poll_add(s, v.ring_fd, POLLIN)
            io_uring_sqe_set_data64(s, <uint64_t>v | POLL_BIT)
            v.polling = 1
    if not r.wake_armed:
        s = sqe(r)
        io_uring_prep_poll_add(s, r.wake_fd, POLLIN)
        io_uring_sqe_set_data64(s, WAKE_DATA)
        r.wake_armed = 1
    r.to_submit = 0


cdef bint serve(reactor_t *r, volume_t *v, uint64_t *look_at) noexcept nogil:
    """One volume's turn. True where there was work; `look_at` becomes no later than it needs the next."""
    cdef uint64_t due
    cdef bint any
    v.now = r.now
    any = ring_take(r, v)
    if any:
        v.touched = 1
    if v.dirty:
        due = v.wrote_at + IDLE_CHECKPOINT
        if r.now >= due and not v.internal:
            if core_checkpoint(v.core, 0, 0) == 0:
                v.internal = 1
                v.dirty = 0
            else:
                v.wrote_at = r.now  # busy: later
            v.touched = 1
        elif due < look_at[0] and not v.internal:
            look_at[0] = due
    if v.copied_at:
        due = v.copied_at + IDLE_COPIES
        if r.now >= due:
            v.copied_at = 0 if copies_rest(v) else r.now
        elif due < look_at[0]:
            look_at[0] = due
    if v.touched:
        volume_drive(r, v)
    due = silence(r, v)
    if due and due < look_at[0]:
        look_at[0] = due
    due = pace(r, v)
    if due and due < look_at[0]:
        look_at[0] = due
    due = together_serve(v)
    if due and due < look_at[0]:
        look_at[0] = due
    if v.touched:
        volume_drive(r, v)
    if core_unfinished(v.core):
        v.touched = 1
        any = True
    ring_kick(v)
    return any


cdef void park_here(reactor_t *r) noexcept nogil:
    cdef uint32_t i
    sem_post(&r.parked)
    wait_for(&r.unpark)
    r.now = microseconds()
    for i in range(r.volume_end):
        if r.volumes[i] != NULL:
            r.volumes[i].touched = 1


cdef uint32_t under_way(reactor_t *r) noexcept nogil:
    """Requests to media."""
    cdef uint32_t i, count = 0
    for i in range(r.volume_end):
        if r.volumes[i] != NULL:
            count += r.volumes[i].io_under_way
    return count


cdef void loop(reactor_t *r) noexcept nogil:
    cdef uint32_t i
    cdef bint any
    cdef uint64_t idle_since = 0  # when the last work was done; 0 while there is some
    cdef uint64_t gap = SPIN_FORGET  # microseconds from there to the next, as it was of late
    cdef uint64_t look_at, wait
    cdef timespec_t time
    cdef cqe_t *c
    while True:
        r.now = microseconds()
        any = reap(r)
        if __atomic_load_n(&r.park_wanted, 5):
            park_here(r)
            if r.stop:
                return
        look_at = r.now + LOOK_MOST
        for i in range(r.volume_end):
            if r.volumes[i] != NULL and serve(r, r.volumes[i], &look_at):
                any = True
        if r.to_submit:
            r.to_submit = 0
            io_uring_submit(&r.ring)
        if any:
            if idle_since:
                gap = (3 * gap + min(r.now - idle_since, SPIN_FORGET)) // 4
                idle_since = 0
            continue
        if not idle_since:
            idle_since = r.now
        # A wake-up costs more than most gaps between two commands of a host that waits for each: look for a while. Where much
        # is under way, sleep instead: what ends meanwhile is taken at once.
        if (gap < r.spin and r.now - idle_since < 2 * gap + SPIN_MORE and r.now < look_at
                and under_way(r) <= SPIN_DEPTH):
            continue
        arm(r)
        if r.now < look_at:
            wait = look_at - r.now
            time.tv_sec = <int64_t>(wait // 1000000)
            time.tv_nsec = <int64_t>(wait % 1000000 * 1000)
            io_uring_submit_and_wait_timeout(&r.ring, &c, 1, &time, NULL)
