/* The kernel's end of a TCMU ring, as a load: keeps so many READ_10 or WRITE_10 of 4 KiB at random places under way, takes the
 * answers, and sleeps on the ring's descriptor, a socket, while there are none. It makes no ring: benchmarks/native.py does.
 *   ring_load read|write DEPTH SECONDS BLOCKS MAP_FD MAP_LENGTH SOCKET_FD DATA_OFFSET
 * Works for WARM seconds, says "ready", waits for a byte on its standard input, works for SECONDS, and prints: commands, wall
 * seconds. */
#define _GNU_SOURCE
#include <linux/sockios.h>
#include <poll.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>
#define __LINUX_UIO_H /* it has a struct iovec of its own, as has <sys/socket.h> */
#include <linux/target_core_user.h>

enum { BLOCK = 4096, ENTRY = 128, CDB = 112, MOST_DEPTH = 256 };
#define WARM 0.3

static uint8_t *map;
static struct tcmu_mailbox *box;
static int socket_fd, writes;
static uint32_t head, cleaned;
static uint64_t draw = 88172645463325252ull, blocks, data_offset;

static double seconds(void)
{
	struct timespec now;
	clock_gettime(CLOCK_MONOTONIC, &now);
	return now.tv_sec + now.tv_nsec / 1e9;
}

static void put(uint16_t number)
{
	draw ^= draw << 13, draw ^= draw >> 7, draw ^= draw << 17;
	uint32_t lba = draw % blocks * (BLOCK / 512);
	struct tcmu_cmd_entry *entry = (void *)(map + box->cmdr_off + head);
	uint8_t *cdb = (uint8_t *)entry + CDB;
	memset(entry, 0, ENTRY);
	entry->hdr.len_op = ENTRY | TCMU_OP_CMD;
	entry->hdr.cmd_id = number;
	entry->req.iov_cnt = 1;
	entry->req.cdb_off = cdb - map;
	entry->req.iov[0].iov_base = (void *)(data_offset + (uint64_t)number * BLOCK);
	entry->req.iov[0].iov_len = BLOCK;
	cdb[0] = writes ? 0x2A : 0x28;
	cdb[2] = lba >> 24, cdb[3] = lba >> 16, cdb[4] = lba >> 8, cdb[5] = lba;
	cdb[8] = BLOCK / 512;
	head = (head + ENTRY) % box->cmdr_size;
}

/* One notice is enough however many entries came since: a real ring's descriptor counts them and is read once. */
static void notice(void)
{
	uint32_t one = 1;
	int unread = 0;
	__atomic_store_n(&box->cmd_head, head, __ATOMIC_SEQ_CST);
	if (ioctl(socket_fd, SIOCOUTQ, &unread) == 0 && unread)
		return;
	send(socket_fd, &one, sizeof(one), MSG_DONTWAIT);
}

/* Works for a while; returns how many commands were answered. */
static uint64_t work(unsigned depth, double end)
{
	uint64_t done = 0;
	unsigned under_way = depth;
	char rest[4096];
	struct pollfd wait = {.fd = socket_fd, .events = POLLIN};
	for (unsigned i = 0; i < depth; i++)
		put(i);
	notice();
	while (under_way) {
		/* Not by recv(): the engine's read of a notice would wake it up, and pay for it. */
		if (poll(&wait, 1, -1) < 0 || recv(socket_fd, rest, sizeof(rest), MSG_DONTWAIT) <= 0)
			perror("ring_load"), exit(1);
		uint32_t tail = __atomic_load_n(&box->cmd_tail, __ATOMIC_ACQUIRE);
		int over = seconds() >= end, more = 0;
		while (cleaned != tail) {
			struct tcmu_cmd_entry *entry = (void *)(map + box->cmdr_off + cleaned);
			if (entry->rsp.scsi_status)
				fprintf(stderr, "ring_load: status %d\n", entry->rsp.scsi_status), exit(1);
			cleaned = (cleaned + ENTRY) % box->cmdr_size;
			done++;
			if (over)
				under_way--;
			else
				put(entry->hdr.cmd_id), more = 1;
		}
		if (more)
			notice();
	}
	return done;
}

int main(int argc, char **argv)
{
	if (argc != 9)
		return 2;
	writes = !strcmp(argv[1], "write");
	unsigned depth = atoi(argv[2]);
	double length = atof(argv[3]);
	blocks = strtoull(argv[4], NULL, 10);
	map = mmap(NULL, strtoull(argv[6], NULL, 10), PROT_READ | PROT_WRITE, MAP_SHARED, atoi(argv[5]), 0);
	socket_fd = atoi(argv[7]);
	data_offset = strtoull(argv[8], NULL, 10);
	if (map == MAP_FAILED || !depth || depth > MOST_DEPTH)
		return perror("ring_load"), 2;
	box = (void *)map;
	head = box->cmd_head;
	cleaned = box->cmd_tail;
	work(depth, seconds() + WARM);
	puts("ready");
	fflush(stdout);
	if (getchar() == EOF)
		return 1;
	double start = seconds();
	uint64_t done = work(depth, start + length);
	printf("%lu %.6f\n", done, seconds() - start);
	return 0;
}
