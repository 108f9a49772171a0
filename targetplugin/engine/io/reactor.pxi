# The few doors that Python has into a reactor's loop. It enters only while the loop is parked.


cdef class Reactor:
    """One native thread's worth of volumes. Call run() on a thread of its own; everything else from any other.

    Args:
        spin: while work comes in gaps shorter than so many microseconds, it is looked for before sleeping.
        silent: seconds without an answer after which a medium is given up.
    """

    cdef reactor_t *r
    cdef object cores  # keeps them alive: id -> Core
    cdef object lock
    cdef object free_requests

    def __cinit__(self, uint32_t spin=1000, double silent=12.0):
        import threading

        cdef int error, i
        cdef unsigned workers[2]
        self.r = <reactor_t *>calloc(1, sizeof(reactor_t))
        if self.r == NULL:
            raise MemoryError("no memory for an engine thread")
        if posix_memalign(<void **>&self.r.zeros, 4096, ZERO_BYTES):
            free(self.r)
            self.r = NULL
            raise MemoryError("no memory for an engine thread")
        memset(self.r.zeros, 0, ZERO_BYTES)
        self.cores = {}
        self.lock = threading.RLock()
        self.free_requests = list(range(1, MAX_REQUESTS))
        self.r.spin = spin
        self.r.silent = <uint64_t>(silent * 1000000)
        error = io_uring_queue_init(1024, &self.r.ring, 0)
        if error < 0:
            free(self.r.zeros)
            free(self.r)
            self.r = NULL
            raise OSError(-error, "the kernel gives no io_uring")
        workers[0] = WORKERS
        workers[1] = 0
        io_uring_register_iowq_max_workers(&self.r.ring, workers)
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
            self.r.free_io = io.next
            free(io.meta)
            if io.iov != io.room:
                free(io.iov)
            free(io)
        if self.r.late == NULL:  # else the kernel may use them still, and has them for good
            free(self.r.zeros)
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
        post(self.r, message(MESSAGE_STOP, NULL, 0))

    def park(self):
        """Holds the loop between two events. Hosts wait meanwhile: unpark() soon. Raises Refused when it has
        ended, or is about to: nobody would answer.
        """
        cdef uint64_t one = 1
        self.lock.acquire()
        if self.r.stop:
            self.lock.release()
            raise Refused(Reason.NOT_FOUND, "the engine has stopped")
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

    def volume_add(self, Core core, uint32_t handle, uint32_t shift=9):
        """Makes a volume known, whose logical blocks are of 512 bytes, or with a shift of 12 of 4096; its media's
        descriptors are set by set_fd. Returns its number.
        """
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
        if v.slots == NULL or v.free_slots == NULL or not self.copies_new(v):
            free(v.slots)
            free(v.free_slots)
            free(v)
            raise MemoryError("no memory for a volume")
        for index in range(MAX_HOST):
            v.free_slots[index] = <uint16_t>(MAX_HOST - 1 - index)
        v.free_count = MAX_HOST
        for index in range(MAX_MEDIA):
            v.fds[index] = -1
        v.handle = handle
        v.used = 1
        v.ring_fd = -1
        v.unanswered_fd = -1
        v.core = <void *>core
        v.shift = shift
        v.blocks = core.size >> shift
        v.protected = core.view
        v.looked_up = core.looked_up
        core_allow(v.core, COPIES_FULL)
        self.cores[i] = core
        self.r.volumes[i] = v
        self.r.volume_end = max(self.r.volume_end, i + 1)
        return i

    def volume_remove(self, uint32_t volume):
        """Forgets a volume that is closed and has no ring."""
        cdef volume_t *v = self.at(volume)
        cdef sqe_t *s
        if v.map != NULL or v.io_under_way:
            raise OSError(EBUSY, "the volume is still served")
        for index in range(MAX_HOST):
            free(v.slots[index].iov)
            free(v.slots[index].own)
        free(v.slots)
        free(v.free_slots)
        for index in range(COPY_BUFFERS):
            buffer_leave(v.copies[index])
        late_without(self.r, v, False)
        self.r.volumes[volume] = NULL
        free(v)
        del self.cores[volume]

    cdef bint copies_new(self, volume_t *v):
        for index in range(COPY_BUFFERS):
            v.copies[index] = buffer_new()
            if v.copies[index] == NULL:
                for made in range(index):
                    buffer_leave(v.copies[made])
                return False
        return True

    cdef volume_t *at(self, uint32_t volume) except NULL:
        if volume >= MAX_VOLUMES or self.r.volumes[volume] == NULL:
            raise KeyError(volume)
        return self.r.volumes[volume]

    def unanswered_in(self, uint32_t volume, int fd):
        """Commands that a kill could leave done but not answered are noted in this file, which is the caller's; and those
        that were left are taken from it.
        """
        cdef volume_t *v = self.at(volume)
        v.unanswered_fd = fd
        unanswered_load(v)

    def unanswered_left(self, uint32_t volume):
        """Whether there are still some for which a killed daemon's hosts may come again."""
        return bool(self.at(volume).left)

    def set_fd(self, uint32_t volume, uint32_t medium, int fd):
        self.at(volume).fds[medium] = fd
        self.at(volume).zero_not[medium] = 0
        self.at(volume).given_up[medium] = 0

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
                or ring_size(map) < 4096 or ring_size(map) & TCMU_OP_MASK or ring_tail(map) >= ring_size(map)
                or ring_tail(map) & TCMU_OP_MASK):
            munmap(map, length)
            raise OSError(EINVAL, "this is no TCMU ring of version 2")
        v.mapping = <mapping_t *>calloc(1, sizeof(mapping_t))
        if v.mapping == NULL:
            munmap(map, length)
            raise MemoryError("no memory for a ring")
        v.mapping.users = 1
        v.mapping.at = <uint8_t *>map
        v.mapping.length = length
        v.keeps = 1 if ring_flags(map) & TCMU_MAILBOX_FLAG_CAP_KEEP_BUF else 0
        v.map = <uint8_t *>map
        v.map_length = length
        v.size = ring_size(map)
        v.offset = ring_offset(map)
        v.next = ring_tail(map)
        v.tail = v.next
        v.ring_fd = ring_fd
        v.kept_until = microseconds() + UNANSWERED_TIME
        v.broken = 0
        v.gone = 0
        v.detaching = 0

    def ring_detaching(self, uint32_t volume):
        """Takes no more from the ring. Returns how many commands are under way.

        Those that Python has are answered BUSY: they may wait for whoever lets the ring go, and hosts ask again.
        """
        cdef volume_t *v = self.at(volume)
        cdef uint32_t tag
        v.detaching = 1
        for tag in range(MAX_HOST):
            if v.slots[tag].used and v.slots[tag].python:
                answer(v, tag, BUSY, NULL, 0, 0, 0)
        ring_kick(v)
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
        late_without(self.r, v, True)
        mapping_leave(v.mapping)
        v.mapping = NULL
        v.map = NULL

    def ring_polled(self, uint32_t volume):
        return bool(self.at(volume).polling)

    def saved_with(self, uint32_t volume, Together together):
        """The volume's next point shares this clock; None: it has its own time again."""
        cdef volume_t *v = self.at(volume)
        v.together = together.g if together is not None else NULL
        v.called_off = 0

    def attention(self, uint32_t volume, uint16_t code):
        """The next command gets CHECK CONDITION, UNIT ATTENTION with this additional sense code and qualifier."""
        self.at(volume).attention = code

    def write_through(self, uint32_t volume, bint on):
        """From now on no command is answered whose changes are not on stable storage; or hosts have a write cache again."""
        self.at(volume).through = on

    def counters(self, uint32_t volume):
        cdef volume_t *v = self.at(volume)
        return {"reads": v.reads, "writes": v.writes, "flushes": v.flushes,
                "read_errors": v.read_errors, "write_errors": v.write_errors, "bytes_read": v.bytes_read,
                "bytes_written": v.bytes_written, "read_us": v.read_us, "write_us": v.write_us, "pause_us": v.last_pause,
                "drain_us": v.last_drain, "pause_work_us": v.pause_work, "ring_broken": bool(v.broken),
                "io": v.io_under_way}

    def command_fetch(self, uint32_t volume, uint32_t tag, uint32_t serial):
        """A command that was handed to Python: (cdb, data_out, room for data_in); None if it is gone."""
        cdef volume_t *v = self.at(volume)
        cdef slot_t *s = &v.slots[tag]
        if not s.used or not s.python or s.serial != serial or v.map == NULL:
            return None
        data = b"".join([(<char *>s.iov[i].iov_base)[:s.iov[i].iov_len] for i in range(s.iovs)])
        return s.cdb[:CDB_BYTES], data, s.bytes

    def command_answer(self, uint32_t volume, uint32_t tag, uint32_t serial, uint8_t status, bytes data,
                       bytes sense, bint fill):
        """Answers it, unless that was done. With `fill`, data goes into its buffers, and the kernel is told its length."""
        cdef volume_t *v = self.at(volume)
        cdef slot_t *s = &v.slots[tag]
        cdef const uint8_t *source = <const uint8_t *>data
        cdef uint64_t left, take, at = 0
        if not s.used or not s.python or s.serial != serial:
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

    def give_to(self, uint32_t request, uint8_t[::1] buffer):
        """Where the data goes that a request is for; the caller keeps it, and as long as was asked for."""
        self.r.given[request] = &buffer[0]

    def silent(self):
        """The uuids of media whose requests were given up and are not over: nothing else may be done with them."""
        found = set()
        cdef io_t *io = self.r.late
        while io != NULL:
            found.add(io.uuid[:16])
            io = io.next
        return found

    # --- while not parked -----------------------------------------------------------------------

    def any_silent(self):
        """Whether there are such media, as of just now."""
        return __atomic_load_pointer(<void **>&self.r.late, 5) != NULL

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
        status = self.r.status[number]  # before the number is another's
        self.request_free(number)
        return status

    def next_message(self):
        """Waits for the next message: ("event", volume, event, uuid), ("command", volume, tag, serial),
        ("kept", volume, id): the kernel may have the buffers of that command back; or None at the end.
        """
        cdef message_t *m
        with nogil:
            wait_for(&self.r.outbox)
            pthread_mutex_lock(&self.r.outbox_lock)
            m = self.r.first
            self.r.first = m.next
            if self.r.first == NULL:
                self.r.last = NULL
            pthread_mutex_unlock(&self.r.outbox_lock)
        kind, volume, a, serial = m.kind, m.volume, m.a, m.serial
        uuid = m.uuid[:16] if m.named else None
        free(m)
        if kind == MESSAGE_EVENT:
            return "event", volume, a, uuid
        if kind == MESSAGE_COMMAND:
            return "command", volume, a, serial
        if kind == MESSAGE_KEPT:
            return "kept", volume, a
        return None
