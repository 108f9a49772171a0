# What the executor (or the simulator) sees of the core: commands and completions in, actions out.

from libc.stdint cimport int32_t, uint8_t, uint16_t, uint32_t, uint64_t

cdef enum:
    MAX_MEDIA = 16  # of one volume: legs, filling saves, a recover's source
    MAX_HOST = 1024  # host commands of one volume under way; host tags are below this
    COPY_BUFFERS = 8
    COPY_BYTES = 1048576  # the size of each
    SLOT_BYTES = 4096

# Host commands, and what becomes of them.
cdef enum:
    HOST_READ = 1
    HOST_WRITE = 2
    HOST_FLUSH = 3
    HOST_ZERO = 4  # UNMAP, WRITE SAME of zeros: a write that carries no data
    HOST_FUA = 1  # flag
    HOST_UNMAP = 16  # flag of HOST_ZERO: space may be given back

cdef enum:
    STATUS_GOOD = 0
    STATUS_READ_ERROR = 1  # MEDIUM ERROR 11h/00h
    STATUS_WRITE_ERROR = 2  # MEDIUM ERROR 0Ch/00h
    STATUS_NO_LEG = 3  # NOT READY 04h/00h: no medium to serve it from
    STATUS_PROTECTED = 4  # DATA PROTECT 27h/00h: it is a view, which is only read

# Actions.
cdef enum:
    ACT_READ = 1  # complete() is owed for these four
    ACT_WRITE = 2
    ACT_FLUSH = 3
    ACT_ZERO = 4  # the range reads as zeros when it completes
    ACT_ANSWER = 5  # a host command is over
    ACT_DONE = 6  # a request from above is over
    ACT_EVENT = 7  # something that those above want to know
    ACT_GIVE = 9  # `length` bytes of copy buffer `number` are for whoever asked the request `copy`; complete() is owed
    ACT_COMPARE = 8  # `length` bytes of copy buffers `number` and `copy`, from `buffer_offset` on; complete() is owed: 0 if
    # they are equal, else the place of a byte that differs, counted from 1, with none in an extent before

cdef enum:
    BUFFER_HOST = 1  # number: the host tag; buffer_offset: into its data
    BUFFER_COPY = 2  # number: below COPY_BUFFERS; buffer_offset: into it
    BUFFER_JOINED = 4  # head bytes of a copy buffer (`copy`), then all of a host's data, then tail bytes of it from tail_at
    BUFFER_META = 3  # address: memory of the core, SLOT_BYTES aligned, constant until completed

cdef enum:
    ACT_DURABLE = 1  # flag of ACT_WRITE: on stable storage when it completes (RWF_DSYNC)
    ACT_UNMAP = 2  # flag of ACT_ZERO: by giving space back, where the medium can and then reads zeros

cdef enum:
    EVENT_LEG_STALE = 1
    EVENT_LEG_IN_SYNC = 2
    EVENT_SAVE_WHOLE = 3
    EVENT_SAVE_BROKEN = 4
    EVENT_RECOVERED = 5
    EVENT_RECOVER_FAILED = 6
    EVENT_PAUSED = 7  # host commands are held from here on; for whoever measures the pause
    EVENT_RESUMED = 8
    EVENT_DRAINED = 9  # those that were under way are over
    EVENT_READY = 10  # a point that waits for others may hold hosts now
    EVENT_HELD = 11  # and now it may be switched
    EVENT_SPARSE_LOST = 12  # saves without fill are broken: the store was full
    EVENT_STORE_LOW = 13  # four fifths of it are taken
    EVENT_STORE_BROKEN = 14  # with all its saves

ctypedef struct action_t:
    uint8_t kind  # ACT_*
    uint8_t buffer  # BUFFER_*
    uint8_t medium  # index into the volume's media (READ, WRITE, FLUSH, ZERO, EVENT)
    uint8_t flags  # ACT_DURABLE, ACT_UNMAP
    uint32_t number  # host tag (ANSWER, BUFFER_HOST), copy buffer, request (DONE), EVENT_*
    int32_t status  # ANSWER: STATUS_*; DONE: 0 or an errno
    uint32_t length  # bytes
    uint64_t offset  # bytes on the medium
    uint64_t buffer_offset  # bytes into the buffer
    uint64_t tag  # to be given back with complete()
    uint8_t *address  # BUFFER_META
    uint32_t copy  # BUFFER_JOINED
    uint32_t head
    uint32_t tail
    uint32_t tail_at

ctypedef struct medium_spec_t:
    uint8_t uuid[16]
    uint64_t data_size  # bytes
    uint64_t record_offset  # of the first of two record slots
    uint64_t maps_offset  # of the first map area
    uint32_t map_slots  # in each area

