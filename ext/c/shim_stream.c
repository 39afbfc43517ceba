/* Bytes between the payload and whoever listens: log, clients. */

#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/socket.h>

#include "shim.h"

static char chunk[CHUNK];

static int wants(const struct client *client, const struct task *task, int stream)
{
    unsigned flag = stream ? BXM_CLIENT_STDERR : BXM_CLIENT_STDOUT;
    return is_open(client) && client->task == task && client->flags & flag;
}

void stream_close_out(struct task *task, int stream)
{
    watched_close(&task->out[stream]);
}

void stream_close_in(struct task *task)
{
    watched_close(&task->in);
    free(task->pending);
    task->pending = NULL;
    task->pending_start = task->pending_length = 0;
    stream_resume_clients(task);
}

static void give_out(struct task *task, int stream, size_t size)
{
    if (!task->name[0] && shim.has_log)
        log_write(stream, chunk, size);
    for (unsigned i = 0; i < BXM_MAX_CLIENTS; i++)
        if (wants(&shim.clients[i], task, stream))
            client_put(&shim.clients[i], stream, chunk, size);
}

/* Bytes given out, 0 at the end, -EAGAIN. */
static int pump(struct task *task, int stream)
{
    ssize_t size = read(task->out[stream], chunk, sizeof chunk);
    if (size < 0 && (errno == EAGAIN || errno == EINTR))
        return -EAGAIN;
    if (size <= 0) { /* EIO: nobody has the terminal open any more */
        stream_close_out(task, stream);
        return 0;
    }
    give_out(task, stream, (size_t)size);
    return (int)size;
}

void stream_output(struct task *task, int stream)
{
    pump(task, stream);
    stream_pace(task);
}

/* Reads what is there now, up to what a pipe holds; are both at their end? */
int stream_drain(struct task *task)
{
    for (int stream = 0; stream < 2; stream++)
        for (size_t total = 0; task->out[stream] >= 0 && total < (1 << 20);) {
            int size = pump(task, stream);
            if (size <= 0)
                break;
            total += (size_t)size;
        }
    return task->out[0] < 0 && task->out[1] < 0;
}

/* The only listener of what no log keeps sets the pace: it is waited for, as a pipe would.
 * Anyone else is queued for. */
static size_t pacing_queue(const struct task *task)
{
    unsigned listeners = 0;
    size_t queued = 0;
    if (!task->name[0] && shim.has_log)
        return 0;
    for (unsigned i = 0; i < BXM_MAX_CLIENTS; i++) {
        const struct client *client = &shim.clients[i];
        if (wants(client, task, 0) || wants(client, task, 1)) {
            listeners++;
            queued = client_queued(client);
        }
    }
    return listeners == 1 ? queued : 0;
}

void stream_pace(struct task *task)
{
    size_t queued = pacing_queue(task);
    int pause = task->state == BXM_TASK_RUNNING &&
                queued > (task->out_paused ? QUEUE_RESUME : QUEUE_LIMIT - CHUNK);
    if (pause == task->out_paused)
        return;
    task->out_paused = pause;
    for (int stream = 0; stream < 2; stream++)
        if (task->out[stream] >= 0)
            watch(task->out[stream], ON_OUT + stream, task_place(task), task->generation,
                  pause ? 0 : EPOLLIN, EPOLL_CTL_MOD);
}

void stream_resume_clients(struct task *task)
{
    for (unsigned i = 0; i < BXM_MAX_CLIENTS; i++)
        if (is_open(&shim.clients[i]) && shim.clients[i].task == task)
            client_watch(&shim.clients[i]);
}

/* Keeps what the payload does not take now; its clients are not read meanwhile. */
static void keep(struct task *task, const char *data, size_t size)
{
    size_t used = task->pending_start + task->pending_length;
    char *grown = realloc(task->pending, used + size);
    if (!grown) {
        stream_close_in(task);
        return;
    }
    memcpy(grown + used, data, size);
    task->pending = grown;
    task->pending_length += size;
    if (task->in >= 0)
        watch(task->in, ON_IN, task_place(task), task->generation, EPOLLOUT, EPOLL_CTL_MOD);
    stream_resume_clients(task);
}

