/* Questions that are asked elsewhere: one server after the other, each with a socket and an id of
 * its own, so that nobody else can answer; over TCP what came over TCP. */

#include <netinet/tcp.h>
#include <stdlib.h>

#include "helper.h"

enum { REPLY_MOST = 65535 };

struct query {
    struct source source;
    struct due due;
    struct asker asker;
    struct question question;
    struct query *before, *next; /* of the sandbox */
    unsigned upstream;           /* the one that is asked, or is next */
    uint16_t id;
    int inside; /* which of the sandbox' sockets it has, -1: one of ours */
    int waits;  /* for one of those */
    int rcode;  /* of the last server that said no */
    int64_t began;
    uint8_t *reply; /* over TCP: length and message, as far as they have come */
    size_t got, sent;
    uint64_t opening; /* what the broker was asked for, 0: nothing */
    uint32_t lifetime; /* of the shortest address in it */
    uint8_t *held;    /* the answer meanwhile */
    size_t held_size;
    size_t size;
    uint8_t message[]; /* two bytes of length before it, for TCP */
};

unsigned all_in_flight;

static void try_next(struct query *query);
static void asked(struct source *source, uint32_t events);

static int bit(const struct sandbox *sandbox, unsigned slot)
{
    return (int)(sandbox->inside_busy >> slot & 1);
}

/* A free socket of a family inside, -1: all are at work, -2: there is none. */
static int take_inside(struct sandbox *sandbox, int stream, int family)
{
    int none = -2;
    unsigned first = stream ? sandbox->inside_datagrams : 0;
    unsigned end = stream ? sandbox->inside_count : sandbox->inside_datagrams;
    for (unsigned slot = first; slot < end; slot++) {
        if (sandbox->inside_family[slot] != family)
            continue;
        none = -1;
        if (!bit(sandbox, slot)) {
            sandbox->inside_busy |= 1ull << slot;
            return (int)slot;
        }
    }
    return none;
}

/* Undone, the connection's port is let go of too: the next question has another. */
static void give_inside(struct sandbox *sandbox, unsigned slot)
{
    struct sockaddr nobody = {.sa_family = AF_UNSPEC};
    uint8_t old[16];
    int fd = sandbox->inside[slot];
    if (slot < sandbox->inside_datagrams)
        for (int i = 0; i < BATCH && recv(fd, old, sizeof old, MSG_DONTWAIT) >= 0; i++)
            ;
    connect(fd, &nobody, sizeof nobody);
    sandbox->inside_busy &= ~(1ull << slot);
}

static void wake_one(struct sandbox *sandbox)
{
    for (struct query *query = sandbox->queries; query; query = query->next)
        if (query->waits) {
            query->waits = 0;
            try_next(query);
            return;
        }
}

/* Lets go of the socket and of what came over it. */
static void drop_socket(struct query *query)
{
    struct sandbox *sandbox = query->asker.sandbox;
    due_clear(&query->due);
    free(query->reply);
    query->reply = NULL;
    query->got = query->sent = 0;
    if (query->inside < 0) {
        close_source(&query->source);
        return;
    }
    unwatch(&query->source);
    query->source.fd = -1;
    give_inside(sandbox, (unsigned)query->inside);
    query->inside = -1;
    wake_one(sandbox);
}

static void query_end(struct query *query)
{
    struct sandbox *sandbox = query->asker.sandbox;
    drop_socket(query);
    free(query->held);
    query->held = NULL;
    if (query->before)
        query->before->next = query->next;
    else
        sandbox->queries = query->next;
    if (query->next)
        query->next->before = query->before;
    sandbox->in_flight--;
    all_in_flight--;
    counters[COUNT_IN_FLIGHT]--;
    free_later(query);
}

void forward_forget(struct sandbox *sandbox)
{
    for (struct query *query = sandbox->queries; query; query = query->next)
        query->waits = 0;
    while (sandbox->queries)
        query_end(sandbox->queries);
}

void forward_forget_stream(struct sandbox *sandbox, const struct stream *stream)
{
    struct query *next;
    for (struct query *query = sandbox->queries; query; query = next) {
        next = query->next;
        if (query->asker.stream == stream) {
            query_end(query);
            return; /* a stream asks one thing at a time; others may have changed the list */
        }
    }
}

static void give_up(struct query *query)
{
    struct asker asker = query->asker;
    struct question question = query->question;
    uint8_t message[DNS_HEADER + DNS_NAME + 8];
    size_t size = question.end;
    int rcode = query->rcode;
    memcpy(message, query->message + 2, size);
    counters[COUNT_FAILED]++;
    query_end(query);
    respond_code(&asker, &question, message, rcode);
}

static void deliver(struct query *query, uint8_t *reply, size_t size)
{
    struct asker asker = query->asker;
    struct question question = query->question;
    int64_t took = now_us() - query->began;
    unsigned bucket = 0;
    while (bucket < BXH_BUCKETS - 1 && took >= 1000LL << bucket)
        bucket++;
    counters[COUNT_BUCKETS + bucket]++;
    counters[COUNT_LATENCY_US] += (uint64_t)took;
    counters[COUNT_ANSWERED]++;
    dns_put_u16(reply, question.id);
    /* A bare header has no question to be cut down to. */
    if (size < question.end)
        question.end = DNS_HEADER;
    query_end(query); /* first: an asker that is gone takes its question along */
    respond(&asker, &question, reply, size);
}