# A point: what save, recover and swap have in common.
cdef enum:
    POINT_SPLIT = 1
    POINT_COPY = 2
    POINT_RECOVER = 3
    POINT_SWAP = 4

# How far a point is that waits for others.
cdef enum:
    STAGE_NONE = 0  # there is no such point
    STAGE_PREPARING = 1
    STAGE_READY = 2  # it waits for point_pause()
    STAGE_DRAINING = 3
    STAGE_HELD = 4  # it waits for point_go()
    STAGE_SWITCHED = 5

# A map of extents and how much of it is on disk.
ctypedef struct map_t:
    uint64_t *words
    uint64_t bits
    uint64_t count  # bits that are set
    uint32_t slots  # of SLOT_BITS bits each
    uint32_t tag  # generation that its slots on disk carry; a slot with another tag is void
    uint8_t area
    uint8_t *dirty  # a byte a slot: differs from what is on disk
    uint32_t *sequence  # a number a slot: how often it was written

ctypedef struct medium_t:
    uint8_t used
    uint8_t role  # ROLE_*
    uint8_t state  # of a leg LEG_*, of a save SAVE_*
    uint8_t present
    uint8_t syncing  # a leg that is brought in: SYNC_*
    uint8_t flushing
    uint8_t given_up  # it was, since it was attached or brought in
    uint32_t in_flight
    uint32_t copies  # background copies under way
    uint64_t join  # a leg that is brought in: the number of the attempt to end that
    uint32_t generation  # of a save
    uint32_t flush_started
    uint32_t flush_wanted
    uint64_t cursor  # of the background copier
    medium_spec_t spec
    map_t map  # a save's "has it"; a leg's "still to copy"

ctypedef struct task_t:
    uint8_t kind
    uint8_t step
    uint8_t flags
    uint8_t queue  # the list it stands in
    uint8_t locked
    uint8_t in_locks
    uint8_t buffer
    uint8_t medium  # of a copy: what it copies to (recover: from)
    uint8_t source
    uint8_t background
    uint8_t logged
    uint8_t wide  # of a host's write: it may take extents out of a recover's map by itself
    uint8_t reads_store  # 1 and the epoch in which it began to
    uint16_t slots_held  # of a copy to the store: slots that wait for their entries
    int32_t status
    uint32_t number  # host tag, or request
    uint32_t waiting  # I/O under way
    uint32_t failed  # media whose I/O failed, a bit each
    uint32_t tried  # legs that could not be read
    uint32_t issued
    uint32_t flush_mask
    uint32_t flush_need[16]
    uint64_t need  # the record, or the round, that it waits for
    uint64_t offset  # bytes: what it is about, and locks
    uint64_t length
    uint64_t lock_offset  # bytes: what it locks
    uint64_t lock_length
    uint64_t part  # bytes: what a copy is moving now
    uint64_t part_length
    uint64_t cleared  # of those that a wide write locks, from the first on: those that it took out of the map
    uint32_t head  # bytes before the host's data, and after it
    uint32_t tail
    uint32_t tail_at  # where they are in its copy buffer
    int32_t next
    int32_t previous
    int32_t lock_next
    int32_t lock_previous

ctypedef struct list_t:
    int32_t first
    int32_t last
    uint32_t count

# What a slot of the store holds: an extent as it was when the newest save without fill was the one of generation `tag`.
ctypedef struct entry_t:
    uint32_t extent
    uint32_t tag  # 0: none
    int32_t next  # of its bucket, or NO_SLOT

# A save without fill: its content is what entries have, else what legs have.
ctypedef struct sparse_t:
    uint32_t generation
    uint8_t flags  # SPARSE_*
    uint8_t leaving  # it is released when a head without it is durable
    uint32_t entries  # with its tag
    uint64_t lost  # the head that says that it is broken: till then its entries are needed

ctypedef struct region_t:
    uint32_t region
    uint32_t users
    uint32_t touched  # the cleaning that had begun when it was written last
    uint64_t record  # the record that makes it durable

