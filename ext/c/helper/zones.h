/* The names of a network, as a table that is replaced whole: records as the protocol has them, an
 * index over their names, and one over their addresses. */
#pragma once

#include "dns.h"

struct names {
    uint8_t *records;    /* malloc'ed, NULL: none */
    uint32_t size, count;
    uint32_t *by_name;   /* offset of a record + 1, open addressing; NULL: empty */
    uint32_t *by_address; /* offset of the address' length byte + 1, and of its record */
    uint32_t name_mask, address_mask;
};

struct record {
    const char *name; /* not terminated */
    unsigned length, count;
    const uint8_t *addresses; /* count of: length byte, bytes */
};

/* Takes the records (malloc'ed, freed by names_free). 0, -EPROTO: they are none, -ENOMEM. What
 * was refused is the caller's still. */
int names_build(struct names *names, uint8_t *records, uint32_t size);
void names_free(struct names *names);

/* 1: found. `name` has `length` bytes. */
int names_find(const struct names *names, const char *name, size_t length, struct record *out);
/* The first record with this address. */
int names_reverse(const struct names *names, const struct address *address, struct record *out);
