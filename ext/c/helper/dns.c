#include "dns.h"

#include <string.h>

enum { BIT_QR = 0x8000, BIT_TC = 0x0200, BIT_RD = 0x0100, BIT_RA = 0x0080, OPCODE = 0x7800 };
enum { OPT_SIZE = 11, FIXED = 10 /* bytes of a record behind its name */ };

static char lower(uint8_t c)
{
    return (char)(c >= 'A' && c <= 'Z' ? c + 32 : c);
}

/* Reads the name at `at`, uncompressed as a question's must be. The place behind it, 0: none. */
static size_t read_name(const uint8_t *message, size_t size, size_t at, struct question *out)
{
    size_t used = 0;
    out->labels = 0;
    out->plain = 1;
    for (;;) {
        if (at >= size)
            return 0;
        unsigned length = message[at++];
        if (!length)
            break;
        if (length > 63 || at + length >= size || used + length + 1 >= DNS_NAME)
            return 0;
        if (used)
            out->name[used++] = '.';
        for (unsigned i = 0; i < length; i++) {
            uint8_t c = message[at + i];
            if (!c || c == '.')
                out->plain = 0;
            out->name[used++] = lower(c);
        }
        at += length;
        out->labels++;
    }
    out->name[used] = 0;
    return at;
}

/* The place behind a name that may be compressed, 0: it is broken. */
static size_t skip_name(const uint8_t *message, size_t size, size_t at)
{
    while (at < size) {
        unsigned length = message[at];
        if (!length)
            return at + 1;
        if ((length & 0xc0) == 0xc0)
            return at + 2 <= size ? at + 2 : 0;
        if (length > 63)
            return 0;
        at += 1 + length;
    }
    return 0;
}

/* Looks for the OPT record among `records` behind the question. 0, or -1: broken. */
static int read_opt(const uint8_t *message, size_t size, unsigned records, struct question *out)
{
    size_t at = out->end;
    for (unsigned i = 0; i < records; i++) {
        at = skip_name(message, size, at);
        if (!at || at + FIXED > size)
            return -1;
        size_t length = dns_u16(message + at + 8);
        if (dns_u16(message + at) == TYPE_OPT) {
            unsigned takes = dns_u16(message + at + 2);
            out->edns = 1;
            out->limit = takes < DNS_UDP ? DNS_UDP : takes > DNS_UDP_MOST ? DNS_UDP_MOST : takes;
        }
        at += FIXED + length;
        if (at > size)
            return -1;
    }
    return 0;
}

int dns_query(const uint8_t *message, size_t size, struct question *out)
{
    if (size < DNS_HEADER || size > UINT16_MAX || message[2] & BIT_QR >> 8)
        return -1;
    out->id = (uint16_t)dns_u16(message);
    out->flags = (uint16_t)dns_u16(message + 2);
    out->type = out->class = 0;
    out->end = DNS_HEADER;
    out->edns = 0;
    out->limit = DNS_UDP;
    out->name[0] = 0;
    if (out->flags & OPCODE)
        return RCODE_NOT_IMPLEMENTED;
    unsigned records = dns_u16(message + 6) + dns_u16(message + 8) + dns_u16(message + 10);
    if (dns_u16(message + 4) != 1)
        return RCODE_FORMAT;
    size_t at = read_name(message, size, DNS_HEADER, out);
    if (!at || at + 4 > size)
        return RCODE_FORMAT;
    out->type = (uint16_t)dns_u16(message + at);
    out->class = (uint16_t)dns_u16(message + at + 2);
    out->end = (uint16_t)(at + 4);
    return records > 16 || read_opt(message, size, records, out) < 0 ? RCODE_FORMAT : RCODE_OK;
}

int dns_answers(const uint8_t *message, size_t size, const uint8_t *query, size_t end)
{
    if (size < DNS_HEADER || !(message[2] & BIT_QR >> 8) || (message[2] ^ query[2]) & OPCODE >> 8)
        return 0;
    /* A server that could not read the question may leave it out. */
    if (!dns_u16(message + 4))
        return size == DNS_HEADER && dns_rcode(message) != RCODE_OK;
    if (dns_u16(message + 4) != 1 || size < end)
        return 0;
    for (size_t i = DNS_HEADER; i < end; i++)
        if (lower(message[i]) != lower(query[i]))
            return 0;
    return 1;
}

size_t dns_begin(uint8_t *out, const uint8_t *query, const struct question *question, int rcode)
{
    unsigned flags = BIT_QR | BIT_RA | (question->flags & (OPCODE | BIT_RD)) | (unsigned)rcode;
    memset(out, 0, DNS_HEADER);
    memcpy(out + DNS_HEADER, query + DNS_HEADER, question->end - (size_t)DNS_HEADER);
    dns_put_u16(out, question->id);
    dns_put_u16(out + 2, flags);
    dns_put_u16(out + 4, question->end > DNS_HEADER);
    return question->end;
}

size_t dns_add(uint8_t *out, size_t size, size_t room, uint16_t type, const void *data,
               size_t length)
{
    static const uint8_t ttl[4] = {0, 0, DNS_TTL >> 8, DNS_TTL & 255};
    if (size + 2 + FIXED + length + OPT_SIZE > room)
        return size;
    uint8_t *at = out + size;
    dns_put_u16(at, 0xc000 | DNS_HEADER); /* the question's name */
    dns_put_u16(at + 2, type);
    dns_put_u16(at + 4, CLASS_IN);
    memcpy(at + 6, ttl, sizeof ttl);
    dns_put_u16(at + 10, (unsigned)length);
    memcpy(at + 12, data, length);
    dns_put_u16(out + 6, dns_u16(out + 6) + 1);
    return size + 12 + length;
}

