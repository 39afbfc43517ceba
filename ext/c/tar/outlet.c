/* See outlet.h. */
#include "outlet.h"

#include <errno.h>
#include <stdlib.h>
#include <unistd.h>

int bw_outlet_open(struct bw_outlet *outlet, int fd) {
    *outlet = (struct bw_outlet){.fd = fd,
                                 .lock = PTHREAD_MUTEX_INITIALIZER,
                                 .changed = PTHREAD_COND_INITIALIZER};
    outlet->memory = outlet->buffer = malloc((size_t)BW_OUTLET_SIZE * BW_OUTLET_BUFFERS);
    return outlet->memory ? 0 : ENOMEM;
}

static int write_all(int fd, const unsigned char *data, size_t size) {
    while (size) {
        ssize_t count = write(fd, data, size);
        if (count < 0 && errno == EINTR)
            continue;
        if (count < 0)
            return errno;
        data += count;
        size -= (size_t)count;
    }
    return 0;
}

static unsigned char *buffer_of(const struct bw_outlet *outlet, uint64_t number) {
    return outlet->memory + number % BW_OUTLET_BUFFERS * BW_OUTLET_SIZE;
}

static void *write_out(void *argument) {
    struct bw_outlet *outlet = argument;
    pthread_mutex_lock(&outlet->lock);
    for (;;) {
        while (outlet->done == outlet->given && !outlet->ended)
            pthread_cond_wait(&outlet->changed, &outlet->lock);
        /* At the end as after a failure: what is left is let go. */
        if (outlet->ended)
            break;
        const unsigned char *data = buffer_of(outlet, outlet->done);
        int errnum = outlet->errnum;
        pthread_mutex_unlock(&outlet->lock);
        if (!errnum)
            errnum = write_all(outlet->fd, data, BW_OUTLET_SIZE);
        pthread_mutex_lock(&outlet->lock);
        outlet->errnum = errnum;
        outlet->done++;
        pthread_cond_signal(&outlet->changed);
    }
    pthread_mutex_unlock(&outlet->lock);
    return NULL;
}

/* Waits until at most `most` of the full buffers are not out yet. */
static int wait_for(struct bw_outlet *outlet, unsigned most) {
    pthread_mutex_lock(&outlet->lock);
    while (outlet->given - outlet->done > most)
        pthread_cond_wait(&outlet->changed, &outlet->lock);
    int errnum = outlet->errnum;
    pthread_mutex_unlock(&outlet->lock);
    return errnum;
}

int bw_outlet_full(struct bw_outlet *outlet) {
    if (!outlet->started && !outlet->alone) {
        outlet->started = !pthread_create(&outlet->thread, NULL, write_out, outlet);
        outlet->alone = !outlet->started;
    }
    if (outlet->alone)
        return bw_outlet_flush(outlet);
    pthread_mutex_lock(&outlet->lock);
    outlet->given++;
    pthread_cond_signal(&outlet->changed);
    pthread_mutex_unlock(&outlet->lock);
    outlet->buffer = buffer_of(outlet, outlet->given);
    outlet->used = 0;
    return wait_for(outlet, BW_OUTLET_BUFFERS - 1);
}

int bw_outlet_flush(struct bw_outlet *outlet) {
    int errnum = outlet->started ? wait_for(outlet, 0) : outlet->errnum;
    if (!errnum)
        errnum = write_all(outlet->fd, outlet->buffer, outlet->used);
    outlet->errnum = errnum; /* the thread, if there is one, waits */
    outlet->used = 0;
    return errnum;
}

void bw_outlet_close(struct bw_outlet *outlet) {
    if (outlet->started) {
        pthread_mutex_lock(&outlet->lock);
        outlet->ended = true;
        pthread_cond_signal(&outlet->changed);
        pthread_mutex_unlock(&outlet->lock);
        pthread_join(outlet->thread, NULL);
        outlet->started = false;
    }
    free(outlet->memory);
    outlet->memory = outlet->buffer = NULL;
}
