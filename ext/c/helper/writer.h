/* Writing a message of wire.py's form: a header of 16 bytes, then values. */
#pragma once

#include <stdint.h>
#include <string.h>

#include "launch_ops.h"

struct writer {
    unsigned char data[4096] __attribute__((aligned(8)));
    size_t used; /* begins at 16 */
};

static inline void put_head(struct writer *out, uint32_t kind, uint32_t length)
{
    memcpy(out->data + out->used, &kind, 4);
    memcpy(out->data + out->used + 4, &length, 4);
    out->used += 8;
}

static inline void put_number(struct writer *out, unsigned kind, uint64_t number)
{
    put_head(out, kind, 8);
    memcpy(out->data + out->used, &number, 8);
    out->used += 8;
}

static inline void put_bytes(struct writer *out, unsigned kind, const void *data, size_t length)
{
    size_t whole = (length + (kind == BXP_KIND_STR) + 7) & ~(size_t)7;
    put_head(out, kind, (uint32_t)length);
    memset(out->data + out->used, 0, whole);
    memcpy(out->data + out->used, data, length);
    out->used += whole;
}

/* Cut to what an id may have. */
static inline void put_string(struct writer *out, const char *text)
{
    put_bytes(out, BXP_KIND_STR, text, strnlen(text, 80));
}

static inline void put_header(struct writer *out, unsigned version, unsigned code, unsigned count)
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