size_t dns_add_name(uint8_t *out, size_t size, size_t room, const char *name)
{
    uint8_t wire[DNS_NAME + 1];
    size_t used = 0;
    while (*name) {
        size_t length = strcspn(name, ".");
        if (!length || length > 63 || used + length + 2 > sizeof wire)
            return size;
        wire[used++] = (uint8_t)length;
        memcpy(wire + used, name, length);
        used += length;
        name += length + (name[length] == '.');
    }
    wire[used++] = 0;
    return dns_add(out, size, room, TYPE_PTR, wire, used);
}

size_t dns_end(uint8_t *out, size_t size, const struct question *question)
{
    if (!question->edns)
        return size;
    memset(out + size, 0, OPT_SIZE);
    dns_put_u16(out + size + 1, TYPE_OPT);
    dns_put_u16(out + size + 3, DNS_UDP_MOST);
    dns_put_u16(out + 10, 1);
    return size + OPT_SIZE;
}

size_t dns_cut(uint8_t *message, const struct question *question)
{
    message[2] |= BIT_TC >> 8;
    memset(message + 6, 0, 6);
    return question->end;
}

static int hex(char c)
{
    return c >= '0' && c <= '9' ? c - '0' : c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* 32 digits, lowest first, each a label. */
static struct address reverse6(const char *name)
{
    struct address found = {.size = 16};
    for (int i = 31; i >= 0; i--, name += 2) {
        int digit = hex(name[0]);
        if (digit < 0 || name[1] != '.')
            return (struct address){0};
        found.bytes[i / 2] |= (uint8_t)(i % 2 ? digit : digit << 4);
    }
    return strcmp(name, "ip6.arpa") ? (struct address){0} : found;
}

static struct address reverse4(const char *name)
{
    struct address found = {.size = 4};
    for (int i = 3; i >= 0; i--) {
        unsigned value = 0, digits = 0;
        for (; *name >= '0' && *name <= '9' && digits < 4; name++, digits++)
            value = value * 10 + (unsigned)(*name - '0');
        if (!digits || value > 255 || *name++ != '.')
            return (struct address){0};
        found.bytes[i] = (uint8_t)value;
    }
    return strcmp(name, "in-addr.arpa") ? (struct address){0} : found;
}

struct address dns_reverse(const char *name)
{
    size_t length = strlen(name);
    if (length == 64 + sizeof "ip6.arpa" - 1)
        return reverse6(name);
    return length > 12 && length < 30 ? reverse4(name) : (struct address){0};
}

/* Reads a name that may be compressed, as text. The place behind it, 0: broken. */
static size_t expand(const uint8_t *message, size_t size, size_t at, char *out)
{
    size_t used = 0, end = 0;
    for (int hops = 0; hops < 128; hops++) {
        if (at >= size)
            return 0;
        unsigned length = message[at++];
        if (!length) {
            out[used] = 0;
            return end ? end : at;
        }
        if ((length & 0xc0) == 0xc0) {
            if (at >= size)
                return 0;
            end = end ? end : at + 1;
            at = (length & 0x3f) << 8 | message[at];
            continue;
        }
        if (length > 63 || at + length > size || used + length + 2 > DNS_NAME)
            return 0;
        if (used)
            out[used++] = '.';
        for (unsigned i = 0; i < length; i++)
            out[used++] = lower(message[at + i]);
        at += length;
    }
    return 0;
}

/* One walk over the answers: takes those of `name`, and follows its alias. 1: there was one. */
static int walk_answers(const uint8_t *message, size_t size, size_t at, unsigned wanted, char *name,
                        struct found *out, unsigned most, unsigned *count)
{
    char owner[DNS_NAME], alias[DNS_NAME];
    int moved = 0;
    for (unsigned i = dns_u16(message + 6); i; i--) {
        at = expand(message, size, at, owner);
        if (!at || at + FIXED > size || at + FIXED + dns_u16(message + at + 8) > size)
            return 0;
        unsigned type = dns_u16(message + at), length = dns_u16(message + at + 8);
        const uint8_t *data = message + at + FIXED;
        at += FIXED + length;
        if (dns_u16(data - 8) != CLASS_IN || strcmp(owner, name))
            continue;
        if (type == TYPE_CNAME && !moved && expand(message, size, (size_t)(data - message), alias)) {
            memcpy(name, alias, sizeof alias);
            moved = 1;
        } else if (type == wanted && length == (wanted == TYPE_A ? 4 : 16) && *count < most) {
            struct found *found = &out[(*count)++];
            found->address.size = (uint8_t)length;
            memcpy(found->address.bytes, data, length);
            found->seconds = (uint32_t)dns_u16(data - 6) << 16 | dns_u16(data - 4);
        }
    }
    return moved;
}

unsigned dns_addresses(const uint8_t *message, size_t size, const struct question *question,
                       struct found *out, unsigned most)
{
    char name[DNS_NAME];
    unsigned count = 0;
    if (size < question->end || (question->type != TYPE_A && question->type != TYPE_AAAA))
        return 0;
    memcpy(name, question->name, sizeof name);
    for (int i = 0; i < 16 && walk_answers(message, size, question->end, question->type, name, out,
                                           most, &count);
         i++)
        ;
    return count;
}

int dns_fits(const char *name, const char *pattern)
{
    if (strncmp(pattern, "*.", 2))
        return !strcmp(name, pattern);
    size_t length = strlen(name), tail = strlen(pattern + 1);
    return length > tail && !strcmp(name + length - tail, pattern + 1);
}
