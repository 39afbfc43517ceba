/* Sandboxes and zones: who asks, and what is known here. */

#include <stdlib.h>

#include "helper.h"

enum { REPLY = 8192 }; /* bytes: a question and DNS_ADDRESSES addresses */

struct sandbox *sandboxes;
struct zone *zones;

/* ---- zones */

static struct zone *zone_find(const char *id)
{
    struct zone *zone = zones;
    while (zone && strcmp(zone->id, id))
        zone = zone->next;
    return zone;
}

/* A view may name a zone before its names are here. */
static struct zone *zone_get(const char *id)
{
    struct zone *zone = zone_find(id);
    if (zone || strlen(id) >= BXH_MAX_ID)
        return zone;
    zone = calloc(1, sizeof *zone);
    if (!zone)
        return NULL;
    memcpy(zone->id, id, strlen(id) + 1);
    zone->next = zones;
    zones = zone;
    return zone;
}

static void zone_release(struct zone *zone)
{
    struct zone **place = &zones;
    if (zone->users || zone->there || zone->parts)
        return;
    while (*place != zone)
        place = &(*place)->next;
    *place = zone->next;
    names_free(&zone->names);
    free(zone);
}

int zone_forget(const char *id)
{
    struct zone *zone = zone_find(id);
    if (!zone)
        return 0;
    names_free(&zone->names);
    free(zone->parts);
    zone->parts = NULL;
    zone->parts_size = 0;
    counters[COUNT_ZONES] -= (uint64_t)zone->there;
    zone->there = 0;
    zone_release(zone);
    return 0;
}

static int zone_finish(struct zone *zone, const char *domain)
{
    int status = names_build(&zone->names, zone->parts, zone->parts_size);
    if (status < 0)
        free(zone->parts);
    zone->parts = NULL;
    zone->parts_size = 0;
    if (status < 0) {
        zone_release(zone);
        return status;
    }
    memcpy(zone->domain, domain, strlen(domain) + 1);
    counters[COUNT_ZONES] += (uint64_t)!zone->there;
    zone->there = 1;
    return 0;
}

int zone_part(const char *id, const char *domain, int last, const uint8_t *data, uint32_t size)
{
    if (strlen(domain) >= DNS_NAME - 64)
        return -EINVAL;
    struct zone *zone = zone_get(id);
    if (!zone)
        return -ENOMEM;
    int fits = size <= BXH_MAX_ZONE - zone->parts_size;
    uint8_t *parts = fits ? realloc(zone->parts, zone->parts_size + size + 1) : NULL;
    if (!parts) {
        zone_release(zone);
        return fits ? -ENOMEM : -E2BIG;
    }
    memcpy(parts + zone->parts_size, data, size);
    zone->parts = parts;
    zone->parts_size += size;
    return last ? zone_finish(zone, domain) : 0;
}

/* ---- sandboxes */

struct sandbox *sandbox_find(const char *id)
{
    struct sandbox *sandbox = sandboxes;
    while (sandbox && strcmp(sandbox->id, id))
        sandbox = sandbox->next;
    return sandbox;
}

static void receive(struct source *source, BX_UNUSED uint32_t events)
{
    static uint8_t message[DNS_UDP_MOST];
    struct asker asker = {.sandbox = OWNER(source, sandbox, datagrams)};
    for (int i = 0; i < BATCH; i++) {
        socklen_t size = sizeof asker.address;
        ssize_t got = recvfrom(source->fd, message, sizeof message, MSG_DONTWAIT | MSG_TRUNC,
                               (struct sockaddr *)&asker.address, &size);
        if (got < 0)
            return;
        if ((size_t)got <= sizeof message && size == sizeof asker.address)
            resolve(&asker, message, (size_t)got);
        else
            counters[COUNT_MALFORMED]++;
    }
}

static void release_zones(struct sandbox *sandbox)
{
    for (unsigned i = 0; i < sandbox->zone_count; i++) {
        sandbox->zones[i]->users--;
        zone_release(sandbox->zones[i]);
    }
    sandbox->zone_count = 0;
}

/* The sockets that stood there before have no use any more: their namespace has new ones. */
static int use_sockets(struct sandbox *sandbox, int *fds, unsigned count, unsigned inside_datagrams)
{
    while (sandbox->streams)
        stream_close(sandbox->streams);
    forward_forget(sandbox);
    close_source(&sandbox->datagrams);
    close_source(&sandbox->listener);
    for (unsigned i = 0; i < sandbox->inside_count; i++)
        bx_close(&sandbox->inside[i]);
    sandbox->inside_count = count - 2;
    sandbox->inside_datagrams = inside_datagrams;
    sandbox->inside_busy = 0;
    for (unsigned i = 0; i < sandbox->inside_count; i++) {
        socklen_t size = sizeof(int);
        sandbox->inside[i] = bx_take(&fds[i + 2]);
        getsockopt(sandbox->inside[i], SOL_SOCKET, SO_DOMAIN, &sandbox->inside_family[i], &size);
    }
    int status = watch(&sandbox->datagrams, bx_take(&fds[0]), EPOLLIN, receive);
    if (status < 0)
        sandbox->datagrams.event = NULL;
    int other = watch(&sandbox->listener, bx_take(&fds[1]), EPOLLIN, stream_accept);
    if (other < 0)
        sandbox->listener.event = NULL;
    return status < 0 ? status : other;
}

