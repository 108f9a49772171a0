# The reactor: one thread's loop, and the few doors that Python has into it. Python enters only while the loop is parked.

cdef enum:
    MAX_REQUESTS = 256
    MESSAGE_EVENT = 1
    MESSAGE_COMMAND = 2
    MESSAGE_STOP = 3
    WAKE_DATA = 1  # user data of the poll on the wake descriptor
    IGNORE_DATA = 3
    POLL_BIT = 2  # in user data: a poll on a ring's descriptor; the rest is the volume's address
    IDLE_CHECKPOINT = 2000000  # microseconds without a write after which the log is emptied

# Something for Python.
ctypedef struct message_t:
    message_t *next
    uint32_t kind
    uint32_t volume
    uint32_t a
    uint32_t b

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
    volume_t *volumes[256]
    pthread_mutex_t outbox_lock
    sem_t outbox
    message_t *first
    message_t *last
    sem_t done[256]
    int32_t status[256]
    uint32_t spin


cdef void post(reactor_t *r, uint32_t kind, volume_t *v, uint32_t a, uint32_t b) noexcept nogil:
    """Puts a message into the outbox; Python's thread waits there."""
    cdef message_t *m = <message_t *>malloc(sizeof(message_t))
    if m == NULL:
        return
    m.next = NULL
    m.kind = kind
    m.volume = v.id if v != NULL else 0
    m.a = a
    m.b = b
    pthread_mutex_lock(&r.outbox_lock)
    if r.last != NULL:
        r.last.next = m
    else:
        r.first = m
    r.last = m
    pthread_mutex_unlock(&r.outbox_lock)
    sem_post(&r.outbox)


cdef void python_command(reactor_t *r, volume_t *v, uint32_t tag) noexcept nogil:
    v.slots[tag].python = 1
    post(r, MESSAGE_COMMAND, v, tag, 0)


cdef void volume_drive(reactor_t *r, volume_t *v) noexcept nogil:
    cdef action_t *a
    while v.touched:
        v.touched = 0
        core_drive(v.core)
        a = core_next(v.core)
        while a != NULL:
            perform(r, v, a)
            a = core_next(v.core)


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
            if v.map != NULL and result > 0:
                read(v.ring_fd, &drop, 4)
        else:
            io_finished(r, <io_t *>data, result)
        any = True
    return any


cdef void loop(reactor_t *r) noexcept nogil:
    cdef uint32_t i
    cdef volume_t *v
    cdef bint any, dirty
    cdef uint64_t idle_since = 0
    cdef uint64_t slept
    cdef bint brisk = False
    cdef sqe_t *s
    cdef cqe_t *c
    cdef timespec_t wait
    while True:
        r.now = microseconds()
        any = reap(r)
        if __atomic_load_n(&r.park_wanted, 5):
            sem_post(&r.parked)
            wait_for(&r.unpark)
            r.now = microseconds()
            any = True
            for i in range(MAX_VOLUMES):
                if r.volumes[i] != NULL:
                    r.volumes[i].touched = 1
            if r.stop:
                return
        dirty = False
        for i in range(MAX_VOLUMES):
            v = r.volumes[i]
            if v == NULL:
                continue
            if ring_take(r, v):
                v.touched = 1
                any = True
            if v.dirty:
                if r.now - v.wrote_at > IDLE_CHECKPOINT and not v.internal:
                    v.dirty = 0
                    if core_checkpoint(v.core, 0, 0) == 0:
                        v.internal = 1
                    v.touched = 1
                else:
                    dirty = True
            if v.touched:
                volume_drive(r, v)
            ring_kick(v)
        if r.to_submit:
            r.to_submit = 0
            io_uring_submit(&r.ring)
        if any:
            idle_since = r.now
            continue
        if brisk and r.now - idle_since < r.spin:
            continue
        for i in range(MAX_VOLUMES):
            v = r.volumes[i]
            if v != NULL and v.map != NULL and not v.polling:
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
        wait.tv_sec = 1 if dirty else 3600
        wait.tv_nsec = 0
        io_uring_submit_and_wait_timeout(&r.ring, &c, 1, &wait, NULL)
        slept = microseconds() - r.now
        brisk = slept < 200


