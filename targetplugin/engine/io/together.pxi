# Volumes that are saved as one: how long hosts of any may be held is counted from the first pause of all, and kept here,
# whatever becomes of the threads that asked.

ctypedef struct together_t:
    uint64_t first  # microseconds: when the first of them held its hosts; 0: none has
    uint64_t limit  # microseconds from then on, after which those that are not switched are called off
    sem_t changed  # one of them is ready, held or over


cdef void together_paused(volume_t *v) noexcept nogil:
    cdef uint64_t none = 0
    if v.together != NULL:
        __atomic_compare_exchange_n(&v.together.first, &none, v.paused_at, 0, 5, 5)


cdef inline void together_changed(volume_t *v) noexcept nogil:
    if v.together != NULL:
        sem_post(&v.together.changed)


cdef uint64_t together_due(together_t *g) noexcept nogil:
    """When time is over; 0: nobody is held."""
    cdef uint64_t first = __atomic_load_n64(&g.first, 5)
    return first + g.limit if first else 0


cdef uint64_t together_serve(volume_t *v) noexcept nogil:
    """Calls a point off whose time is over. Returns when to look again at the latest; 0: no need."""
    cdef uint64_t due
    if v.together == NULL or v.called_off:
        return 0
    due = together_due(v.together)
    if due and microseconds() >= due:
        v.called_off = 1
        if core_point_cancel(v.core) == 0:
            v.touched = 1
        together_changed(v)
        return 0
    return due


cdef class Together:
    """The clock that some volumes share. Keep it until each of them was given None.

    Args:
        limit: microseconds that hosts of any may be held, from when the first are.
    """

    cdef together_t *g

    def __cinit__(self, uint64_t limit):
        self.g = <together_t *>calloc(1, sizeof(together_t))
        if self.g == NULL:
            raise MemoryError("no memory for volumes that are saved together")
        self.g.limit = limit
        sem_init(&self.g.changed, 0, 0)

    def __dealloc__(self):
        free(self.g)

    def wait(self, uint32_t milliseconds):
        """Waits until something changed since the last time, or so long."""
        cdef clock_time_t end
        clock_gettime(CLOCK_MONOTONIC, &end)
        end.tv_sec += milliseconds // 1000
        end.tv_nsec += <int64_t>(milliseconds % 1000) * 1000000
        if end.tv_nsec >= 1000000000:
            end.tv_nsec -= 1000000000
            end.tv_sec += 1
        with nogil:
            sem_clockwait(&self.g.changed, CLOCK_MONOTONIC, &end)
            while sem_trywait(&self.g.changed) == 0:
                pass

    def late(self):
        """Whether time is over."""
        cdef uint64_t due = together_due(self.g)
        return due != 0 and microseconds() >= due
