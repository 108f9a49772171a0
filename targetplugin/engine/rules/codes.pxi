# Numbers of the core's own: what is on disk, steps of tasks, tags of actions; and bytes as the disk has them.

cdef const char *RECORD_MAGIC = b"TPLGVOL1"
cdef const char *SLOT_MAGIC = b"TPM1"
cdef const char *HEAD_MAGIC = b"TPLGSTO1"
cdef const char *PAGE_MAGIC = b"TPE1"

cdef enum:
    SLOT_WORDS = 508  # 4 KiB less 32 bytes of header
    SLOT_BITS = 32512
    REGION_SHIFT = 22  # 4 MiB
    LOG_REGIONS = 848  # as many as a record has room for
    MAX_LEGS = 8
    MAX_SAVES = 15
    MAX_SLOT_BUFFERS = 8
    TASKS = 3072
    TASKS_SPARE = 1088  # kept for host commands and requests
    NO_BUFFER = 255
    BOOT_ATTEMPTS = 4  # at what must be durable first, before somebody has to ask for another
    COPIES_ALLOWED = 2  # of one transfer in the background, until allow() says otherwise

cdef enum:
    AREA_LIVE_EVEN = 0
    AREA_LIVE_ODD = 1
    AREA_MISSED = 2
    AREA_PENDING = 3
    AREA_HAS = 4

cdef enum:
    ROLE_NONE = 0
    ROLE_LEG = 1
    ROLE_SAVE = 2
    ROLE_SOURCE = 3
    ROLE_STORE = 4

cdef enum:
    LEG_IN_SYNC = 1
    LEG_STALE = 2  # lacks what the missed map says
    LEG_FRESH = 3  # lacks everything
    SAVE_FILLING = 1
    SAVE_WHOLE = 2
    SAVE_BROKEN = 3
    STORE_READY = 4  # in a record among the states of saves, as the next is
    STORE_LOST = 5
    SYNC_NO = 0
    SYNC_COPYING = 1
    SYNC_ENDING = 2
    SYNC_PREPARING = 3

cdef enum:
    TASK_READ = 1
    TASK_WRITE = 2
    TASK_FLUSH = 3
    TASK_FILL = 4
    TASK_SYNC = 5
    TASK_RECOVER = 6
    TASK_JOIN = 7
    TASK_POINT = 8
    TASK_BRING = 9
    TASK_DROP = 10
    TASK_CLEAN = 11
    TASK_BOOT = 12
    TASK_COMPARE = 13
    TASK_KEEP = 14  # copies what is overwritten to the store
    TASK_EXTEND = 15
    TASK_STORE = 16
    TASK_FORGET = 17
    TASK_LOOK = 18
    TASK_HOLD = 19

cdef enum:
    STEP_BEGIN = 0
    STEP_LOCKED = 1
    STEP_LOGGED = 2
    STEP_READ = 3
    STEP_WRITTEN = 4
    STEP_FLUSHED = 5
    STEP_RECORDED = 6
    STEP_DURABLE = 7
    STEP_ANSWER = 8
    STEP_PREPARED = 9
    STEP_DRAINED = 10
    STEP_FLUSHED_AGAIN = 11
    STEP_FAILED = 12
    STEP_DONE = 13
    STEP_REVERTED = 14
    STEP_TOLD = 15
    STEP_HELD = 16
    STEP_TOLD_STORE = 17

cdef enum:
    Q_NONE = 0
    Q_FREE = 1
    Q_READY = 2
    Q_HOLD = 3  # host commands while writes are paused
    Q_LOG = 4  # until the log has room
    Q_RECORD = 5
    Q_FLUSH = 6
    Q_ROUND = 7
    Q_BUFFER = 8
    Q_TASK = 9  # until tasks are free
    Q_DRAIN = 10
    Q_POINT = 11  # a point that waits for others
    Q_HEAD = 12
    Q_ROOM = 13  # until the store has room
    Q_BOOT = 14  # a start that the last leg holds up

cdef enum:
    FLAG_FAILED = 2
    FLAG_CLOSE = 4
    FLAG_ZERO = 8
    FLAG_NEW = 32  # after HOST_UNMAP
    CLASS_MARKS = 1  # live and missed maps
    CLASS_COPIES = 2  # a recover's pending map, saves' "has it" maps

cdef enum:
    COUNT_READS = 0
    COUNT_WRITES = 1
    COUNT_FLUSHES = 2
    COUNT_RECORDS = 3
    COUNT_SLOTS = 4
    COUNT_RECOVERED = 5
    COUNT_SYNCED = 6
    COUNT_FILLED = 7

cdef enum:
    TURN_NO = 0
    TURN_PREPARED = 1  # the recover copies no more
    TURN_COLLECTED = 2  # what is pending is the undo's, where the point is in force

cdef enum:
    PAGE_ENTRIES = 508  # 4 KiB less 32 bytes of header
    PAGES = 2  # copies of a page, at the begin of its group
    NO_SLOT = -1
    NO_EXTENT = 0xFFFFFFFF
    MAX_SPARSE = 255
    SPARSE_HELD = 1
    SPARSE_BROKEN = 2
    SPARSE_FORGET = 0  # changes of a save
    SPARSE_HOLD = 1
    SPARSE_UNHOLD = 2
    HEAD_UNKNOWN = 0xFFFFFFFF
    FEATURE_STORE = 1
    SWEEP_AT_ONCE = 4096

cdef uint64_t TAG_TASK = <uint64_t>1 << 56
cdef uint64_t TAG_RECORD = <uint64_t>2 << 56
cdef uint64_t TAG_SLOT = <uint64_t>3 << 56
cdef uint64_t TAG_FLUSH = <uint64_t>4 << 56
cdef uint64_t TAG_HEAD = <uint64_t>5 << 56
cdef uint32_t NO_REQUEST = 0xFFFFFFFF


cdef inline void put16(uint8_t *at, uint16_t value) noexcept nogil:
    memcpy(at, &value, 2)


cdef inline void put24(uint8_t *at, uint32_t value) noexcept nogil:
    at[2] = <uint8_t>(value >> 16)
    put16(at, <uint16_t>value)


cdef inline void put32(uint8_t *at, uint32_t value) noexcept nogil:
    memcpy(at, &value, 4)


cdef inline void put64(uint8_t *at, uint64_t value) noexcept nogil:
    memcpy(at, &value, 8)


cdef inline uint32_t get32(const uint8_t *at) noexcept nogil:
    cdef uint32_t value
    memcpy(&value, at, 4)
    return value