static void next_server(struct query *query)
{
    drop_socket(query);
    query->upstream++;
    try_next(query);
}

static void overdue(struct due *due)
{
    struct query *query = OWNER(due, query, due);
    query->waits = 0;
    counters[COUNT_TIMEOUTS]++;
    next_server(query);
}

static const struct upstream *server_of(const struct query *query)
{
    const struct sandbox *sandbox = query->asker.sandbox;
    return query->upstream < sandbox->upstream_count ? &sandbox->upstreams[query->upstream] : NULL;
}

/* A socket for the next server: 0, -EAGAIN: none is free inside, or an error. */
static int open_socket(struct query *query, const struct upstream *server)
{
    int stream = query->asker.stream != NULL;
    int kind = (stream ? SOCK_STREAM : SOCK_DGRAM) | SOCK_NONBLOCK | SOCK_CLOEXEC;
    if (!server->inside) {
        query->source.fd = bx_sys(socket(server->address.ss_family, kind, 0));
        return query->source.fd < 0 ? query->source.fd : 0;
    }
    int slot = take_inside(query->asker.sandbox, stream, server->address.ss_family);
    if (slot < 0)
        return slot == -1 ? -EAGAIN : -EAFNOSUPPORT;
    query->inside = slot;
    query->source.fd = query->asker.sandbox->inside[slot];
    return 0;
}

static int begin(struct query *query, const struct upstream *server)
{
    int stream = query->asker.stream != NULL, fd = query->source.fd;
    query->id = (uint16_t)random_u32();
    dns_put_u16(query->message + 2, query->id);
    int status = bx_sys(connect(fd, (const struct sockaddr *)&server->address, server->size));
    if (status < 0 && !(stream && status == -EINPROGRESS))
        return status;
    if (!stream && send(fd, query->message + 2, query->size, MSG_DONTWAIT | MSG_NOSIGNAL) < 0)
        return -errno;
    return watch(&query->source, fd, stream ? EPOLLOUT : EPOLLIN, asked);
}

static void try_next(struct query *query)
{
    const struct upstream *server;
    while ((server = server_of(query))) {
        int status = open_socket(query, server);
        if (status == -EAGAIN && server->inside) {
            query->waits = 1;
            due_set(&query->due, LANE_QUERY, overdue);
            return;
        }
        if (!status)
            status = begin(query, server);
        if (!status) {
            due_set(&query->due, LANE_QUERY, overdue);
            return;
        }
        drop_socket(query);
        query->upstream++;
    }
    give_up(query);
}

/* What a server said: 1: it counts. */
static int is_answer(const struct query *query, const uint8_t *reply, size_t size)
{
    return size >= DNS_HEADER && dns_u16(reply) == query->id &&
           dns_answers(reply, size, query->message + 2, query->question.end);
}

static void too_late(struct due *due)
{
    struct query *query = OWNER(due, query, due);
    query->rcode = RCODE_FAILED;
    give_up(query);
}

/* Under a policy the way is opened before the asker knows where to go. 1: it is waited for. */
static int open_first(struct query *query, const uint8_t *reply, size_t size)
{
    struct sandbox *sandbox = query->asker.sandbox;
    struct found found[DNS_ADDRESSES];
    unsigned count = dns_addresses(reply, size, &query->question, found, DNS_ADDRESSES);
    if (!count)
        return 0;
    drop_socket(query);
    query->rcode = RCODE_FAILED;
    query->held = malloc(size);
    if (query->held)
        query->opening = egress_open(sandbox, query->question.name, found, count);
    if (!query->opening) {
        give_up(query);
        return 1;
    }
    memcpy(query->held, reply, size);
    query->held_size = size;
    query->lifetime = found[0].seconds;
    for (unsigned i = 1; i < count; i++)
        if (found[i].seconds < query->lifetime)
            query->lifetime = found[i].seconds;
    due_set(&query->due, LANE_QUERY, too_late);
    return 1;
}

static void opened(struct query *query, int error)
{
    uint8_t *reply = query->held;
    query->held = NULL;
    due_clear(&query->due);
    if (error) {
        query->rcode = error == EPERM ? RCODE_REFUSED : RCODE_FAILED;
        give_up(query);
    } else {
        refresh_note(&query->asker, &query->question, query->message + 2, query->size,
                     query->lifetime);
        deliver(query, reply, query->held_size);
    }
    free(reply);
}

void forward_opened(uint64_t request, int error)
{
    for (struct sandbox *sandbox = sandboxes; sandbox; sandbox = sandbox->next) {
        struct query *next;
        for (struct query *query = sandbox->queries; query; query = next) {
            next = query->next;
            if (!query->opening || (request && query->opening != request))
                continue;
            opened(query, error);
            if (request)
                return;
            next = sandbox->queries; /* the list may have changed */
        }
    }
}

