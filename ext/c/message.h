/* Messages of wire.py's form, one to a packet: what shim, helper and broker read and write. A message
 * is a header of 16 bytes (version, size; code, arguments, bytes of these) and its values. */
#pragma once

#include <stdint.h>
#include <string.h>
#include <sys/types.h>

#include "launch.h"

enum {
    BX_MESSAGE_ROOM = 48 << 10, /* bytes of the largest */
    BX_MESSAGE_FDS = 253,       /* SCM_MAX_FD */
};

struct bx_protocol {
    const struct bx_row *rows;
    unsigned version;
    unsigned codes;   /* of the table: BX*_LIMIT */
    unsigned replies; /* the first code that we send, and nobody sends us */
    unsigned fds;     /* descriptors of one message at most */
};

struct bx_packet {
    struct bx_op op; /* until the next one is read */
    int fds[BX_MESSAGE_FDS];
    unsigned count;
    uint64_t value; /* for a reply */
};

/* message.c. The next message: 1, 0 when none waits, -1 when the peer is gone or talks nonsense. What
 * has been received of descriptors is the caller's to close, whatever came of it. */
int bx_receive(int fd, const struct bx_protocol *protocol, struct bx_packet *packet);
void bx_packet_close(struct bx_packet *packet);
/* Whether a connected socket's peer is root, or `owner`. */
int bx_peer_is(int fd, uid_t owner);

struct bx_writer {
    unsigned char data[8192] __attribute__((aligned(8)));
    size_t used;
};

static inline void bx_begin(struct bx_writer *out)
{
    out->used = 16;
}

static inline void bx_put_head(struct bx_writer *out, uint32_t kind, uint32_t length)
{
    memcpy(out->data + out->used, &kind, 4);
    memcpy(out->data + out->used + 4, &length, 4);
    out->used += 8;
}

static inline void bx_put_number(struct bx_writer *out, unsigned kind, uint64_t number)
{
    bx_put_head(out, kind, 8);
    memcpy(out->data + out->used, &number, 8);
    out->used += 8;
}

static inline void bx_put_bytes(struct bx_writer *out, unsigned kind, const void *data, size_t length)
{
    size_t whole = (length + (kind == BXP_KIND_STR) + 7) & ~(size_t)7;
    bx_put_head(out, kind, (uint32_t)length);
    memset(out->data + out->used, 0, whole);
    memcpy(out->data + out->used, data, length);
    out->used += whole;
}

/* Cut at `limit` bytes. */
void bx_put_string(struct bx_writer *out, const char *text, size_t limit);

static inline void bx_end(struct bx_writer *out, unsigned version, unsigned code, unsigned count)
{
    struct {
        uint16_t version, reserved;
        uint32_t size;
        uint16_t code, count;
        uint32_t length;
    } head = {(uint16_t)version, 0, (uint32_t)out->used, (uint16_t)code, (uint16_t)count,
              (uint32_t)out->used - 16};
    memcpy(out->data, &head, sizeof head);
}
