/* A handler as small as it can be, to measure beside: one TCMU device over one block device, one command
 * after the other, no mirror, no log. Build: gcc -O2 -o plain_tcmu plain_tcmu.c
 *   plain_tcmu CONFIGFS-DIRECTORY UIO-DEVICE MEDIUM
 */
#define _GNU_SOURCE
#define __LINUX_UIO_H /* its struct iovec is the one of sys/uio.h */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>
#include <linux/target_core_user.h>

#define BLOCK 512

static char *ring;
static uint64_t blocks;
static int medium;

static void tell(const char *directory, const char *name, const char *value)
{
	char path[512];
	int fd;

	snprintf(path, sizeof(path), "%s/action/%s", directory, name);
	fd = open(path, O_WRONLY);
	if (fd < 0 || write(fd, value, strlen(value)) < 0) {
		perror(path);
		exit(1);
	}
	close(fd);
}

static uint64_t asked(const char *directory, const char *name)
{
	char text[64] = "";
	char path[512];
	FILE *file;

	snprintf(path, sizeof(path), "%s/%s", directory, name);
	file = fopen(path, "r");
	if (!file || !fgets(text, sizeof(text), file)) {
		perror(path);
		exit(1);
	}
	fclose(file);
	return strtoull(text, NULL, 0);
}

static uint64_t number(const uint8_t *at, int bytes)
{
	uint64_t value = 0;

	while (bytes--)
		value = value << 8 | *at++;
	return value;
}

static void put(uint8_t *at, uint64_t value, int bytes)
{
	while (bytes--) {
		at[bytes] = value;
		value >>= 8;
	}
}

static int answer(struct iovec *iov, int count, const uint8_t *data, size_t length)
{
	for (int i = 0; i < count; i++) {
		size_t part = length < iov[i].iov_len ? length : iov[i].iov_len;

		memset(iov[i].iov_base, 0, iov[i].iov_len);
		memcpy(iov[i].iov_base, data, part);
		data += part;
		length -= part;
	}
	return 0;
}

static int inquiry(const uint8_t *cdb, struct iovec *iov, int count)
{
	uint8_t data[96] = {0};

	if (!(cdb[1] & 1)) {
		data[2] = 5;
		data[3] = 2;
		data[4] = 31;
		data[7] = 2; /* command queueing */
		memcpy(data + 8, "plain   handler         1   ", 28);
		return answer(iov, count, data, 36);
	}
	data[1] = cdb[2];
	if (cdb[2] == 0x00) {
		data[3] = 3;
		data[5] = 0x80;
		data[6] = 0x83;
	} else if (cdb[2] == 0x80) {
		data[3] = 5;
		memcpy(data + 4, "plain", 5);
	} else if (cdb[2] == 0x83) {
		data[3] = 20;
		data[4] = 2;
		data[5] = 1;
		data[7] = 16;
		memcpy(data + 8, "plain   handler1", 16);
	} else {
		return -1;
	}
	return answer(iov, count, data, 4 + data[3]);
}

/* 0: done, -1: not supported, -2: the medium failed */
static int execute(const uint8_t *cdb, struct iovec *iov, int count)
{
	uint8_t data[32] = {0};
	uint64_t first = 0;
	int is_write = 0;

	switch (cdb[0]) {
	case 0x00: /* TEST UNIT READY */
		return 0;
	case 0x12:
		return inquiry(cdb, iov, count);
	case 0x1a: /* MODE SENSE (6), (10): no pages, but a write cache */
		data[0] = 23;
		data[4] = 0x08;
		data[5] = 0x12;
		data[6] = 0x04;
		return answer(iov, count, data, 24);
	case 0x25: /* READ CAPACITY (10) */
		put(data, blocks - 1, 4);
		put(data + 4, BLOCK, 4);
		return answer(iov, count, data, 8);
	case 0x9e: /* READ CAPACITY (16) */
		put(data, blocks - 1, 8);
		put(data + 8, BLOCK, 4);
		return answer(iov, count, data, 32);
	case 0x35: /* SYNCHRONIZE CACHE (10), (16) */
	case 0x91:
		return fdatasync(medium) ? -2 : 0;
	case 0x2a:
		is_write = 1; /* fall through */
	case 0x28:
		first = number(cdb + 2, 4);
		break;
	case 0x8a:
		is_write = 1; /* fall through */
	case 0x88:
		first = number(cdb + 2, 8);
		break;
	default:
		return -1;
	}
	if (is_write)
		return pwritev(medium, iov, count, first * BLOCK) < 0 ? -2 : 0;
	return preadv(medium, iov, count, first * BLOCK) < 0 ? -2 : 0;
}

static void serve(struct tcmu_cmd_entry *entry)
{
	struct iovec iov[1024];
	int count = entry->req.iov_cnt;
	int done;

	for (int i = 0; i < count; i++) {
		iov[i] = entry->req.iov[i];
		iov[i].iov_base = ring + (size_t)iov[i].iov_base;
	}
	done = execute((uint8_t *)ring + entry->req.cdb_off, iov, count);
	memset(&entry->rsp, 0, sizeof(entry->rsp));
	if (done) {
		entry->rsp.scsi_status = 2; /* CHECK CONDITION */
		entry->rsp.sense_buffer[0] = 0x70;
		entry->rsp.sense_buffer[2] = done == -1 ? 5 : 3;
		entry->rsp.sense_buffer[7] = 10;
		entry->rsp.sense_buffer[12] = done == -1 ? 0x20 : 0x11;
	}
}

int main(int count, char **word)
{
	struct tcmu_mailbox *box;
	struct pollfd ready;
	char text[256], path[256];
	uint32_t event = 1;
	size_t length;
	FILE *map;

	if (count != 4)
		return 2;
	medium = open(word[3], O_RDWR | O_DIRECT | O_EXCL); /* until a killed one's last request is over */
	while (medium < 0 && errno == EBUSY) {
		usleep(10000);
		medium = open(word[3], O_RDWR | O_DIRECT | O_EXCL);
	}
	snprintf(path, sizeof(path), "/sys/class/uio/%s/maps/map0/size", strrchr(word[2], '/') + 1);
	map = fopen(path, "r");
	ready.fd = open(word[2], O_RDWR);
	if (medium < 0 || ready.fd < 0 || !map || !fgets(text, sizeof(text), map)) {
		perror(word[0]);
		return 1;
	}
	length = strtoull(text, NULL, 0);
	blocks = asked(word[1], "attrib/dev_size") / BLOCK;
	ring = mmap(NULL, length, PROT_READ | PROT_WRITE, MAP_SHARED, ready.fd, 0);
	box = (struct tcmu_mailbox *)ring;
	tell(word[1], "block_dev", "1");
	tell(word[1], "reset_ring", "1");
	tell(word[1], "block_dev", "0");
	ready.events = POLLIN;
	for (;;) {
		int any = 0;

		while (box->cmd_tail != __atomic_load_n(&box->cmd_head, __ATOMIC_ACQUIRE)) {
			struct tcmu_cmd_entry *entry = (void *)(ring + box->cmdr_off + box->cmd_tail);

			if (tcmu_hdr_get_op(entry->hdr.len_op) == TCMU_OP_CMD)
				serve(entry);
			__atomic_store_n(&box->cmd_tail,
					 (box->cmd_tail + tcmu_hdr_get_len(entry->hdr.len_op)) % box->cmdr_size,
					 __ATOMIC_RELEASE);
			any = 1;
		}
		if (any && write(ready.fd, &event, 4) < 0)
			return 1;
		if (poll(&ready, 1, -1) > 0 && read(ready.fd, &event, 4) < 0)
			return 1;
	}
}