static struct sandbox *sandbox_new(const char *id)
{
    struct sandbox *sandbox = calloc(1, sizeof *sandbox);
    if (!sandbox)
        return NULL;
    memcpy(sandbox->id, id, strlen(id) + 1);
    sandbox->datagrams.fd = sandbox->listener.fd = -1;
    sandbox->next = sandboxes;
    sandboxes = sandbox;
    counters[COUNT_SANDBOXES]++;
    return sandbox;
}

static int check_view(const char *id, const struct view *view, unsigned count,
                      unsigned inside_datagrams)
{
    if (strlen(id) >= BXH_MAX_ID || view->zone_count > BXH_MAX_ZONES || count == 1 ||
        (count && (count - 2 > BXH_MAX_INSIDE || inside_datagrams > count - 2)))
        return -EINVAL;
    return !count && !sandbox_find(id) ? -ENOENT : 0;
}

/* The zones that a view names, held; 0 or -ENOMEM. */
static int hold_zones(const struct view *view, struct zone **found)
{
    unsigned made = 0;
    while (made < view->zone_count && (found[made] = zone_get(view->zones[made])))
        found[made++]->users++;
    if (made == view->zone_count)
        return 0;
    while (made--) {
        found[made]->users--;
        zone_release(found[made]);
    }
    return -ENOMEM;
}

static void use_view(struct sandbox *sandbox, const struct view *view, struct zone *const *found,
                     const struct names *own)
{
    release_zones(sandbox);
    memcpy(sandbox->zones, found, view->zone_count * sizeof *found);
    sandbox->zone_count = view->zone_count;
    names_free(&sandbox->own);
    sandbox->own = *own;
    free(sandbox->patterns);
    sandbox->patterns = view->patterns;
    sandbox->patterns_size = view->patterns_size;
    memcpy(sandbox->upstreams, view->upstreams, view->upstream_count * sizeof *view->upstreams);
    sandbox->upstream_count = view->upstream_count;
    sandbox->flags = view->flags;
}

int sandbox_view(const char *id, const struct view *view, int *fds, unsigned count,
                 unsigned inside_datagrams)
{
    struct sandbox *sandbox = sandbox_find(id);
    struct zone *found[BXH_MAX_ZONES];
    struct names own = {0};
    int status = check_view(id, view, count, inside_datagrams);
    if (!status)
        status = names_build(&own, view->names, view->names_size);
    if (status < 0) {
        free(view->names);
        free(view->patterns);
        return status;
    }
    status = hold_zones(view, found);
    if (!status && !sandbox && !(sandbox = sandbox_new(id))) {
        for (unsigned i = 0; i < view->zone_count; i++) {
            found[i]->users--;
            zone_release(found[i]);
        }
        status = -ENOMEM;
    }
    if (status < 0) {
        names_free(&own);
        free(view->patterns);
        return status;
    }
    use_view(sandbox, view, found, &own);
    return count ? use_sockets(sandbox, fds, count, inside_datagrams) : 0;
}

void sandbox_close(struct sandbox *sandbox)
{
    struct sandbox **place = &sandboxes;
    while (*place != sandbox)
        place = &(*place)->next;
    *place = sandbox->next;
    while (sandbox->streams)
        stream_close(sandbox->streams);
    forward_forget(sandbox);
    refresh_forget(sandbox);
    close_source(&sandbox->datagrams);
    close_source(&sandbox->listener);
    for (unsigned i = 0; i < sandbox->inside_count; i++)
        bx_close(&sandbox->inside[i]);
    release_zones(sandbox);
    names_free(&sandbox->own);
    free(sandbox->patterns);
    counters[COUNT_SANDBOXES]--;
    free_later(sandbox);
}

/* Another helper has the sockets: what was asked already is answered, nothing more is read. */
void sandbox_let_go(struct sandbox *sandbox)
{
    unwatch(&sandbox->datagrams);
    close_source(&sandbox->listener);
}

/* ---- answers */

void respond(const struct asker *asker, const struct question *question, uint8_t *reply,
             size_t size)
{
    if (asker_is_nobody(asker))
        return;
    if (asker->stream) {
        stream_answer(asker->stream, reply, size);
        return;
    }
    if (size > question->limit) {
        size = dns_cut(reply, question);
        counters[COUNT_TRUNCATED]++;
    }
    sendto(asker->sandbox->datagrams.fd, reply, size, MSG_DONTWAIT | MSG_NOSIGNAL,
           (const struct sockaddr *)&asker->address, sizeof asker->address);
}

