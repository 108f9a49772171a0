# What the executor takes from the system: io_uring, the TCMU ring's layout, memory, semaphores.

cdef extern from "tcmu_ring.h" nogil:
    ctypedef struct iovec_t "struct iovec":
        void *iov_base
        size_t iov_len
    enum: TCMU_OP_PAD
    enum: TCMU_OP_CMD
    enum: TCMU_OP_TMR
    enum: TCMU_OP_MASK
    enum: TCMU_MAILBOX_FLAG_CAP_KEEP_BUF
    uint32_t ring_head(const void *map)
    uint32_t ring_tail(const void *map)
    void ring_set_tail(void *map, uint32_t tail)
    uint32_t ring_version(const void *map)
    uint32_t ring_flags(const void *map)
    uint32_t ring_offset(const void *map)
    uint32_t ring_size(const void *map)
    uint32_t entry_length_op(const void *entry)
    uint16_t entry_id(const void *entry)
    uint32_t entry_iovs(const void *entry)
    uint32_t entry_iov_room(uint32_t length)
    uint64_t entry_cdb(const void *entry)
    uint64_t entry_iov_base(const void *entry, uint32_t i)
    uint64_t entry_iov_length(const void *entry, uint32_t i)
    void entry_answer(void *at, uint16_t id, uint8_t status, const uint8_t *sense, uint32_t sense_length,
                      int has_read_length, uint32_t read_length, int keep)
    void entry_unknown(void *entry)

cdef extern from "liburing.h" nogil:
    ctypedef struct uring_t "struct io_uring":
        pass
    ctypedef struct sqe_t "struct io_uring_sqe":
        int rw_flags
    ctypedef struct cqe_t "struct io_uring_cqe":
        uint64_t user_data
        int32_t res
    ctypedef struct timespec_t "struct __kernel_timespec":
        int64_t tv_sec
        int64_t tv_nsec
    int io_uring_queue_init(unsigned entries, uring_t *ring, unsigned flags)
    void io_uring_queue_exit(uring_t *ring)
    sqe_t *io_uring_get_sqe(uring_t *ring)
    int io_uring_register_iowq_max_workers(uring_t *ring, unsigned *values)
    int io_uring_submit(uring_t *ring)
    int io_uring_submit_and_wait_timeout(uring_t *ring, cqe_t **cqe, unsigned wait, timespec_t *ts, void *mask)
    int io_uring_peek_cqe(uring_t *ring, cqe_t **cqe)
    void io_uring_cqe_seen(uring_t *ring, cqe_t *cqe)
    void io_uring_prep_read(sqe_t *sqe, int fd, void *buffer, unsigned length, uint64_t offset)
    void io_uring_prep_write(sqe_t *sqe, int fd, const void *buffer, unsigned length, uint64_t offset)
    void io_uring_prep_readv(sqe_t *sqe, int fd, const iovec_t *iov, unsigned count, uint64_t offset)
    void io_uring_prep_writev2(sqe_t *sqe, int fd, const iovec_t *iov, unsigned count, uint64_t offset, int flags)
    void io_uring_prep_fsync(sqe_t *sqe, int fd, unsigned flags)
    void io_uring_prep_fallocate(sqe_t *sqe, int fd, int mode, uint64_t offset, uint64_t length)
    void io_uring_prep_poll_add(sqe_t *sqe, int fd, unsigned mask)
    void io_uring_prep_poll_remove(sqe_t *sqe, uint64_t user_data)
    void io_uring_sqe_set_data64(sqe_t *sqe, uint64_t data)
    enum: IORING_FSYNC_DATASYNC

cdef extern from *:
    int __builtin_popcount(unsigned int) nogil

cdef extern from "linux/falloc.h" nogil:
    enum: FALLOC_FL_KEEP_SIZE
    enum: FALLOC_FL_PUNCH_HOLE
    enum: FALLOC_FL_ZERO_RANGE

cdef extern from "sys/uio.h" nogil:
    enum: RWF_DSYNC

cdef extern from "sys/mman.h" nogil:
    void *mmap(void *address, size_t length, int protection, int flags, int fd, int64_t offset)
    int munmap(void *address, size_t length)
    int madvise(void *address, size_t length, int advice)
    enum: MADV_DONTNEED
    enum: PROT_READ
    enum: PROT_WRITE
    enum: MAP_SHARED

cdef extern from "sys/eventfd.h" nogil:
    int eventfd(unsigned start, int flags)
    enum: EFD_CLOEXEC
    enum: EFD_NONBLOCK

cdef extern from "unistd.h" nogil:
    ssize_t read(int fd, void *buffer, size_t count)
    ssize_t write(int fd, const void *buffer, size_t count)
    int close(int fd)
    ssize_t pread(int fd, void *buffer, size_t count, int64_t offset)
    ssize_t pwrite(int fd, const void *buffer, size_t count, int64_t offset)
    int ftruncate(int fd, int64_t length)

cdef extern from "poll.h" nogil:
    enum: POLLIN

cdef extern from "time.h" nogil:
    ctypedef struct clock_time_t "struct timespec":
        int64_t tv_sec
        int64_t tv_nsec
    int clock_gettime(int clock, clock_time_t *now)
    enum: CLOCK_MONOTONIC

cdef extern from "semaphore.h" nogil:
    ctypedef struct sem_t:
        pass
    int sem_init(sem_t *sem, int shared, unsigned value)
    int sem_destroy(sem_t *sem)
    int sem_post(sem_t *sem)
    int sem_wait(sem_t *sem)
    int sem_trywait(sem_t *sem)
    int sem_clockwait(sem_t *sem, int clock, const clock_time_t *end)

