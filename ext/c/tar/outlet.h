/* The way out of a stream that is written: buffers that one thread fills, and a thread of its own
 * that writes the full ones, so that reading files and writing them again go on side by side.
 *
 * The thread begins with the first full buffer: a short stream starts none. Bytes leave in the
 * order in which they came. Memory: BW_OUTLET_BUFFERS of BW_OUTLET_SIZE bytes, touched as needed.
 * After a failed write nothing more is written; its errno comes with the next call. */
#ifndef BW_OUTLET_H
#define BW_OUTLET_H

#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define BW_OUTLET_SIZE (1u << 20)
#define BW_OUTLET_BUFFERS 3

struct bw_outlet {
    int fd;
    size_t used;           /* bytes in the buffer that is being filled */
    unsigned char *buffer; /* it */
    unsigned char *memory; /* all of them */
    bool started, alone;   /* there is a thread; none could be made: all is written here */
    pthread_t thread;
    pthread_mutex_t lock;
    pthread_cond_t changed; /* what follows, which both threads use under the lock */
    uint64_t given, done;   /* full buffers handed over, and those of them that are out */
    int errnum;
    bool ended;
};

/* All but close return 0, or the errno. The descriptor stays the caller's. */
int bw_outlet_open(struct bw_outlet *outlet, int fd);
/* The buffer is full: the next one is to be filled. */
int bw_outlet_full(struct bw_outlet *outlet);
/* All that was put in is out when this returns. */
int bw_outlet_flush(struct bw_outlet *outlet);
/* What was not flushed is lost. Idempotent, also after a failed open. */
void bw_outlet_close(struct bw_outlet *outlet);

#endif
