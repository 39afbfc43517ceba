/* One client's connection. Its output goes straight to the socket while that takes it, then to a
 * queue in memory, then to an unlinked file: a slow client holds up neither the log nor others. */

#include <stdio.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/uio.h>

#include "shim.h"

struct client *client_new(int fd, struct task *task, unsigned flags)
{
    for (unsigned place = 0; place < BXM_MAX_CLIENTS; place++) {
        struct client *client = &shim.clients[place];
        if (is_open(client))
            continue;
        *client = (struct client){.fd = fd,
                                  .generation = ++shim.generation,
                                  .task = task,
                                  .flags = flags,
                                  .hold = -1,
                                  .spill = -1};
        if (watch(fd, ON_CLIENT, place, client->generation, 0, EPOLL_CTL_ADD) < 0) {
            client->fd = -1;
            return NULL;
        }
        client_watch(client);
        return client;
    }
    return NULL;
}

size_t client_queued(const struct client *client)
{
    return client->length + (size_t)(client->spill_write - client->spill_read);
}

/* Readable: always, to see it go, but not while what it wrote last waits for the payload.
 * A connection that is gone for good reports EPOLLHUP whatever is asked: then it is taken out. */
void client_watch(struct client *client)
{
    int held = client->flags & BXM_CLIENT_STDIN && client->task && !client->shut &&
               client->task->pending_length;
    unsigned events = (client->half || held ? 0 : EPOLLIN) |
                      (client_queued(client) && client->hold < 0 && !client->shut ? EPOLLOUT : 0);
    if (events == client->watched)
        return;
    client->watched = events;
    watch(client->fd, ON_CLIENT, (unsigned)(client - shim.clients), client->generation, events,
          EPOLL_CTL_MOD);
}

void client_drop(struct client *client)
{
    struct task *task = client->task;
    if (!is_open(client))
        return;
    watched_close(&client->fd);
    watched_close(&client->hold);
    bx_close(&client->spill);
    free(client->queue);
    client->queue = NULL;
    client->length = 0;
    client->spill_read = client->spill_write = 0;
    client->task = NULL;
    if (!task)
        return;
    /* Docker closes standard input when the first client that had it goes (StdinOnce). */
    if (client->flags & BXM_CLIENT_STDIN && task->stdin_once && !task->tty && !client->half) {
        task->in_done = 1;
        stream_writable(task);
    }
    stream_pace(task);
}

static void shut(struct client *client)
{
    if (shutdown(client->fd, SHUT_WR) < 0) {
        client_drop(client);
        return;
    }
    client->shut = 1;
    client->deadline = now_ms() + LINGER;
    if (client->half)
        client_drop(client);
    else
        client_watch(client);
}

static int is_flushed(const struct client *client)
{
    return client->hold < 0 && !client_queued(client);
}

int client_hold(struct client *client, int fd)
{
    client->hold = fd;
    return watch(fd, ON_HOLD, (unsigned)(client - shim.clients), client->generation, EPOLLIN,
                 EPOLL_CTL_ADD);
}

/* The daemon has written what came before, or gave up (the pipe ends without a byte). */
void client_release(struct client *client)
{
    char byte;
    ssize_t count = client->hold < 0 ? -1 : read(client->hold, &byte, 1);
    if (count < 0 && (client->hold < 0 || errno == EAGAIN || errno == EINTR))
        return;
    watched_close(&client->hold);
    if (count <= 0)
        client_drop(client);
    else if (client->closing && is_flushed(client))
        shut(client);
    else
        client_watch(client);
}

/* Everything that is queued, then the end. */
void client_finish(struct client *client)
{
    if (!is_open(client) || client->closing)
        return;
    client->closing = 1;
    client->deadline = now_ms() + SLOW_CLIENT;
    if (is_flushed(client))
        shut(client);
    else
        client_watch(client);
}