cdef extern from "pthread.h" nogil:
    ctypedef struct pthread_mutex_t:
        pass
    int pthread_mutex_init(pthread_mutex_t *mutex, void *attributes)
    int pthread_mutex_lock(pthread_mutex_t *mutex)
    int pthread_mutex_unlock(pthread_mutex_t *mutex)
    int pthread_mutex_destroy(pthread_mutex_t *mutex)

cdef extern from "stdlib.h" nogil:
    int posix_memalign(void **pointer, size_t alignment, size_t size)


cdef uint64_t microseconds() noexcept nogil:
    """A clock that only goes forward."""
    cdef clock_time_t now
    clock_gettime(CLOCK_MONOTONIC, &now)
    return <uint64_t>now.tv_sec * 1000000 + <uint64_t>now.tv_nsec // 1000


cdef int wait_for(sem_t *sem) noexcept nogil:
    while sem_wait(sem):
        if errno != EINTR:
            return -1
    return 0


# The core's methods as plain functions on an address: C structs hold no Python reference, and native code takes none.
ctypedef void (*submit_f)(void *core, uint32_t tag, uint8_t op, uint64_t offset, uint32_t length, uint8_t flags) noexcept nogil
ctypedef void (*complete_f)(void *core, uint64_t tag, int32_t result) noexcept nogil
ctypedef void (*drive_f)(void *core) noexcept nogil
ctypedef action_t *(*next_f)(void *core) noexcept nogil
ctypedef int (*point_f)(void *core, uint32_t request, int kind, uint32_t mask, uint32_t source, uint32_t generation, const uint8_t *base, uint64_t op, uint32_t save, const uint8_t *lacks, int waits) noexcept nogil
ctypedef int (*sync_f)(void *core, uint32_t request, uint32_t medium, const uint8_t *pending) noexcept nogil
ctypedef int (*drop_f)(void *core, uint32_t request, uint32_t medium) noexcept nogil
ctypedef void (*allow_f)(void *core, uint32_t copies) noexcept nogil
ctypedef uint32_t (*count_f)(void *core) noexcept nogil
ctypedef int (*uuid_f)(void *core, uint32_t medium, uint8_t *uuid) noexcept nogil
ctypedef int (*cancel_f)(void *core) noexcept nogil
ctypedef int (*give_up_f)(void *core, uint32_t medium) noexcept nogil
ctypedef int (*checkpoint_f)(void *core, uint32_t request, int close) noexcept nogil


cdef void _submit(Core c, uint32_t tag, uint8_t op, uint64_t offset, uint32_t length, uint8_t flags) noexcept nogil:
    c.submit(tag, op, offset, length, flags)


cdef void _complete(Core c, uint64_t tag, int32_t result) noexcept nogil:
    c.complete(tag, result)


cdef void _drive(Core c) noexcept nogil:
    c.drive()


cdef action_t *_next(Core c) noexcept nogil:
    return c.next_action()


cdef int _point(Core c, uint32_t request, int kind, uint32_t mask, uint32_t source, uint32_t generation, const uint8_t *base, uint64_t op, uint32_t save, const uint8_t *lacks, int waits) noexcept nogil:
    return c.point(request, kind, mask, source, generation, base, op, save, lacks, waits)


cdef int _sync(Core c, uint32_t request, uint32_t medium, const uint8_t *pending) noexcept nogil:
    return c.sync(request, medium, pending)


cdef int _drop(Core c, uint32_t request, uint32_t medium) noexcept nogil:
    return c.drop(request, medium)


cdef int _checkpoint(Core c, uint32_t request, int close) noexcept nogil:
    return c.checkpoint(request, close)


cdef int _give_up(Core c, uint32_t medium) noexcept nogil:
    return c.give_up(medium)


cdef int _point_cancel(Core c) noexcept nogil:
    return c.point_cancel()


cdef void _allow(Core c, uint32_t copies) noexcept nogil:
    c.allow(copies)


cdef uint32_t _copying(Core c) noexcept nogil:
    return c.copying


cdef uint32_t _buffers(Core c) noexcept nogil:
    """Copy buffers that something has."""
    return COPY_BUFFERS - <uint32_t>__builtin_popcount(c.buffers_free)


cdef uint32_t _background(Core c) noexcept nogil:
    return c.background_active


cdef uint32_t _generation(Core c) noexcept nogil:
    return c.generation


cdef uint32_t _unfinished(Core c) noexcept nogil:
    return c.unfinished


cdef uint32_t _paused(Core c) noexcept nogil:
    return c.paused


cdef int _uuid(Core c, uint32_t medium, uint8_t *uuid) noexcept nogil:
    """The uuid of a medium that the core knows. False where it knows none."""
    if medium >= MAX_MEDIA or not c.media[medium].used:
        return 0
    memcpy(uuid, c.media[medium].spec.uuid, 16)
    return 1


cdef submit_f core_submit = <submit_f>_submit
cdef complete_f core_complete = <complete_f>_complete
cdef drive_f core_drive = <drive_f>_drive
cdef next_f core_next = <next_f>_next
cdef point_f core_point = <point_f>_point
cdef sync_f core_sync = <sync_f>_sync
cdef drop_f core_drop = <drop_f>_drop
cdef checkpoint_f core_checkpoint = <checkpoint_f>_checkpoint
cdef cancel_f core_point_cancel = <cancel_f>_point_cancel
cdef give_up_f core_give_up = <give_up_f>_give_up
cdef allow_f core_allow = <allow_f>_allow
cdef count_f core_copying = <count_f>_copying
cdef count_f core_buffers = <count_f>_buffers
cdef count_f core_background = <count_f>_background
cdef count_f core_generation = <count_f>_generation
cdef count_f core_paused = <count_f>_paused
cdef count_f core_unfinished = <count_f>_unfinished
cdef uuid_f core_uuid = <uuid_f>_uuid