cdef class Core:
    # --- for the executor, without the GIL -------------------------------------------------
    # A host command; tag < MAX_HOST and not in use; offset and length in bytes, inside the volume.
    cdef void submit(self, uint32_t tag, uint8_t op, uint64_t offset, uint32_t length, uint8_t flags) noexcept nogil
    # The result of an action: 0 or the bytes done, or -errno.
    cdef void complete(self, uint64_t tag, int32_t result) noexcept nogil
    # The next action, or NULL. Valid until the next call into the core.
    cdef action_t *next_action(self) noexcept nogil
    # Moves everything on as far as it goes; call it after each batch of the above, then drain next_action.
    cdef void drive(self) noexcept nogil
    # Requests; each is over when ACT_DONE with its number comes. 0, or a negative errno at once (then no ACT_DONE comes).
    cdef int medium_add(self, const medium_spec_t *spec) noexcept nogil  # its index, or -errno
    cdef int find(self, const uint8_t *uuid) noexcept nogil  # its index, or -1
    cdef int point(self, uint32_t request, int kind, uint32_t mask, uint32_t source, uint32_t source_generation, const uint8_t *base, uint64_t op,
                   uint32_t save, const uint8_t *lacks, int waits) noexcept nogil
    # A point that waits: hosts may be held for it; it may be switched; or it is called off, and hosts go on at once.
    # 0, or -EAGAIN before its time (not so far, or no such point), -EBUSY where it is switched already.
    cdef int point_pause(self) noexcept nogil
    cdef int point_go(self) noexcept nogil
    cdef int point_cancel(self) noexcept nogil
    cdef int point_stage(self) noexcept nogil  # STAGE_*
    cdef int sync(self, uint32_t request, uint32_t medium, const uint8_t *pending) noexcept nogil
    cdef int drop(self, uint32_t request, uint32_t medium) noexcept nogil
    cdef int checkpoint(self, uint32_t request, int close) noexcept nogil
    cdef int compare(self, uint32_t request, uint64_t offset, uint64_t length) noexcept nogil
    cdef int store_add(self, uint32_t request, uint32_t medium, uint64_t op) noexcept nogil
    cdef int sparse_change(self, uint32_t request, uint32_t generation, int change) noexcept nogil
    cdef int look(self, uint32_t request, uint32_t generation, uint64_t offset, uint64_t length) noexcept nogil
    # A medium does not answer: it counts as failed, and all its requests are to be completed with an error. False where
    # nothing can stand in for it: then it is to be waited for.
    cdef int give_up(self, uint32_t medium) noexcept nogil
    # How many background copies of each transfer may be under way from now on: whoever has a clock says so.
    cdef void allow(self, uint32_t copies) noexcept nogil
    # True when nothing is under way or queued.
    cdef int idle(self) noexcept nogil

    # --- the start (Python) -----------------------------------------------------------------

    # --- state ------------------------------------------------------------------------------
    cdef readonly uint64_t size
    cdef readonly uint32_t extent_shift
    cdef readonly uint64_t extents
    cdef readonly uint32_t generation
    cdef readonly uint32_t parent
    cdef readonly uint64_t events
    cdef readonly uint64_t op
    cdef readonly uint64_t pending_total
    cdef readonly uint32_t frozen_generation
    cdef readonly uint32_t host_active
    cdef readonly uint32_t copy_active
    cdef readonly uint32_t background_active  # copies that no host waits for
    cdef readonly bint copying  # a transfer is not at its end
    cdef uint32_t copies_allowed
    cdef readonly bint paused
    cdef readonly bint unfinished  # drive() has more to do, and comes back: long work is done in parts
    cdef readonly bint view  # what its media hold is only read: see Core.show
    cdef readonly bint looked_up  # a view without media
    cdef uint8_t uuid[16]
    cdef medium_t media[16]
    cdef uint32_t media_end  # above the last
    cdef map_t live  # written in this generation
    cdef map_t missed  # what stale legs missed
    cdef map_t pending  # what a recover has still to copy
    cdef uint8_t *frozen  # the live map of the generation frozen last
    cdef uint64_t counters[8]
    # tasks
    cdef task_t *tasks
    cdef list_t lists[16]
    cdef list_t locks
    cdef uint32_t lock_waiters
    # actions
    cdef action_t *actions
    cdef uint64_t action_head
    cdef uint64_t action_tail
    cdef uint64_t action_room
    cdef action_t current
    cdef uint32_t buffers_free
    # activity log
    cdef region_t *regions
    cdef uint16_t *region_index
    cdef uint64_t region_total
    cdef uint32_t region_count
    cdef public uint32_t log_room  # regions; less than LOG_REGIONS in models only
    cdef uint8_t cleaning
    cdef uint32_t cleanings  # how many have begun
    # record
    cdef uint8_t *record_buffer
    cdef uint64_t record_started
    cdef uint64_t record_done
    cdef uint64_t record_wanted
    cdef uint64_t start_record  # what reads wait for: which leg this start believes
    cdef uint64_t guard_record  # what host answers wait for: legs stale, saves broken
    cdef uint32_t record_waiting
    cdef uint32_t record_failed
    cdef uint32_t record_extra  # media that are leaving and are told so by the next record
    cdef uint32_t record_told  # those that the record under way tells so
    cdef uint8_t record_leaving  # the next record goes to those alone
    cdef uint8_t clean
    cdef uint32_t missed_tag
    # recover
    cdef uint8_t recovering
    cdef uint8_t recover_failed
    cdef uint8_t recover_source
    cdef uint32_t recover_generation
    cdef uint64_t recover_cursor
    cdef uint32_t recover_copies
    cdef uint8_t comparing  # a run of the legs is compared
    cdef uint16_t compared[256]  # of each of its extents: the legs that differ from the one below, a bit each
    cdef uint32_t compared_with
    cdef uint32_t unreadable  # legs that could not be read in it
    cdef uint64_t joins  # attempts to end bringing a leg in
    # the store of saves without fill
    cdef uint8_t store  # its medium, or NO_BUFFER
    cdef public uint32_t store_page  # entries of a page; fewer than PAGE_ENTRIES in models only
    cdef uint64_t store_nonce  # marks pages as this store's, whatever the medium held before
    cdef uint32_t store_slots  # that there is room for
    cdef uint32_t store_ready  # of these: in groups that the head knows
    cdef uint32_t store_limit  # as many as the medium took: it may be a file on a full file system
    cdef uint32_t store_used
    cdef uint32_t store_hint  # where to look for a free slot
    cdef uint8_t store_warned
    cdef uint32_t buffer_slots[8][256]  # of a copy buffer that is on its way to the store: slots of its extents
    cdef entry_t *entries
    cdef uint32_t entries_room
    cdef int32_t *buckets
    cdef uint32_t bucket_count  # a power of two
    cdef uint8_t *page_dirty
    cdef uint32_t pages_dirty  # how many are
    cdef uint8_t store_making
    cdef uint32_t *page_sequence
    cdef sparse_t sparse[255]
    cdef uint32_t sparse_count
    cdef uint32_t sparse_newest  # generation of the newest that is not broken; 0: none
    cdef uint8_t extending
    cdef uint32_t sweep_at  # the entry that is looked at next; NO_SLOT: no sweep
    cdef uint8_t sweep_again
    cdef uint8_t sweep_dead  # some wait for their readers
    cdef uint8_t store_epoch
    cdef uint32_t store_readers[2]  # tasks that read from it, by the epoch in which they began
    cdef uint8_t *head_buffer  # the head, and both copies of an empty page
    cdef uint32_t head_groups
    cdef uint64_t head_started
    cdef uint64_t head_done
    cdef uint64_t head_wanted
    cdef uint64_t head_guard  # what hosts' writes wait for: saves that were lost
    cdef uint8_t head_waiting
    cdef uint32_t head_extra  # a generation that is a save as soon as it is frozen
    cdef uint32_t head_told  # of the last head that was asked for
    cdef uint32_t store_lost_at  # the live generation when the store broke: none of later ones is in it
    # rounds
    cdef uint8_t *slot_memory
    cdef uint32_t slot_free
    cdef uint32_t slot_waiting[8]
    cdef uint64_t round_started
    cdef uint64_t round_done
    cdef uint64_t round_wanted
    cdef uint8_t round_class
    cdef uint8_t round_next
    cdef uint8_t round_running
    cdef uint8_t round_phase
    cdef uint8_t round_failed
    cdef uint32_t round_media  # saves whose map could not be written
    cdef uint32_t round_map
    cdef uint32_t round_slot
    # points
    cdef int32_t point_task
    cdef uint8_t point_kind
    cdef uint8_t point_waits  # for point_pause(), then for point_go()
    cdef uint8_t point_may_pause
    cdef uint8_t point_switched
    cdef uint8_t point_cancelled
    cdef uint32_t point_mask
    cdef uint32_t point_source
    cdef uint32_t point_generation
    cdef uint64_t point_op
    cdef const uint8_t *point_base
    cdef uint32_t point_save  # the medium that is a filling save from the point on, or NO_BUFFER
    cdef const uint8_t *point_lacks  # NULL: all; else what differs from the older save that it holds
    cdef uint8_t point_failed  # that medium can't be written
    cdef uint32_t point_tag  # of the map of what a recover has pending from the point on
    cdef uint8_t before_role[16]  # what a point that can't be recorded goes back to
    cdef uint8_t before_state[16]
    cdef uint32_t before_parent
    cdef uint64_t before_op
    cdef uint32_t before_missed
    cdef uint8_t turning  # TURN_*: the point takes back a recover that runs
    cdef uint64_t *turned  # what that has pending, its tag and its slots' sequences, from when the map is the undo's
    cdef uint32_t turned_tag
    cdef uint32_t *turned_sequence
    cdef uint8_t before_source
    cdef uint8_t before_failed
    cdef uint32_t before_generation
    cdef uint64_t before_total
    cdef uint8_t closing
    cdef uint8_t booting
    cdef uint8_t damaged  # a leg lacks a slot of a map that another has
