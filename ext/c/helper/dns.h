/* DNS messages (RFC 1035, 6891): reading strangers' and writing ours. Pure: no allocation, no
 * system call, so it is also what the fuzz target runs. */
#pragma once

#include <stddef.h>
#include <stdint.h>

enum {
    DNS_HEADER = 12,
    DNS_NAME = 256,       /* bytes of a name as text, with its NUL (RFC 1035: 255 on the wire) */
    DNS_UDP = 512,        /* bytes of a datagram without EDNS */
    DNS_UDP_MOST = 4096,  /* what we send in one whatever EDNS allows */
    DNS_TTL = 600,        /* seconds, of our own answers */
    DNS_ADDRESSES = 64,   /* in one answer of ours */
};
enum { TYPE_A = 1, TYPE_CNAME = 5, TYPE_PTR = 12, TYPE_AAAA = 28, TYPE_OPT = 41, CLASS_IN = 1 };
enum {
    RCODE_OK = 0, RCODE_FORMAT = 1, RCODE_FAILED = 2, RCODE_NOT_IMPLEMENTED = 4, RCODE_REFUSED = 5,
};

struct question {
    uint16_t id, flags, type, class;
    uint16_t end;        /* of the question in the message */
    unsigned labels;
    int plain;           /* the name is text without dots or NULs in a label: it may be ours */
    int edns;            /* it has an OPT record */
    unsigned limit;      /* bytes that the asker takes in a datagram */
    char name[DNS_NAME]; /* lower case, no dot at the end */
};

struct address {
    uint8_t size; /* 4 or 16; 0: none */
    uint8_t bytes[16];
};

/* Reads a query: 0, or the RCODE to answer it with (then only id and flags are there, and `end` if
 * the question could be read), or -1: nothing to answer. */
int dns_query(const uint8_t *message, size_t size, struct question *out);

/* Is this an answer (of whatever kind) to the message that `query` begins, whose question ends at
 * `end`? The id is not looked at. 1 or 0. */
int dns_answers(const uint8_t *message, size_t size, const uint8_t *query, size_t end);

/* Begins a reply in `out` (room for `end` and 16 bytes more): header and question. Its size. */
size_t dns_begin(uint8_t *out, const uint8_t *query, const struct question *question, int rcode);
/* Adds an answer to the question's name; the new size, or the old one when there is no room. */
size_t dns_add(uint8_t *out, size_t size, size_t room, uint16_t type, const void *data,
               size_t length);
size_t dns_add_name(uint8_t *out, size_t size, size_t room, const char *name); /* PTR */
size_t dns_end(uint8_t *out, size_t size, const struct question *question); /* OPT; 11 bytes */

/* Cuts a reply down to its question and says so in it (TC). The new size. */
size_t dns_cut(uint8_t *message, const struct question *question);

/* The address that a name below in-addr.arpa or ip6.arpa stands for; size 0: none. */
struct address dns_reverse(const char *name);

struct found {
    struct address address;
    uint32_t seconds;
};

/* The addresses that an answer (which dns_answers accepted) gives the question's name, through
 * aliases (CNAME) in any order. Their number, at most `most`. */
unsigned dns_addresses(const uint8_t *message, size_t size, const struct question *question,
                       struct found *out, unsigned most);

/* Does a name fit a pattern: the same, or, behind "*.", the end of it? */
int dns_fits(const char *name, const char *pattern);

static inline unsigned dns_u16(const uint8_t *at)
{
    return (unsigned)at[0] << 8 | at[1];
}

static inline void dns_put_u16(uint8_t *at, unsigned value)
{
    at[0] = (uint8_t)(value >> 8);
    at[1] = (uint8_t)value;
}

static inline int dns_rcode(const uint8_t *message)
{
    return message[3] & 15;
}
