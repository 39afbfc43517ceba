/* TCP connections that the kernel cannot lead: spliced through two pipes, so that no byte is
 * copied here. A full pipe stops the reading of its sender; each direction ends by itself. */

#include <netinet/tcp.h>
#include <stdlib.h>

#include "helper.h"

enum {
    PIPE = 64 << 10, /* bytes: what a new pipe holds */
    ROUNDS = 16,     /* pieces of one connection before others have their turn */
};

struct side {
    struct source source;
    struct pair *pair;
    int pipe[2];     /* what came from here, to the other side */
    size_t filled;
    int ended, shut; /* nothing more comes from here; the other side was told */
};

struct pair {
    struct side sides[2]; /* the client, the target */
    int connected;
};

unsigned all_pairs;

static void pair_close(struct pair *pair)
{
    for (int i = 0; i < 2; i++) {
        close_source(&pair->sides[i].source);
        bx_close(&pair->sides[i].pipe[0]);
        bx_close(&pair->sides[i].pipe[1]);
    }
    all_pairs--;
    counters[COUNT_CONNECTIONS_NOW]--;
    free_later(pair);
}

/* The client sees a reset, as it would from a host where nobody listens. */
static void pair_refuse(struct pair *pair)
{
    struct linger reset = {.l_onoff = 1};
    setsockopt(pair->sides[0].source.fd, SOL_SOCKET, SO_LINGER, &reset, sizeof reset);
    counters[COUNT_CONNECTIONS_FAILED]++;
    pair_close(pair);
}

/* One piece in, one piece out. 1: something moved, 0: nothing can, -1: the connection is over. */
static int move(struct side *from, struct side *to)
{
    unsigned flags = SPLICE_F_MOVE | SPLICE_F_NONBLOCK;
    int moved = 0;
    if (!from->ended && from->filled < PIPE) {
        ssize_t size = splice(from->source.fd, NULL, from->pipe[1], NULL, PIPE - from->filled, flags);
        if (size < 0 && errno != EAGAIN)
            return -1;
        if (!size)
            from->ended = 1;
        if (size > 0)
            from->filled += (size_t)size;
        moved |= size >= 0;
    }
    if (from->filled) {
        ssize_t size = splice(from->pipe[0], NULL, to->source.fd, NULL, from->filled, flags);
        if (size < 0 && errno != EAGAIN)
            return -1;
        if (size > 0)
            from->filled -= (size_t)size;
        moved |= size > 0;
    }
    if (from->ended && !from->filled && !from->shut) {
        shutdown(to->source.fd, SHUT_WR);
        from->shut = 1;
    }
    return moved;
}

static const uint32_t everything = EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET;

static void pump(struct pair *pair)
{
    struct side *client = &pair->sides[0], *target = &pair->sides[1];
    for (int i = 0; i < ROUNDS; i++) {
        int out = move(client, target);
        int back = out < 0 ? -1 : move(target, client);
        if (back < 0 || (client->shut && target->shut)) {
            pair_close(pair);
            return;
        }
        if (!out && !back)
            return;
    }
    watch_again(&client->source, everything); /* reported once more: it goes on after others */
}

static void event(struct source *source, BX_UNUSED uint32_t events)
{
    struct pair *pair = OWNER(source, side, source)->pair;
    struct side *target = &pair->sides[1];
    if (!pair->connected) {
        int error = 0;
        socklen_t size = sizeof error;
        if (source != &target->source)
            return; /* it is looked at when there is somebody to speak to */
        getsockopt(source->fd, SOL_SOCKET, SO_ERROR, &error, &size);
        if (error || events & EPOLLERR) {
            pair_refuse(pair);
            return;
        }
        if (!(events & EPOLLOUT))
            return;
        pair->connected = 1;
    }
    pump(pair);
}

static int pair_connect(struct pair *pair, const struct port *port)
{
    const int yes = 1;
    int fd = socket(port->target.ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return -errno;
    pair->sides[1].source.fd = fd;
    for (int i = 0; i < 2; i++) {
        /* A peer that is gone without a word does not hold the pair for ever. */
        setsockopt(pair->sides[i].source.fd, SOL_SOCKET, SO_KEEPALIVE, &yes, sizeof yes);
        setsockopt(pair->sides[i].source.fd, IPPROTO_TCP, TCP_NODELAY, &yes, sizeof yes);
        if (pipe2(pair->sides[i].pipe, O_NONBLOCK | O_CLOEXEC) < 0)
            return -errno;
    }
    if (connect(fd, (const struct sockaddr *)&port->target, port->target_size) < 0 &&
        errno != EINPROGRESS)
        return -errno;
    for (int i = 0; i < 2; i++) {
        int status = watch(&pair->sides[i].source, pair->sides[i].source.fd, everything, event);
        if (status < 0)
            return status;
    }
    return 0;
}

static struct pair *pair_new(int client)
{
    struct pair *pair = calloc(1, sizeof *pair);
    if (!pair)
        return NULL;
    for (int i = 0; i < 2; i++) {
        pair->sides[i].pair = pair;
        pair->sides[i].source.fd = pair->sides[i].pipe[0] = pair->sides[i].pipe[1] = -1;
    }
    pair->sides[0].source.fd = client;
    all_pairs++;
    counters[COUNT_CONNECTIONS]++;
    counters[COUNT_CONNECTIONS_NOW]++;
    return pair;
}

void pair_accept(struct source *listener, BX_UNUSED uint32_t events)
{
    const struct port *port = OWNER(listener, port, source);
    for (int i = 0; i < BATCH; i++) {
        int room = all_pairs < PAIRS;
        BX_FD fd = room ? accept4(listener->fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC) : -1;
        if (!room || (fd < 0 && (errno == EMFILE || errno == ENFILE || errno == ENOMEM ||
                                 errno == ENOBUFS))) {
            watch_again(listener, 0);
            loop_exhausted();
        }
        if (fd < 0)
            return;
        struct pair *pair = pair_new(fd);
        if (!pair)
            return;
        bx_take(&fd);
        if (!port->target_size || pair_connect(pair, port) < 0)
            pair_refuse(pair);
    }
}
