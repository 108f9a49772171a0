/* The TCMU ring, from the kernel's own header, as small functions. It clashes with <sys/uio.h> over struct iovec. */
#ifndef TARGETPLUGIN_TCMU_RING_H
#define TARGETPLUGIN_TCMU_RING_H

#define __LINUX_UIO_H
#include <stdint.h>
#include <string.h>
#include <sys/uio.h>
#include <linux/target_core_user.h>

static inline uint32_t ring_head(const void *map)
{
	return __atomic_load_n(&((const struct tcmu_mailbox *)map)->cmd_head, __ATOMIC_ACQUIRE);
}

static inline uint32_t ring_tail(const void *map)
{
	return __atomic_load_n(&((const struct tcmu_mailbox *)map)->cmd_tail, __ATOMIC_ACQUIRE);
}

static inline void ring_set_tail(void *map, uint32_t tail)
{
	__atomic_store_n(&((struct tcmu_mailbox *)map)->cmd_tail, tail, __ATOMIC_RELEASE);
}

static inline uint32_t ring_version(const void *map) { return ((const struct tcmu_mailbox *)map)->version; }
static inline uint32_t ring_flags(const void *map) { return ((const struct tcmu_mailbox *)map)->flags; }
static inline uint32_t ring_offset(const void *map) { return ((const struct tcmu_mailbox *)map)->cmdr_off; }
static inline uint32_t ring_size(const void *map) { return ((const struct tcmu_mailbox *)map)->cmdr_size; }

static inline uint32_t entry_length_op(const void *entry) { return ((const struct tcmu_cmd_entry_hdr *)entry)->len_op; }
static inline uint16_t entry_id(const void *entry) { return ((const struct tcmu_cmd_entry_hdr *)entry)->cmd_id; }
static inline uint32_t entry_iovs(const void *entry) { return ((const struct tcmu_cmd_entry *)entry)->req.iov_cnt; }
static inline uint32_t entry_bidi_iovs(const void *entry) { return ((const struct tcmu_cmd_entry *)entry)->req.iov_bidi_cnt; }
static inline uint64_t entry_cdb(const void *entry) { return ((const struct tcmu_cmd_entry *)entry)->req.cdb_off; }
static inline uint64_t entry_iov_base(const void *entry, uint32_t i)
{
	return (uint64_t)(uintptr_t)((const struct tcmu_cmd_entry *)entry)->req.iov[i].iov_base;
}
static inline uint64_t entry_iov_length(const void *entry, uint32_t i)
{
	return ((const struct tcmu_cmd_entry *)entry)->req.iov[i].iov_len;
}
/* How many iovecs an entry of this length has room for. */
static inline uint32_t entry_iov_room(uint32_t length)
{
	const uint32_t start = offsetof(struct tcmu_cmd_entry, req.iov);
	return length < start ? 0 : (length - start) / sizeof(struct iovec);
}

/* Writes an answer over the entry at the tail, which may be another command's request. */
static inline void entry_answer(void *at, uint16_t id, uint8_t status, const uint8_t *sense, uint32_t sense_length,
				int has_read_length, uint32_t read_length, int keep)
{
	struct tcmu_cmd_entry *entry = at;
	entry->hdr.cmd_id = id;
	entry->hdr.uflags = (has_read_length ? TCMU_UFLAG_READ_LEN : 0) | (keep ? TCMU_UFLAG_KEEP_BUF : 0);
	entry->rsp.scsi_status = status;
	entry->rsp.read_len = read_length;
	if (sense_length > TCMU_SENSE_BUFFERSIZE)
		sense_length = TCMU_SENSE_BUFFERSIZE;
	if (sense_length)
		memcpy(entry->rsp.sense_buffer, sense, sense_length);
	if (sense_length < TCMU_SENSE_BUFFERSIZE)
		memset(entry->rsp.sense_buffer + sense_length, 0, TCMU_SENSE_BUFFERSIZE - sense_length);
}

static inline void entry_unknown(void *entry)
{
	((struct tcmu_cmd_entry_hdr *)entry)->uflags |= TCMU_UFLAG_UNKNOWN_OP;
}

#endif
