/* Raw io_uring: random 4 KiB reads or writes of files at a queue depth, and what each cost. A command goes to the first file
 * where it reads, to all of them where it writes, and is over when all have done it. It owns no ring of LIO's: it is what the
 * engine is compared with.
 *   raw_uring read|write DEPTH SECONDS BLOCKS DIRECT FILE...
 * prints: commands, wall seconds, user seconds, system seconds. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <liburing.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

enum { BLOCK = 4096, MOST_FILES = 8, MOST_DEPTH = 256 };

static struct io_uring ring;
static int files[MOST_FILES], count;
static unsigned waiting[MOST_DEPTH];
static char *buffers;
static uint64_t draw = 88172645463325252ull, blocks;

static double seconds(void)
{
	struct timespec now;
	clock_gettime(CLOCK_MONOTONIC, &now);
	return now.tv_sec + now.tv_nsec / 1e9;
}

static double time_of(struct timeval t) { return t.tv_sec + t.tv_usec / 1e6; }

static void begin(unsigned number, int writes)
{
	draw ^= draw << 13, draw ^= draw >> 7, draw ^= draw << 17;
	uint64_t offset = draw % blocks * BLOCK;
	int to = writes ? count : 1;
	waiting[number] = to;
	for (int i = 0; i < to; i++) {
		struct io_uring_sqe *sqe = io_uring_get_sqe(&ring);
		if (writes)
			io_uring_prep_write(sqe, files[i], buffers + number * BLOCK, BLOCK, offset);
		else
			io_uring_prep_read(sqe, files[i], buffers + number * BLOCK, BLOCK, offset);
		sqe->user_data = number;
	}
}

int main(int argc, char **argv)
{
	if (argc < 7)
		return 2;
	int writes = !strcmp(argv[1], "write"), direct = atoi(argv[5]);
	unsigned depth = atoi(argv[2]);
	double length = atof(argv[3]);
	blocks = strtoull(argv[4], NULL, 10);
	if (!depth || depth > MOST_DEPTH || argc - 6 > MOST_FILES)
		return 2;
	for (count = 0; count < argc - 6; count++) {
		files[count] = open(argv[6 + count], O_RDWR | (direct ? O_DIRECT : 0));
		if (files[count] < 0)
			return perror(argv[6 + count]), 1;
	}
	if (posix_memalign((void **)&buffers, BLOCK, depth * BLOCK) || io_uring_queue_init(1024, &ring, 0))
		return perror("raw_uring"), 1;
	memset(buffers, 0x5a, depth * BLOCK);

	struct rusage before, after;
	uint64_t done = 0;
	unsigned under_way = depth;
	getrusage(RUSAGE_SELF, &before);
	double start = seconds(), end = start + length;
	int over = 0;
	for (unsigned i = 0; i < depth; i++)
		begin(i, writes);
	while (under_way) {
		struct io_uring_cqe *cqe;
		int submitted = io_uring_submit_and_wait(&ring, 1);
		if (submitted < 0)
			return fprintf(stderr, "raw_uring: %s\n", strerror(-submitted)), 1;
		while (io_uring_peek_cqe(&ring, &cqe) == 0) {
			unsigned number = cqe->user_data;
			if (cqe->res != BLOCK)
				return fprintf(stderr, "raw_uring: I/O gave %d\n", cqe->res), 1;
			io_uring_cqe_seen(&ring, cqe);
			if (--waiting[number])
				continue;
			done++;
			over = over || seconds() >= end;
			if (over)
				under_way--;
			else
				begin(number, writes);
		}
	}
	double wall = seconds() - start;
	getrusage(RUSAGE_SELF, &after);
	printf("%lu %.6f %.6f %.6f\n", done, wall, time_of(after.ru_utime) - time_of(before.ru_utime),
	       time_of(after.ru_stime) - time_of(before.ru_stime));
	return 0;
}
