/* boxwood-helper: parses what containers send, so that neither the daemon nor a shim has to.
 *
 * One thread, one epoll loop, no privilege, no file system (confine.c). It serves names inside
 * sandboxes, holds sockets on published ports and leads the traffic of those that the kernel does
 * not; its sockets are opened for it. The daemon may come and go. What each file owns:
 *   main.c      the loop, deadlines, the end
 *   confine.c   what it may not do any more
 *   control.c   the daemon's connection (helper_protocol.py)
 *   dns.c       DNS messages          zones.c    tables of names (both pure)
 *   resolver.c  sandboxes: whose question it is, and the answers that are known here
 *   forward.c   questions that are asked elsewhere
 *   egress.c    which of them a policy allows, and the broker that opens the way
 *   refresh.c   which are asked again, before the way is closed
 *   stream.c    DNS over TCP, the asker's side
 *   ports.c     held sockets          pairs.c    TCP connections       flows.c   datagrams
 */
#pragma once

#include <netinet/in.h>
#include <stdint.h>
#include <sys/epoll.h>
#include <sys/socket.h>

#include "dns.h"
#include "helper_messages.h"
#include "util.h"
#include "zones.h"

enum {
    IN_FLIGHT = 1024,     /* questions of one sandbox that wait for others; more are refused */
    ALL_IN_FLIGHT = 6144, /* of all sandboxes: a descriptor each (nofile is 20,000 and more) */
    STREAMS = 64,         /* TCP connections of one sandbox to its resolver */
    PAIRS = 2048,         /* TCP connections that are led: six descriptors each */
    FLOWS = 1024,         /* senders of datagrams to one port */
    STREAM_QUERY = 4096,  /* bytes of a question over TCP */
    BATCH = 32,           /* datagrams or connections of one socket before others have their turn */
};

/* What an epoll event belongs to; the first member of its owner or found by OWNER. */
struct source {
    void (*event)(struct source *source, uint32_t events); /* NULL: closed, to be freed */
    int fd;
};

#define OWNER(pointer, type, member) \
    ((struct type *)(void *)((char *)(pointer)-offsetof(struct type, member)))

/* A deadline. All of a lane have the same span, so the first that was set is the first to pass. */
struct due {
    struct due *before, *after; /* NULL: not set */
    int64_t at;                 /* ms, monotonic */
    void (*over)(struct due *due);
};
enum { LANE_QUERY, LANE_STREAM, LANE_FLOW, LANE_PAUSE, LANE_REFRESH, LANES };

void due_set(struct due *due, int lane, void (*over)(struct due *due)); /* or sets it anew */
void due_clear(struct due *due);
int64_t now_ms(void);
int64_t now_us(void);

int watch(struct source *source, int fd, uint32_t events,
          void (*event)(struct source *source, uint32_t events));
int watch_again(struct source *source, uint32_t events);
void unwatch(struct source *source); /* its descriptor stays open */
void close_source(struct source *source);
void free_later(void *memory); /* after this turn's events, which may still name it */
uint32_t random_u32(void);
void loop_exhausted(void);     /* no descriptor is left: listeners pause */
int loop_paused(void);

extern uint64_t counters[BXH_MAX_COUNTERS + BXH_BUCKETS];
extern int leaving; /* everything was handed over: what has begun is finished */

/* confine.c: 0 or -1. */
int confine(void);

/* control.c */
struct sandbox;
void control_begin(int listener, const char *build);
int control_connected(void);
void control_resume(void);
void control_asked(const struct sandbox *sandbox, const char *name, int allowed);

/* resolver.c */
struct zone {
    struct zone *next;
    unsigned users; /* views that name it */
    int there;      /* it was given to us, and not forgotten */
    char id[BXH_MAX_ID], domain[DNS_NAME];
    struct names names;
    uint8_t *parts; /* of one that is still coming */
    uint32_t parts_size;
};

struct upstream {
    struct sockaddr_storage address;
    socklen_t size;
    int inside;
};

