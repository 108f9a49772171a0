# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True, initializedcheck=False
"""The engine's executor: takes commands from TCMU rings, performs the core's actions by io_uring, answers.

One Reactor is one thread with its own io_uring and the volumes that belong to it; between its own memory and the kernel
it takes no lock and never Python's. It decides nothing of what is done with data: that is the core's.
"""

from libc.errno cimport EAGAIN, EBUSY, EINTR, EINVAL, EIO, ENODEV, ENOMEM, EOPNOTSUPP, ETIME, ETIMEDOUT, errno
from libc.stdint cimport int32_t, int64_t, uint8_t, uint16_t, uint32_t, uint64_t
from libc.stdlib cimport calloc, free, malloc, realloc
from libc.string cimport memcmp, memcpy, memset

from targetplugin.engine.core cimport (
    ACT_ANSWER, ACT_COMPARE, ACT_DONE, ACT_DURABLE, ACT_EVENT, ACT_FLUSH, ACT_READ, ACT_UNMAP, ACT_WRITE, ACT_ZERO, BUFFER_COPY,
    BUFFER_HOST, BUFFER_JOINED, BUFFER_META, COPY_BUFFERS, COPY_BYTES, EVENT_DRAINED, EVENT_HELD, EVENT_PAUSED, EVENT_READY,
    EVENT_RESUMED, ACT_GIVE, HOST_FLUSH, HOST_FUA, HOST_READ,
    HOST_UNMAP, HOST_WRITE, HOST_ZERO, MAX_HOST, MAX_MEDIA, SLOT_BYTES, STATUS_GOOD, STATUS_PROTECTED, STATUS_READ_ERROR,
    STATUS_WRITE_ERROR, Core, action_t, medium_spec_t,
)

from targetplugin.engine.native import MAX_COMPARE, MAX_STEPS, MAX_UNMAP, MAX_VERIFY, NATIVE
from targetplugin.errors import Reason, Refused

cdef extern from *:
    int __atomic_load_n(int *at, int order) nogil
    void __atomic_store_n(int *at, int value, int order) nogil

cdef extern from *:
    uint64_t __atomic_load_n64 "__atomic_load_n" (uint64_t *at, int order) nogil
    void *__atomic_load_pointer "__atomic_load_n" (void **at, int order) nogil
    int __atomic_compare_exchange_n(uint64_t *at, uint64_t *expected, uint64_t value, int weak, int one, int other) nogil

include "io/system.pxi"
include "io/decode.pxi"
include "io/pace.pxi"
include "io/ring.pxi"
include "io/lent.pxi"
include "io/unanswered.pxi"
include "io/alone.pxi"
include "io/provision.pxi"
include "io/steps.pxi"
include "io/together.pxi"
include "io/perform.pxi"
include "io/silence.pxi"
include "io/loop.pxi"
include "io/reactor.pxi"