/* With a refusal the next one is asked, if there is one. */
static void take_answer(struct query *query, uint8_t *reply, size_t size)
{
    int rcode = dns_rcode(reply);
    if (rcode == RCODE_FAILED || rcode == RCODE_REFUSED) {
        query->rcode = rcode;
        next_server(query);
        return;
    }
    if (query->asker.sandbox->flags & BXH_VIEW_EGRESS && open_first(query, reply, size))
        return;
    deliver(query, reply, size);
}

static void read_datagrams(struct query *query)
{
    static uint8_t reply[REPLY_MOST + 1];
    for (int i = 0; i < BATCH; i++) {
        ssize_t got = recv(query->source.fd, reply, sizeof reply, MSG_DONTWAIT);
        if (got < 0 && (errno == EAGAIN || errno == EINTR))
            return;
        if (got < 0) { /* nobody listens there */
            next_server(query);
            return;
        }
        if (is_answer(query, reply, (size_t)got)) {
            take_answer(query, reply, (size_t)got);
            return;
        }
        counters[COUNT_MISMATCHED]++;
    }
}

/* 1: all is sent, 0: not yet, -1: it failed. */
static int send_stream(struct query *query)
{
    size_t whole = query->size + 2;
    dns_put_u16(query->message, (unsigned)query->size);
    ssize_t sent = send(query->source.fd, query->message + query->sent, whole - query->sent,
                        MSG_DONTWAIT | MSG_NOSIGNAL);
    if (sent < 0)
        return errno == EAGAIN ? 0 : -1;
    query->sent += (size_t)sent;
    return query->sent == whole;
}

/* 1: the message is there, 0: not yet, -1: it failed. */
static int read_stream(struct query *query)
{
    if (!query->reply && !(query->reply = malloc(REPLY_MOST + 2)))
        return -1;
    for (;;) {
        size_t whole = query->got < 2 ? 2 : 2 + dns_u16(query->reply);
        if (query->got >= 2 && query->got == whole)
            return 1;
        ssize_t got = recv(query->source.fd, query->reply + query->got, whole - query->got,
                           MSG_DONTWAIT);
        if (got < 0 && errno == EAGAIN)
            return 0;
        if (got <= 0)
            return -1;
        query->got += (size_t)got;
    }
}

static void go_on_with_stream(struct query *query)
{
    int status;
    if (query->sent < query->size + 2) {
        status = send_stream(query);
        if (status > 0)
            watch_again(&query->source, EPOLLIN);
    } else
        status = read_stream(query);
    if (status < 0) {
        next_server(query);
        return;
    }
    if (!status || !query->got || query->got != 2 + dns_u16(query->reply))
        return;
    uint8_t *reply = query->reply;
    query->reply = NULL;
    if (is_answer(query, reply + 2, query->got - 2))
        take_answer(query, reply + 2, query->got - 2);
    else {
        counters[COUNT_MISMATCHED]++;
        next_server(query);
    }
    free(reply);
}

static void asked(struct source *source, BX_UNUSED uint32_t events)
{
    struct query *query = OWNER(source, query, source);
    if (query->asker.stream)
        go_on_with_stream(query);
    else
        read_datagrams(query);
}

static int may_ask(const struct sandbox *sandbox)
{
    return sandbox->flags & BXH_VIEW_FORWARD && sandbox->upstream_count &&
           sandbox->in_flight < IN_FLIGHT && all_in_flight < ALL_IN_FLIGHT;
}

/* A name that no pattern fits is not even asked for: it could carry what must not get out. */
static int may_name(const struct sandbox *sandbox, const struct question *question)
{
    int allowed = !(sandbox->flags & BXH_VIEW_EGRESS) ||
                  (question->plain && egress_allows(sandbox, question->name));
    if (sandbox->flags & BXH_VIEW_LEARN || !allowed)
        control_asked(sandbox, question->name, allowed);
    return allowed;
}

void forward(const struct asker *asker, const struct question *question, const uint8_t *message,
             size_t size)
{
    struct sandbox *sandbox = asker->sandbox;
    int allowed = may_name(sandbox, question);
    struct query *query = allowed && may_ask(sandbox) ? malloc(sizeof *query + size + 2) : NULL;
    if (!query) {
        counters[COUNT_REFUSED]++;
        respond_code(asker, question, message, RCODE_REFUSED);
        return;
    }
    memset(query, 0, sizeof *query);
    query->source.fd = query->inside = -1;
    query->asker = *asker;
    query->question = *question;
    query->rcode = RCODE_FAILED;
    query->began = now_us();
    query->size = size;
    memcpy(query->message + 2, message, size);
    query->next = sandbox->queries;
    if (query->next)
        query->next->before = query;
    sandbox->queries = query;
    sandbox->in_flight++;
    all_in_flight++;
    counters[COUNT_IN_FLIGHT]++;
    counters[COUNT_FORWARDED]++;
    try_next(query);
}