static int to_spill(struct client *client, const char *data, size_t size)
{
    if (client->spill < 0) {
        client->spill = openat(shim.directory, ".", O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
        if (client->spill < 0)
            return -errno;
    }
    if (client->spill_write - client->spill_read > SPILL_LIMIT)
        return -ENOSPC;
    while (size) {
        ssize_t count = pwrite(client->spill, data, size, client->spill_write);
        if (count <= 0)
            return count ? -errno : -EIO;
        client->spill_write += count;
        data += count;
        size -= (size_t)count;
    }
    return 0;
}

static int to_queue(struct client *client, const char *data, size_t size)
{
    if (client->spill_write > client->spill_read || client->length + size > QUEUE_LIMIT)
        return to_spill(client, data, size);
    if (client->start && client->start + client->length + size > client->room) {
        memmove(client->queue, client->queue + client->start, client->length);
        client->start = 0;
    }
    if (client->length + size > client->room) {
        size_t room = client->room ? client->room : 4096;
        while (room < client->length + size)
            room *= 2;
        char *grown = realloc(client->queue, room);
        if (!grown)
            return -ENOMEM;
        client->queue = grown;
        client->room = room;
    }
    memcpy(client->queue + client->start + client->length, data, size);
    client->length += size;
    return 0;
}

enum { FLUSH_PIECES = 8 }; /* of QUEUE_LIMIT at most: 2 MiB are some 1 ms */

static int gone(void)
{
    return errno != EAGAIN && errno != EINTR;
}

void client_put(struct client *client, int stream, const char *data, size_t size)
{
    unsigned char head[8] = {(unsigned char)(stream + 1), 0, 0, 0, (unsigned char)(size >> 24),
                             (unsigned char)(size >> 16), (unsigned char)(size >> 8),
                             (unsigned char)size};
    size_t framed = client->flags & BXM_CLIENT_FRAMED ? sizeof head : 0, done = 0;
    if (client->closing)
        return;
    if (is_flushed(client)) {
        struct iovec parts[2] = {{head, framed}, {(void *)(uintptr_t)data, size}};
        struct msghdr packet = {.msg_iov = parts, .msg_iovlen = 2};
        ssize_t sent = sendmsg(client->fd, &packet, MSG_DONTWAIT | MSG_NOSIGNAL);
        if (sent < 0 && gone()) {
            client_drop(client);
            return;
        }
        done = sent > 0 ? (size_t)sent : 0;
    }
    int status = 0;
    if (done < framed)
        status = to_queue(client, (const char *)head + done, framed - done);
    done = done > framed ? done - framed : 0;
    if (!status && done < size)
        status = to_queue(client, data + done, size - done);
    if (status < 0)
        client_drop(client); /* cut off: a stream with a hole would be worse */
    else
        client_watch(client);
}

/* Brings the next piece of the file into the empty queue. */
static int from_spill(struct client *client)
{
    size_t want = (size_t)(client->spill_write - client->spill_read);
    want = want < client->room ? want : client->room;
    ssize_t count = pread(client->spill, client->queue, want, client->spill_read);
    if (count <= 0)
        return -EIO;
    client->start = 0;
    client->length = (size_t)count;
    client->spill_read += count;
    /* What is behind us is no use to anybody; a file system that cannot punch keeps it. */
    (void)fallocate(client->spill, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0,
                    client->spill_read);
    if (client->spill_read == client->spill_write) {
        bx_close(&client->spill);
        client->spill_read = client->spill_write = 0;
    }
    return 0;
}

/* A part of a turn's time: what a long file still holds comes when the socket is asked again. */
static void flush_queue(struct client *client)
{
    for (int pieces = 0; client_queued(client); pieces++) {
        if (pieces == FLUSH_PIECES)
            return;
        if (!client->length && from_spill(client) < 0) {
            client_drop(client);
            return;
        }
        ssize_t sent = send(client->fd, client->queue + client->start, client->length,
                            MSG_DONTWAIT | MSG_NOSIGNAL);
        if (sent < 0) {
            if (gone())
                client_drop(client);
            return;
        }
        client->start += (size_t)sent;
        client->length -= (size_t)sent;
    }
    free(client->queue);
    client->queue = NULL;
    client->start = client->room = 0;
}

void client_event(struct client *client, unsigned events)
{
    struct task *task = client->task;
    if (events & (EPOLLIN | EPOLLHUP | EPOLLERR) && !client->half)
        stream_from_client(client);
    else if (events & (EPOLLHUP | EPOLLERR))
        client_drop(client);
    if (is_open(client) && events & EPOLLOUT)
        flush_queue(client);
    if (is_open(client) && client->closing && !client->shut && is_flushed(client))
        shut(client);
    if (is_open(client))
        client_watch(client);
    if (task)
        stream_pace(task);
}

void client_step(struct client *client)
{
    if (client->deadline && now_ms() >= client->deadline)
        client_drop(client);
}