struct sandbox {
    struct sandbox *next;
    char id[BXH_MAX_ID];
    struct source datagrams, listener;
    unsigned zone_count, upstream_count, flags;
    struct zone *zones[BXH_MAX_ZONES];
    struct upstream upstreams[BXH_MAX_UPSTREAMS];
    struct names own;
    int inside[BXH_MAX_INSIDE]; /* sockets in the sandbox' namespace, datagrams first */
    int inside_family[BXH_MAX_INSIDE];
    unsigned inside_count, inside_datagrams;
    uint64_t inside_busy;
    uint8_t *patterns; /* of names that may be asked for elsewhere: a list of wire.py */
    uint32_t patterns_size;
    unsigned in_flight, stream_count;
    struct query *queries;
    struct stream *streams;
    struct refresh *refreshes;
};

extern struct sandbox *sandboxes;
extern struct zone *zones;

struct sandbox *sandbox_find(const char *id);

struct view {
    const char *const *zones;
    const struct upstream *upstreams;
    unsigned zone_count, upstream_count, flags;
    uint8_t *names, *patterns; /* malloc'ed */
    uint32_t names_size, patterns_size;
};
/* Takes names and patterns; of the descriptors what it sets to -1. */
int sandbox_view(const char *id, const struct view *view, int *fds, unsigned count,
                 unsigned inside_datagrams);
void sandbox_close(struct sandbox *sandbox);
void sandbox_let_go(struct sandbox *sandbox);
int zone_part(const char *id, const char *domain, int last, const uint8_t *data, uint32_t size);
int zone_forget(const char *id);

/* Who waits for an answer: a stream, or (stream NULL) a sender of a datagram, or (no address)
 * nobody. */
struct asker {
    struct sandbox *sandbox;
    struct stream *stream;
    struct sockaddr_in address;
};
static inline int asker_is_nobody(const struct asker *asker)
{
    return !asker->stream && !asker->address.sin_family;
}

void resolve(const struct asker *asker, const uint8_t *message, size_t size);
/* `reply` has room for what dns_cut needs; it is changed. */
void respond(const struct asker *asker, const struct question *question, uint8_t *reply,
             size_t size);
void respond_code(const struct asker *asker, const struct question *question,
                  const uint8_t *message, int rcode);

/* forward.c */
extern unsigned all_in_flight;
void forward(const struct asker *asker, const struct question *question, const uint8_t *message,
             size_t size);
void forward_opened(uint64_t request, int error); /* the broker's word; 0: it is gone */
void forward_forget(struct sandbox *sandbox);
void forward_forget_stream(struct sandbox *sandbox, const struct stream *stream);

/* egress.c */
int egress_allows(const struct sandbox *sandbox, const char *name);
int egress_use(int *fd); /* takes the connection to the broker when it answers 0 */
/* A request to open what an answer has: its number, 0: the broker is not there. */
uint64_t egress_open(const struct sandbox *sandbox, const char *name, const struct found *found,
                     unsigned count);

/* refresh.c: an answer's addresses are open, for so many seconds. */
void refresh_note(const struct asker *asker, const struct question *question,
                  const uint8_t *message, size_t size, uint32_t seconds);
void refresh_forget(struct sandbox *sandbox);

/* stream.c */
extern unsigned all_streams;
void stream_accept(struct source *listener, uint32_t events);
void stream_answer(struct stream *stream, const uint8_t *reply, size_t size);
void stream_close(struct stream *stream);

/* ports.c */
struct port {
    struct port *next;
    struct source source;
    char owner[BXH_MAX_ID], key[BXH_MAX_ID];
    int datagrams;
    struct sockaddr_storage target;
    socklen_t target_size; /* 0: not served */
    struct flow *flows;
    unsigned flow_count;
};

extern struct port *ports;
struct port *port_find(const char *owner, const char *key);
int port_hold(const char *owner, const char *key, int fd); /* takes it when it answers 0 */
int port_serve(struct port *port, const struct sockaddr_storage *target, socklen_t size);
void port_close(struct port *port);
void port_resume(struct port *port);

/* pairs.c, flows.c */
extern unsigned all_pairs, all_flows;
void pair_accept(struct source *listener, uint32_t events);
void flow_receive(struct source *source, uint32_t events);
void flows_close(struct port *port);
