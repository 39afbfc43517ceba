/* DNS over TCP, the asker's side: one question at a time, in order. */

#include <stdlib.h>

#include "helper.h"

struct stream {
    struct source source;
    struct due due;
    struct sandbox *sandbox;
    struct stream *before, *next;
    int busy;   /* a question is being answered; nothing is read */
    int ending; /* the asker has nothing more to say */
    uint8_t *out;
    size_t out_size, out_sent;
    size_t got;
    uint8_t in[2 + STREAM_QUERY];
};

unsigned all_streams;

void stream_close(struct stream *stream)
{
    struct sandbox *sandbox = stream->sandbox;
    if (stream->before)
        stream->before->next = stream->next;
    else
        sandbox->streams = stream->next;
    if (stream->next)
        stream->next->before = stream->before;
    forward_forget_stream(sandbox, stream);
    due_clear(&stream->due);
    close_source(&stream->source);
    free(stream->out);
    stream->out = NULL;
    sandbox->stream_count--;
    all_streams--;
    free_later(stream);
}

static void idle(struct due *due)
{
    stream_close(OWNER(due, stream, due));
}

/* 0: it is closed. */
static int write_out(struct stream *stream)
{
    while (stream->out_sent < stream->out_size) {
        ssize_t sent = send(stream->source.fd, stream->out + stream->out_sent,
                            stream->out_size - stream->out_sent, MSG_DONTWAIT | MSG_NOSIGNAL);
        if (sent < 0 && errno == EAGAIN) {
            watch_again(&stream->source, EPOLLOUT);
            return 1;
        }
        if (sent < 0) {
            stream_close(stream);
            return 0;
        }
        stream->out_sent += (size_t)sent;
    }
    free(stream->out);
    stream->out = NULL;
    stream->out_size = stream->out_sent = 0;
    stream->busy = 0;
    watch_again(&stream->source, EPOLLIN); /* what has come meanwhile is reported again */
    return 1;
}

void stream_answer(struct stream *stream, const uint8_t *reply, size_t size)
{
    stream->out = malloc(size + 2);
    if (!stream->out) {
        stream_close(stream);
        return;
    }
    dns_put_u16(stream->out, (unsigned)size);
    memcpy(stream->out + 2, reply, size);
    stream->out_size = size + 2;
    stream->out_sent = 0;
    due_set(&stream->due, LANE_STREAM, idle);
    write_out(stream);
}

static void ask(struct stream *stream, size_t size)
{
    struct asker asker = {.sandbox = stream->sandbox, .stream = stream};
    uint8_t message[STREAM_QUERY];
    memcpy(message, stream->in + 2, size);
    stream->got -= size + 2;
    memmove(stream->in, stream->in + 2 + size, stream->got);
    stream->busy = 1;
    watch_again(&stream->source, 0);
    resolve(&asker, message, size);
}

static void readable(struct stream *stream)
{
    ssize_t got = recv(stream->source.fd, stream->in + stream->got, sizeof stream->in - stream->got,
                       MSG_DONTWAIT);
    if (got < 0 && errno == EAGAIN)
        return;
    if (got <= 0) {
        stream_close(stream);
        return;
    }
    stream->got += (size_t)got;
}

/* The rest of what was read may hold further questions: the loop goes on while they are answered
 * at once. An answer may close the stream, which is then freed after this turn only. */
static void event(struct source *source, uint32_t events)
{
    struct stream *stream = OWNER(source, stream, source);
    if (stream->out && events & EPOLLOUT)
        write_out(stream);
    else if (stream->busy)
        stream_close(stream); /* HUP or ERR: nothing else is reported now */
    else
        readable(stream);
    while (source->event && !stream->busy && stream->got >= 2) {
        size_t size = dns_u16(stream->in);
        if (size < DNS_HEADER || size > STREAM_QUERY)
            stream_close(stream);
        else if (stream->got < size + 2)
            return;
        else {
            due_set(&stream->due, LANE_STREAM, idle);
            ask(stream, size);
        }
    }
}

void stream_accept(struct source *listener, BX_UNUSED uint32_t events)
{
    struct sandbox *sandbox = OWNER(listener, sandbox, listener);
    for (int i = 0; i < BATCH; i++) {
        BX_FD fd = accept4(listener->fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
        if (fd < 0 && (errno == EMFILE || errno == ENFILE || errno == ENOMEM || errno == ENOBUFS)) {
            watch_again(listener, 0);
            loop_exhausted();
        }
        if (fd < 0)
            return;
        struct stream *stream = sandbox->stream_count < STREAMS ? calloc(1, sizeof *stream) : NULL;
        if (!stream)
            continue;
        stream->sandbox = sandbox;
        if (watch(&stream->source, fd, EPOLLIN, event) < 0) {
            free(stream);
            continue;
        }
        bx_take(&fd);
        stream->next = sandbox->streams;
        if (stream->next)
            stream->next->before = stream;
        sandbox->streams = stream;
        sandbox->stream_count++;
        all_streams++;
        due_set(&stream->due, LANE_STREAM, idle);
    }
}
