/* A stream in memory: pieces that one thread gives and another takes, without copying them.
 *
 * A piece belongs to the giver again when the taker has asked for the next one; the giver knows
 * it, because no more than BW_RING_SLOTS pieces are out at once and bw_ring_put() waits for room.
 * So the memory of it all is bounded by the pieces' size. */
#ifndef BW_RING_H
#define BW_RING_H

#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define BW_RING_SLOTS 12

struct bw_piece {
    const unsigned char *data;
    size_t length;
};

struct bw_ring {
    pthread_mutex_t mutex;
    pthread_cond_t changed;
    struct bw_piece pieces[BW_RING_SLOTS];
    uint64_t given, asked; /* pieces put; pieces asked for, the last one perhaps still in use */
    bool ended, left;
};

void bw_ring_open(struct bw_ring *ring);
void bw_ring_close(struct bw_ring *ring);
/* The giver's. Waits for room. Returns the slot that was filled, or -1: nobody takes any more. */
int bw_ring_put(struct bw_ring *ring, const void *data, size_t length);
void bw_ring_end(struct bw_ring *ring);
/* The taker's. 1: *piece is the next one; 0: there is none any more. */
int bw_ring_take(struct bw_ring *ring, struct bw_piece *piece);
void bw_ring_leave(struct bw_ring *ring);

#endif