static void give_in(struct task *task, const char *data, size_t size)
{
    int waits = task->tty && task->in < 0 && task->open_stdin &&
                (task->state == BXM_TASK_CREATED || task->state == BXM_TASK_STARTING);
    while (size && task->in >= 0 && !task->pending_length) {
        ssize_t count = write(task->in, data, size);
        if (count < 0 && errno == EAGAIN)
            break;
        if (count <= 0) {
            stream_close_in(task); /* EPIPE: the payload wants no more */
            return;
        }
        data += count;
        size -= (size_t)count;
    }
    if (size && (waits || task->in >= 0))
        keep(task, data, size);
}

/* Also called when input is over: closes when all is given. */
void stream_writable(struct task *task)
{
    while (task->pending_length && task->in >= 0) {
        ssize_t count =
            write(task->in, task->pending + task->pending_start, task->pending_length);
        if (count < 0 && errno == EAGAIN)
            return;
        if (count <= 0) {
            stream_close_in(task);
            return;
        }
        task->pending_start += (size_t)count;
        task->pending_length -= (size_t)count;
    }
    if (task->pending && task->in >= 0) {
        free(task->pending);
        task->pending = NULL;
        task->pending_start = 0;
        watch(task->in, ON_IN, task_place(task), task->generation, 0, EPOLL_CTL_MOD);
        stream_resume_clients(task);
    }
    if (task->in_done && !task->pending_length)
        stream_close_in(task);
}

/* Takes the detach keys out of what was typed; -1: they are complete. A sequence that breaks off
 * is passed on. `out` has KEYS_LIMIT bytes of room more than `size`. */
static ssize_t filter_keys(struct client *client, const char *data, size_t size, char *out)
{
    size_t used = 0;
    for (size_t i = 0; i < size; i++) {
        unsigned char byte = (unsigned char)data[i];
        if (byte != client->keys[client->keys_matched]) {
            memcpy(out + used, client->keys, client->keys_matched);
            used += client->keys_matched;
            client->keys_matched = 0;
        }
        if (byte != client->keys[client->keys_matched])
            out[used++] = data[i];
        else if (++client->keys_matched == client->keys_count)
            return -1;
    }
    return (ssize_t)used;
}

static void typed(struct client *client, const char *data, size_t size)
{
    static char filtered[CHUNK + KEYS_LIMIT];
    struct task *task = client->task;
    if (!client->keys_count || !task->tty || size > CHUNK) {
        give_in(task, data, size);
        return;
    }
    ssize_t used = filter_keys(client, data, size, filtered);
    if (used >= 0) {
        give_in(task, filtered, (size_t)used);
        return;
    }
    control_detached(task);
    client->flags &= ~BXM_CLIENT_STDIN;
    client_finish(client);
}

void stream_preread(struct client *client, const char *data, size_t size)
{
    if (size && client->flags & BXM_CLIENT_STDIN)
        typed(client, data, size);
}

static void end_of_client(struct client *client)
{
    struct task *task = client->task;
    client->half = 1;
    if (client->shut) {
        client_drop(client);
        return;
    }
    /* Without a task: it is over and forgotten, what it said may still be queued. */
    if (task && client->flags & BXM_CLIENT_STDIN && (task->name[0] || task->stdin_once) && !task->tty) {
        task->in_done = 1;
        stream_writable(task);
    }
    if (!(client->flags & (BXM_CLIENT_STDOUT | BXM_CLIENT_STDERR)))
        client_finish(client);
    else
        client_watch(client);
}

void stream_from_client(struct client *client)
{
    ssize_t size = recv(client->fd, chunk, sizeof chunk, MSG_DONTWAIT);
    if (size < 0 && (errno == EAGAIN || errno == EINTR))
        return;
    if (size < 0)
        client_drop(client);
    else if (!size)
        end_of_client(client);
    else if (client->flags & BXM_CLIENT_STDIN && !client->closing && client->task)
        typed(client, chunk, (size_t)size);
}
