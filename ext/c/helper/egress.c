/* A policy's names, and the broker: who opens the packet filter for an answer before its asker has
 * it. Without a broker nothing is opened, and nothing answered. */

#include <arpa/inet.h>

#include "broker_messages.h"
#include "helper.h"
#include "launch.h"
#include "message.h"

static struct source broker = {.fd = -1};
static uint64_t last_request;

/* The list's form is wire.py's: count and zero, then for each u32 length and zero, text, padding. */
int egress_allows(const struct sandbox *sandbox, const char *name)
{
    const uint8_t *at = sandbox->patterns, *end = at + sandbox->patterns_size;
    at += 8;
    while (at && end - at >= 8) {
        uint32_t length;
        memcpy(&length, at, sizeof length);
        if (dns_fits(name, (const char *)at + 8))
            return 1;
        at += 8 + ((length + 8) & ~7u);
    }
    return 0;
}

static void heard(struct source *source, BX_UNUSED uint32_t events)
{
    struct {
        struct {
            uint16_t version, reserved;
            uint32_t size;
            uint16_t code, count;
            uint32_t length;
        } head;
        uint32_t first_kind, first_length;
        uint64_t request;
        uint32_t second_kind, second_length;
        int64_t error;
    } reply;
    for (int i = 0; i < BATCH; i++) {
        ssize_t size = recv(source->fd, &reply, sizeof reply, MSG_DONTWAIT);
        if (size < 0 && errno == EAGAIN)
            return;
        if (size != sizeof reply || reply.head.code != BXE_REPLY) {
            close_source(source);
            forward_opened(0, EPIPE);
            return;
        }
        forward_opened(reply.request, (int)reply.error);
    }
}

int egress_use(int *fd)
{
    close_source(&broker);
    forward_opened(0, EPIPE);
    int status = watch(&broker, *fd, EPOLLIN, heard);
    if (status < 0) {
        broker.event = NULL;
        broker.fd = -1;
        return status;
    }
    bx_take(fd);
    return 0;
}

uint64_t egress_open(const struct sandbox *sandbox, const char *name, const struct found *found,
                     unsigned count)
{
    struct bx_writer out;
    bx_begin(&out);
    uint8_t addresses[DNS_ADDRESSES * 21];
    size_t size = 0;
    for (unsigned i = 0; i < count; i++) {
        uint32_t seconds = htonl(found[i].seconds);
        addresses[size++] = found[i].address.size;
        memcpy(addresses + size, found[i].address.bytes, found[i].address.size);
        size += found[i].address.size;
        memcpy(addresses + size, &seconds, sizeof seconds);
        size += sizeof seconds;
    }
    bx_put_number(&out, BXP_KIND_U64, ++last_request);
    bx_put_string(&out, sandbox->id, BXH_MAX_ID);
    bx_put_bytes(&out, BXP_KIND_STR, name, strlen(name));
    bx_put_bytes(&out, BXP_KIND_BYTES, addresses, size);
    bx_end(&out, BXE_VERSION, BXE_OPEN, 4);
    if (broker.fd < 0 || send(broker.fd, out.data, out.used, MSG_DONTWAIT | MSG_NOSIGNAL) < 0)
        return 0;
    return last_request;
}
