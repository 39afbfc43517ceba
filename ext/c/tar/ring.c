/* See ring.h. */
#include "ring.h"

#include <string.h>

void bw_ring_open(struct bw_ring *ring) {
    memset(ring, 0, sizeof *ring);
    pthread_mutex_init(&ring->mutex, NULL);
    pthread_cond_init(&ring->changed, NULL);
}

void bw_ring_close(struct bw_ring *ring) {
    pthread_cond_destroy(&ring->changed);
    pthread_mutex_destroy(&ring->mutex);
}

/* The piece asked for last is in use still: its slot is not free. */
static bool full(const struct bw_ring *ring) {
    uint64_t done = ring->asked ? ring->asked - 1 : 0;
    return ring->given - done >= BW_RING_SLOTS;
}

int bw_ring_put(struct bw_ring *ring, const void *data, size_t length) {
    int slot = -1;
    pthread_mutex_lock(&ring->mutex);
    while (!ring->left && full(ring))
        pthread_cond_wait(&ring->changed, &ring->mutex);
    if (!ring->left) {
        slot = (int)(ring->given++ % BW_RING_SLOTS);
        ring->pieces[slot] = (struct bw_piece){data, length};
        pthread_cond_broadcast(&ring->changed);
    }
    pthread_mutex_unlock(&ring->mutex);
    return slot;
}

void bw_ring_end(struct bw_ring *ring) {
    pthread_mutex_lock(&ring->mutex);
    ring->ended = true;
    pthread_cond_broadcast(&ring->changed);
    pthread_mutex_unlock(&ring->mutex);
}

int bw_ring_take(struct bw_ring *ring, struct bw_piece *piece) {
    int there = 0;
    pthread_mutex_lock(&ring->mutex);
    ring->asked++;
    pthread_cond_broadcast(&ring->changed);
    while (!ring->ended && ring->given < ring->asked)
        pthread_cond_wait(&ring->changed, &ring->mutex);
    if (ring->given >= ring->asked) {
        *piece = ring->pieces[(ring->asked - 1) % BW_RING_SLOTS];
        there = 1;
    }
    pthread_mutex_unlock(&ring->mutex);
    return there;
}

void bw_ring_leave(struct bw_ring *ring) {
    pthread_mutex_lock(&ring->mutex);
    ring->left = true;
    pthread_cond_broadcast(&ring->changed);
    pthread_mutex_unlock(&ring->mutex);
}