void respond_code(const struct asker *asker, const struct question *question,
                  const uint8_t *message, int rcode)
{
    uint8_t reply[DNS_HEADER + DNS_NAME + 32];
    size_t size = dns_begin(reply, message, question, rcode);
    respond(asker, question, reply, dns_end(reply, size, question));
}

/* The record of a name: the sandbox' own first, then each network's, by its priority. */
static int find(const struct sandbox *sandbox, const char *name, struct record *out)
{
    size_t length = strlen(name);
    if (names_find(&sandbox->own, name, length, out))
        return 1;
    for (unsigned i = 0; i < sandbox->zone_count; i++) {
        const struct zone *zone = sandbox->zones[i];
        size_t tail = strlen(zone->domain);
        if (names_find(&zone->names, name, length, out))
            return 1;
        if (tail && length > tail + 1 && name[length - tail - 1] == '.' &&
            !memcmp(name + length - tail, zone->domain, tail) &&
            names_find(&zone->names, name, length - tail - 1, out))
            return 1;
    }
    return 0;
}

/* The first name of an address, with the network's behind it. 1: found. */
static int find_reverse(const struct sandbox *sandbox, const struct address *address, char *out)
{
    struct record record;
    if (names_reverse(&sandbox->own, address, &record)) {
        memcpy(out, record.name, record.length);
        out[record.length] = 0;
        return 1;
    }
    for (unsigned i = 0; i < sandbox->zone_count; i++) {
        const struct zone *zone = sandbox->zones[i];
        size_t tail = strlen(zone->domain);
        if (!names_reverse(&zone->names, address, &record))
            continue;
        memcpy(out, record.name, record.length);
        out[record.length] = '.';
        memcpy(out + record.length + (tail > 0), zone->domain, tail + 1);
        if (!tail)
            out[record.length] = 0;
        return 1;
    }
    return 0;
}

/* Several addresses come in another order each time: the first is the one that is used. */
static void answer(const struct asker *asker, const struct question *question,
                   const uint8_t *message, const struct record *record)
{
    uint8_t reply[REPLY];
    const uint8_t *chosen[DNS_ADDRESSES], *address = record->addresses;
    unsigned wanted = question->type == TYPE_A ? 4 : question->type == TYPE_AAAA ? 16 : 0;
    unsigned count = 0;
    size_t size = dns_begin(reply, message, question, RCODE_OK);
    for (unsigned i = 0; i < record->count; i++, address += 1 + *address)
        if (*address == wanted && count < DNS_ADDRESSES)
            chosen[count++] = address + 1;
    unsigned first = count > 1 ? random_u32() % count : 0;
    for (unsigned i = 0; i < count; i++)
        size = dns_add(reply, size, sizeof reply, question->type, chosen[(first + i) % count],
                       wanted);
    counters[COUNT_LOCAL]++;
    respond(asker, question, reply, dns_end(reply, size, question));
}

static void answer_name(const struct asker *asker, const struct question *question,
                        const uint8_t *message, const char *name)
{
    uint8_t reply[2 * DNS_NAME + 64];
    size_t size = dns_begin(reply, message, question, RCODE_OK);
    size = dns_add_name(reply, size, sizeof reply, name);
    counters[COUNT_LOCAL]++;
    respond(asker, question, reply, dns_end(reply, size, question));
}

static int resolve_here(const struct asker *asker, const struct question *question,
                        const uint8_t *message)
{
    const struct sandbox *sandbox = asker->sandbox;
    struct record record;
    char name[2 * DNS_NAME];
    if (question->class != CLASS_IN || !question->plain)
        return 0;
    if (question->type == TYPE_PTR) {
        struct address address = dns_reverse(question->name);
        if (!address.size || !find_reverse(sandbox, &address, name))
            return 0;
        answer_name(asker, question, message, name);
        return 1;
    }
    if (find(sandbox, question->name, &record)) {
        answer(asker, question, message, &record);
        return 1;
    }
    /* The asker's library tries again with its search domains (ndots was set). */
    if (sandbox->flags & BXH_VIEW_NDOTS && question->labels == 1 &&
        (question->type == TYPE_A || question->type == TYPE_AAAA)) {
        counters[COUNT_LOCAL]++;
        respond_code(asker, question, message, RCODE_OK);
        return 1;
    }
    return 0;
}

void resolve(const struct asker *asker, const uint8_t *message, size_t size)
{
    struct question question;
    int rcode = dns_query(message, size, &question);
    if (rcode) {
        counters[COUNT_MALFORMED]++;
        if (rcode > 0)
            respond_code(asker, &question, message, rcode);
        else if (asker->stream)
            stream_close(asker->stream);
        return;
    }
    counters[COUNT_QUERIES]++;
    counters[COUNT_QUERIES_TCP] += asker->stream != NULL;
    if (resolve_here(asker, &question, message))
        return;
    forward(asker, &question, message, size);
}