cdef class Reactor:
    """One native thread's worth of volumes. Call run() on a thread of its own; everything else from any other.

    Args:
        spin: microseconds to look for work before sleeping, while work comes briskly.
    """

    cdef reactor_t *r
    cdef object cores  # keeps them alive: id -> Core
    cdef object lock
    cdef object free_requests

    def __cinit__(self, uint32_t spin=50):
        import threading

        cdef int error, i
        self.r = <reactor_t *>calloc(1, sizeof(reactor_t))
        if self.r == NULL:
            raise MemoryError("no memory for an engine thread")
        self.cores = {}
        self.lock = threading.RLock()
        self.free_requests = list(range(1, MAX_REQUESTS))
        self.r.spin = spin
        error = io_uring_queue_init(1024, &self.r.ring, 0)
        if error < 0:
            free(self.r)
            self.r = NULL
            raise OSError(-error, "the kernel gives no io_uring")
        self.r.wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)
        pthread_mutex_init(&self.r.outbox_lock, NULL)
        sem_init(&self.r.outbox, 0, 0)
        sem_init(&self.r.parked, 0, 0)
        sem_init(&self.r.unpark, 0, 0)
        for i in range(MAX_REQUESTS):
            sem_init(&self.r.done[i], 0, 0)

    def __dealloc__(self):
        cdef io_t *io
        if self.r == NULL:
            return
        io_uring_queue_exit(&self.r.ring)
        close(self.r.wake_fd)
        while self.r.free_io != NULL:
            io = self.r.free_io
            self.r.free_io = io.next_free
            if io.iov != io.room:
                free(io.iov)
            free(io)
        free(self.r)

    def run(self):
        """The loop; returns after stop()."""
        with nogil:
            loop(self.r)

    def stop(self):
        """Ends run() and next_message()."""
        with self.lock:
            self.park()
            self.r.stop = 1
            self.unpark()
        post(self.r, MESSAGE_STOP, NULL, 0, 0)

    def park(self):
        """Holds the loop between two events. Hosts wait meanwhile: unpark() soon."""
        cdef uint64_t one = 1
        self.lock.acquire()
        with nogil:
            __atomic_store_n(&self.r.park_wanted, 1, 5)
            write(self.r.wake_fd, &one, 8)
            wait_for(&self.r.parked)

    def unpark(self):
        __atomic_store_n(&self.r.park_wanted, 0, 5)
        sem_post(&self.r.unpark)
        self.lock.release()

    def __enter__(self):
        self.park()
        return self

    def __exit__(self, *error):
        self.unpark()

    # --- while parked ---------------------------------------------------------------------------

    def volume_add(self, Core core):
        """Makes a volume known; its media's descriptors are set by set_fd. Returns its number."""
        cdef uint32_t i
        cdef volume_t *v
        for i in range(MAX_VOLUMES):
            if self.r.volumes[i] == NULL:
                break
        else:
            raise OSError(ENOMEM, f"an engine thread serves at most {MAX_VOLUMES} volumes")
        v = <volume_t *>calloc(1, sizeof(volume_t))
        if v == NULL:
            raise MemoryError("no memory for a volume")
        v.slots = <slot_t *>calloc(MAX_HOST, sizeof(slot_t))
        v.free_slots = <uint16_t *>calloc(MAX_HOST, 2)
        if v.slots == NULL or v.free_slots == NULL or posix_memalign(<void **>&v.copies, 4096, COPY_BUFFERS * COPY_BYTES):
            free(v.slots)
            free(v.free_slots)
            free(v)
            raise MemoryError("no memory for a volume")
        for index in range(MAX_HOST):
            v.free_slots[index] = <uint16_t>(MAX_HOST - 1 - index)
        v.free_count = MAX_HOST
        for index in range(MAX_MEDIA):
            v.fds[index] = -1
        v.id = i
        v.used = 1
        v.ring_fd = -1
        v.core = <void *>core
        v.blocks = core.size >> 9
        self.cores[i] = core
        self.r.volumes[i] = v
        return i

    def volume_remove(self, uint32_t volume):
        """Forgets a volume that is closed and has no ring."""
        cdef volume_t *v = self.at(volume)
        cdef sqe_t *s
        if v.map != NULL or v.io_under_way:
            raise OSError(EBUSY, "the volume is still served")
        for index in range(MAX_HOST):
            free(v.slots[index].iov)
        free(v.slots)
        free(v.free_slots)
        free(v.copies)
        self.r.volumes[volume] = NULL
        free(v)
        del self.cores[volume]

    cdef volume_t *at(self, uint32_t volume) except NULL:
        if volume >= MAX_VOLUMES or self.r.volumes[volume] == NULL:
            raise KeyError(volume)
        return self.r.volumes[volume]

    def set_fd(self, uint32_t volume, uint32_t medium, int fd):
        self.at(volume).fds[medium] = fd

    def ring_attach(self, uint32_t volume, int ring_fd, uint64_t length, int map_fd=-1):
        """Serves a TCMU ring: of `ring_fd` (read: woken, write: kicked), mapped from it or from `map_fd`.

        Raises:
            OSError: it can't be mapped, or is no ring of this kernel's layout.
        """
        cdef volume_t *v = self.at(volume)
        cdef void *map
        if v.map != NULL:
            raise OSError(EBUSY, "the volume has a ring already")
        map = mmap(NULL, length, PROT_READ | PROT_WRITE, MAP_SHARED, ring_fd if map_fd < 0 else map_fd, 0)
        if <int64_t>map == -1:
            raise OSError(errno, "the ring can't be mapped")
        if (length < 4096 or ring_version(map) != 2 or <uint64_t>ring_offset(map) + ring_size(map) > length
                or ring_size(map) < 4096 or ring_tail(map) >= ring_size(map)):
            munmap(map, length)
            raise OSError(EINVAL, "this is no TCMU ring of version 2")
        v.map = <uint8_t *>map
        v.map_length = length
        v.size = ring_size(map)
        v.next = ring_tail(map)
        v.ring_fd = ring_fd
        v.broken = 0
        v.detaching = 0

    def ring_detaching(self, uint32_t volume):
        """Takes no more from the ring. Returns how many commands are under way."""
        cdef volume_t *v = self.at(volume)
        v.detaching = 1
        return MAX_HOST - v.free_count

    def ring_detach(self, uint32_t volume):
        cdef volume_t *v = self.at(volume)
        cdef sqe_t *s
        if v.map == NULL:
            return
        ring_kick(v)
        if v.polling:
            s = sqe(self.r)
            io_uring_prep_poll_remove(s, <uint64_t>v | POLL_BIT)
            io_uring_sqe_set_data64(s, IGNORE_DATA)
        munmap(v.map, v.map_length)
        v.map = NULL

    def ring_polled(self, uint32_t volume):
        return bool(self.at(volume).polling)

    def attention(self, uint32_t volume, uint16_t code):
        """The next command gets CHECK CONDITION, UNIT ATTENTION with this additional sense code and qualifier."""
        self.at(volume).attention = code

    def counters(self, uint32_t volume):
        cdef volume_t *v = self.at(volume)
        return {"reads": v.reads, "writes": v.writes, "pause_us": v.last_pause, "ring_broken": bool(v.broken),
                "io": v.io_under_way}

    def command_fetch(self, uint32_t volume, uint32_t tag):
        """A command that was handed to Python: (cdb, data_out, room for data_in); None if it is gone."""
        cdef volume_t *v = self.at(volume)
        cdef slot_t *s = &v.slots[tag]
        if not s.used or not s.python or v.map == NULL:
            return None
        data = b"".join([(<char *>s.iov[i].iov_base)[:s.iov[i].iov_len] for i in range(s.iovs)])
        return s.cdb[:CDB_BYTES], data, s.bytes

    def command_answer(self, uint32_t volume, uint32_t tag, uint8_t status, bytes data, bytes sense, bint fill):
        """Answers it. With `fill`, data goes into the command's buffers, and the kernel is told its length."""
        cdef volume_t *v = self.at(volume)
        cdef slot_t *s = &v.slots[tag]
        cdef const uint8_t *source = <const uint8_t *>data
        cdef uint64_t left, take, at = 0
        if not s.used or not s.python:
            return
        left = min(<uint64_t>len(data), s.bytes) if fill else 0
        size = left
        if fill:
            for i in range(s.iovs):
                take = min(left, <uint64_t>s.iov[i].iov_len)
                memcpy(s.iov[i].iov_base, source + at, take)
                memset(<char *>s.iov[i].iov_base + take, 0, s.iov[i].iov_len - take)
                at += take
                left -= take
        answer(v, tag, status, <const uint8_t *>sense, <uint32_t>len(sense), fill or status != GOOD, <uint32_t>size)
        ring_kick(v)

    # --- while not parked -----------------------------------------------------------------------

    def request_number(self):
        with self.lock:
            if not self.free_requests:
                raise OSError(EBUSY, "too many requests are under way")
            return self.free_requests.pop()

    def request_free(self, uint32_t number):
        with self.lock:
            self.free_requests.append(number)

    def request_wait(self, uint32_t number):
        """Waits until ACT_DONE came for the request. Returns 0 or a negative errno."""
        with nogil:
            wait_for(&self.r.done[number])
        self.request_free(number)
        return self.r.status[number]

    def next_message(self):
        """Waits for the next message: ("event", volume, event, medium), ("command", volume, tag), or None at the end."""
        cdef message_t *m
        with nogil:
            wait_for(&self.r.outbox)
            pthread_mutex_lock(&self.r.outbox_lock)
            m = self.r.first
            self.r.first = m.next
            if self.r.first == NULL:
                self.r.last = NULL
            pthread_mutex_unlock(&self.r.outbox_lock)
        kind, volume, a, b = m.kind, m.volume, m.a, m.b
        free(m)
        if kind == MESSAGE_EVENT:
            return "event", volume, a, b
        if kind == MESSAGE_COMMAND:
            return "command", volume, a
        return None
