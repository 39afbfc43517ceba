/* The stream of a tar archive as entries: ustar, GNU and PAX (POSIX.1-2008 pax(1); GNU tar manual,
 * "Tar Internals"). Where readers differ, Go's archive/tar is followed: it is what other engines
 * read images with, and two readings of one archive are an attack. */
#include "internal.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

struct header {
    char name[100], mode[8], uid[8], gid[8], size[12], mtime[12], checksum[8], type, link[100],
        magic[6], version[2], uname[32], gname[32], major[8], minor[8], prefix[155], rest[12];
};
_Static_assert(sizeof(struct header) == BW_BLOCK, "a tar header is one block");

int bw_malformed(struct bw_reader *r, const char *what) {
    return bw_fail(r->result, BW_TAR_MALFORMED, 0, what, r->entry.name);
}

int bw_over_budget(struct bw_reader *r, const char *what) {
    return bw_fail(r->result, BW_TAR_BUDGET, 0, what, r->entry.name);
}

int bw_no_memory(struct bw_reader *r) {
    return bw_fail(r->result, BW_TAR_SYSTEM, ENOMEM, "allocate memory", r->entry.name);
}

int bw_reader_open(struct bw_reader *r, const struct bw_tar_options *options,
                   struct bw_tar_result *result) {
    memset(r, 0, sizeof *r);
    r->fd = options->in_fd;
    r->ring = options->ring;
    r->result = result;
    r->max_name = options->max_name < BW_NAME_MAX ? options->max_name : BW_NAME_MAX;
    if (r->ring != NULL)
        return 0;
    r->buffer = malloc(BW_BUFFER);
    return r->buffer == NULL ? bw_no_memory(r) : 0;
}

void bw_reader_close(struct bw_reader *r) {
    free(r->buffer);
    free(r->pax);
    free(r->spans);
    r->buffer = NULL;
    r->pax = NULL;
    r->spans = NULL;
}

static int read_piece(struct bw_reader *r, struct bw_piece *piece) {
    ssize_t got;
    if (r->ring != NULL)
        return bw_ring_take(r->ring, piece);
    do
        got = read(r->fd, r->buffer, BW_BUFFER);
    while (got < 0 && errno == EINTR);
    if (got < 0)
        return bw_fail(r->result, BW_TAR_SYSTEM, errno, "read the archive", r->entry.name);
    *piece = (struct bw_piece){r->buffer, (size_t)got};
    return got > 0;
}

/* The next piece of the stream takes the place of the present one. 1: there, 0: the end, -1. */
static int next_piece(struct bw_reader *r) {
    struct bw_piece piece = r->later;
    r->later = (struct bw_piece){NULL, 0};
    while (piece.length == 0) {
        if (r->eof)
            return 0;
        int there = read_piece(r, &piece);
        if (there <= 0) {
            r->eof = there == 0;
            return there;
        }
        r->result->stream_bytes += piece.length;
    }
    r->data = piece.data;
    r->start = 0;
    r->end = piece.length;
    return 1;
}

/* Passes over bytes of the piece at hand. */
static void consume(struct bw_reader *r, size_t count) {
    if (r->record != NULL && !r->by_name && count)
        bw_record_literal(r->record, r->data + r->start, count);
    r->start += count;
}

/* Makes `need` bytes (at most a block) available in one. 1: there, 0: the stream ends before. */
static int want(struct bw_reader *r, size_t need) {
    size_t have = r->end - r->start;
    if (have >= need)
        return 1;
    memmove(r->joint, r->data ? r->data + r->start : r->joint, have);
    int more = 1;
    while (have < need && (more = next_piece(r)) > 0) {
        size_t part = r->end < need - have ? r->end : need - have;
        memcpy(r->joint + have, r->data, part);
        have += part;
        r->start = part;
    }
    if (more > 0)
        r->later = (struct bw_piece){r->data + r->start, r->end - r->start};
    r->data = r->joint;
    r->start = 0;
    r->end = have;
    return more;
}

/* Sees to it that the buffer holds something. 0, or -1: an error, or the stream ends here. */
static int refill(struct bw_reader *r) {
    if (r->start != r->end)
        return 0;
    int more = next_piece(r);
    if (more == 0)
        return bw_malformed(r, "the archive is cut off");
    return more < 0 ? -1 : 0;
}

static int skip(struct bw_reader *r, uint64_t count) {
    while (count) {
        if (refill(r) < 0)
            return -1;
        size_t part = r->end - r->start;
        if (part > count)
            part = (size_t)count;
        consume(r, part);
        count -= part;
    }
    return 0;
}

ssize_t bw_reader_take(struct bw_reader *r, size_t most, const unsigned char **data) {
    if (r->body == 0 || most == 0)
        return 0;
    if (refill(r) < 0)
        return -1;
    size_t part = r->end - r->start;
    if (part > r->body)
        part = (size_t)r->body;
    if (part > most)
        part = most;
    *data = r->data + r->start;
    consume(r, part);
    r->body -= part;
    return (ssize_t)part;
}

int bw_reader_drain(struct bw_reader *r) {
    int more;
    do
        consume(r, r->end - r->start);
    while ((more = next_piece(r)) > 0);
    return more;
}

/* Octal digits between blanks, or base 256 when the first bit is set. -1: neither. */
static int number(const char *field, size_t length, int64_t *value) {
    const unsigned char *at = (const unsigned char *)field, *end = at + length;
    uint64_t sum = 0;
    if (*at & 0x80) {
        bool negative = *at & 0x40;
        sum = negative ? ~(uint64_t)0x3f | *at : *at & 0x3f;
        if (negative)
            sum |= ~(uint64_t)0xff;
        while (++at < end) {
            uint64_t top = sum >> 55;
            if (top != 0 && top != 0x1ff)
                return -1;
            sum = sum << 8 | *at;
        }
        *value = (int64_t)sum;
        return (*value < 0) == negative ? 0 : -1;
    }
    while (at < end && (*at == ' ' || *at == 0))
        at++;
    for (; at < end && *at >= '0' && *at <= '7'; at++) {
        if (sum >> 60)
            return -1;
        sum = sum << 3 | (*at - (unsigned)'0');
    }
    while (at < end && (*at == ' ' || *at == 0))
        at++;
    *value = (int64_t)sum;
    return at == end ? 0 : -1;
}

static int unsigned_field(struct bw_reader *r, const char *field, size_t length, uint64_t limit,
                          const char *what, uint64_t *value) {
    int64_t parsed;
    if (number(field, length, &parsed) < 0 || parsed < 0 || (uint64_t)parsed > limit)
        return bw_malformed(r, what);
    *value = (uint64_t)parsed;
    return 0;
}

static bool checksum_right(const struct header *h) {
    const unsigned char *bytes = (const unsigned char *)h;
    uint32_t sum = 0;
    int32_t signed_sum = 0;
    int64_t said;
    for (size_t i = 0; i < BW_BLOCK; i++) {
        bool inside = i >= offsetof(struct header, checksum) && i < offsetof(struct header, type);
        unsigned char byte = inside ? ' ' : bytes[i];
        sum += byte;
        signed_sum += (signed char)byte; /* as some old tars computed it */
    }
    if (number(h->checksum, sizeof h->checksum, &said) < 0)
        return false;
    return said == (int64_t)sum || said == (int64_t)signed_sum;
}

static bool all_zero(const unsigned char *block) {
    for (size_t i = 0; i < BW_BLOCK; i++)
        if (block[i])
            return false;
    return true;
}

/* ---- headers ---- */

static uint64_t padding_of(uint64_t size) { return (BW_BLOCK - size % BW_BLOCK) % BW_BLOCK; }

/* Reads the content of a special entry into `room` bytes and ends it with a NUL. */
static int read_special(struct bw_reader *r, uint64_t size, char *into) {
    size_t done = 0;
    r->body = size;
    r->padding = padding_of(size);
    while (done < size) {
        const unsigned char *data;
        ssize_t got = bw_reader_take(r, (size_t)size - done, &data);
        if (got <= 0)
            return -1;
        memcpy(into + done, data, (size_t)got);
        done += (size_t)got;
    }
    into[size] = 0;
    if (skip(r, r->padding) < 0)
        return -1;
    r->padding = 0;
    return 0;
}

static int read_pax(struct bw_reader *r, uint64_t size, struct bw_pax *pax) {
    if (size > BW_SPECIAL_MAX)
        return bw_over_budget(r, "a PAX header is larger than 1 MiB");
    free(r->pax);
    r->pax = malloc((size_t)size + 1);
    if (r->pax == NULL)
        return bw_no_memory(r);
    memset(pax, 0, sizeof *pax);
    r->entry.xattr_count = 0;
    r->entry.span_count = 0;
    if (read_special(r, size, r->pax) < 0)
        return -1;
    return bw_parse_pax(r, pax, r->pax, (size_t)size);
}

static int read_long(struct bw_reader *r, uint64_t size, char **into) {
    if (size > BW_LINK_MAX)
        return bw_over_budget(r, "a long name is too long");
    free(*into);
    *into = malloc((size_t)size + 1);
    return *into == NULL ? bw_no_memory(r) : read_special(r, size, *into);
}

static int set_name(struct bw_reader *r, char *into, const char *name, const char *what) {
    size_t length = strlen(name);
    if (length > r->max_name)
        return bw_over_budget(r, what);
    memmove(into, name, length + 1);
    return 0;
}

static void header_name(const struct header *h, char *into) {
    size_t used = 0;
    if (!memcmp(h->magic, "ustar\0", 6) && h->prefix[0]) {
        /* "tar\0" at the end: star's variant with a shorter prefix. */
        size_t room = memcmp(h->rest + 8, "tar\0", 4) ? sizeof h->prefix : 131;
        used = strnlen(h->prefix, room);
        memcpy(into, h->prefix, used);
        into[used++] = '/';
    }
    size_t length = strnlen(h->name, sizeof h->name);
    memcpy(into + used, h->name, length);
    into[used + length] = 0;
}

static int header_numbers(struct bw_reader *r, const struct header *h, const struct bw_pax *pax) {
    struct bw_entry *e = &r->entry;
    uint64_t mode = 0, uid = pax->uid, gid = pax->gid, major = 0, minor = 0;
    if (unsigned_field(r, h->mode, sizeof h->mode, INT64_MAX, "a broken mode", &mode) < 0)
        return -1;
    if (!pax->has_uid &&
        unsigned_field(r, h->uid, sizeof h->uid, UINT32_MAX - 1, "a broken uid", &uid) < 0)
        return -1;
    if (!pax->has_gid &&
        unsigned_field(r, h->gid, sizeof h->gid, UINT32_MAX - 1, "a broken gid", &gid) < 0)
        return -1;
    e->mtime = pax->mtime;
    e->mtime_nsec = pax->nsec;
    if (!pax->has_mtime && number(h->mtime, sizeof h->mtime, &e->mtime) < 0)
        return bw_malformed(r, "a broken mtime");
    if (e->type == '3' || e->type == '4') {
        if (unsigned_field(r, h->major, sizeof h->major, UINT32_MAX, "a broken device", &major) ||
            unsigned_field(r, h->minor, sizeof h->minor, UINT32_MAX, "a broken device", &minor))
            return -1;
    }
    e->mode = (uint32_t)mode & 07777;
    e->uid = (uint32_t)uid;
    e->gid = (uint32_t)gid;
    e->major = (uint32_t)major;
    e->minor = (uint32_t)minor;
    return 0;
}

/* ---- sparse files ---- */

/* Four pairs in the header, 21 in each block that follows while a flag says so. */
static int old_sparse(struct bw_reader *r, const struct header *h) {
    const char *raw = (const char *)h;
    char block[BW_BLOCK];
    const char *pairs = raw + 386;
    size_t count = 4;
    bool more = raw[482] != 0;
    uint64_t offset = 0, length = 0;
    r->entry.span_count = 0;
    if (unsigned_field(r, raw + 483, 12, INT64_MAX, "a broken sparse size", &r->entry.real_size))
        return -1;
    for (;;) {
        for (size_t i = 0; i < count; i++, pairs += 24) {
            if (pairs[0] == 0)
                break;
            if (unsigned_field(r, pairs, 12, INT64_MAX, "a broken sparse map", &offset) ||
                unsigned_field(r, pairs + 12, 12, INT64_MAX, "a broken sparse map", &length) ||
                bw_add_span(r, offset, length))
                return -1;
        }
        if (!more)
            return 0;
        int there = want(r, BW_BLOCK);
        if (there <= 0)
            return there < 0 ? -1 : bw_malformed(r, "the archive is cut off");
        memcpy(block, r->data + r->start, BW_BLOCK);
        consume(r, BW_BLOCK);
        pairs = block;
        count = 21;
        more = block[504] != 0;
    }
}

/* Reads one number and its newline from the content. */
static int map_number(struct bw_reader *r, uint64_t *value, uint64_t *taken) {
    uint64_t sum = 0;
    for (int digits = 0;; digits++) {
        const unsigned char *byte;
        ssize_t got = bw_reader_take(r, 1, &byte);
        if (got < 0)
            return -1;
        if (got == 0 || digits > 19 || ++*taken > BW_SPECIAL_MAX)
            return bw_malformed(r, "a broken sparse map");
        if (*byte == '\n' && digits)
            break;
        if (*byte < '0' || *byte > '9' || sum > (INT64_MAX - 9) / 10)
            return bw_malformed(r, "a broken sparse map");
        sum = sum * 10 + (*byte - (unsigned)'0');
    }
    *value = sum;
    return 0;
}

/* PAX version 1.0: the map stands before the content, padded to a block. */
static int new_sparse(struct bw_reader *r) {
    uint64_t count, offset, length, taken = 0;
    const unsigned char *data;
    if (map_number(r, &count, &taken) < 0)
        return -1;
    if (count > BW_SPARSE_MAX)
        return bw_over_budget(r, "more than 65536 parts in a sparse file");
    while (count--)
        if (map_number(r, &offset, &taken) < 0 || map_number(r, &length, &taken) < 0 ||
            bw_add_span(r, offset, length) < 0)
            return -1;
    for (uint64_t rest = padding_of(taken); rest;) {
        ssize_t got = bw_reader_take(r, (size_t)rest, &data);
        if (got <= 0)
            return got < 0 ? -1 : bw_malformed(r, "a broken sparse map");
        rest -= (uint64_t)got;
    }
    return 0;
}

static int check_sparse(struct bw_reader *r) {
    struct bw_entry *e = &r->entry;
    uint64_t at = 0, sum = 0;
    for (size_t i = 0; i < e->span_count; i++) {
        struct bw_span span = r->spans[i];
        if (span.offset < at || span.length > e->real_size ||
            span.offset > e->real_size - span.length)
            return bw_malformed(r, "a sparse map that overlaps or leaves the file");
        at = span.offset + span.length;
        sum += span.length;
    }
    if (sum != r->body)
        return bw_malformed(r, "a sparse map that does not fit its content");
    e->size = r->body;
    e->spans = r->spans;
    return 0;
}

static int start_content(struct bw_reader *r, const struct header *h, const struct bw_pax *pax) {
    struct bw_entry *e = &r->entry;
    bool has_content = e->type == '0';
    e->sparse = has_content && (h->type == 'S' || pax->sparse);
    e->real_size = pax->has_real_size ? pax->real_size : e->size;
    /* An old GNU map lies between header and content. */
    if (h->type == 'S' && old_sparse(r, h) < 0)
        return -1;
    r->body = has_content ? e->size : 0;
    r->padding = has_content ? padding_of(e->size) : 0;
    if (!e->sparse) {
        e->real_size = r->body;
        return 0;
    }
    if (pax->has_pending)
        return bw_malformed(r, "a broken sparse map");
    if (pax->version_1 && h->type != 'S' && new_sparse(r) < 0)
        return -1;
    return check_sparse(r);
}

static int entry_type(struct bw_reader *r, char type) {
    switch (type) {
    case 0:
    case '0': {
        /* Before directories had a type of their own, a slash at the end said so. */
        size_t length = strlen(r->entry.name);
        return length && r->entry.name[length - 1] == '/' ? '5' : '0';
    }
    case '7':
    case 'S':
        return '0';
    case '1':
    case '2':
    case '3':
    case '4':
    case '5':
    case '6':
        return type;
    default:
        return bw_malformed(r, "an entry of unknown type");
    }
}

static int finish_entry(struct bw_reader *r, const struct header *h, const struct bw_pax *pax,
                        uint64_t size, const char *long_name, const char *long_link) {
    struct bw_entry *e = &r->entry;
    char header_link[sizeof h->link + 1];
    header_name(h, e->name);
    size_t length = strnlen(h->link, sizeof h->link);
    memcpy(header_link, h->link, length);
    header_link[length] = 0;
    const char *name = long_name ? long_name : pax->sparse_name ? pax->sparse_name : pax->path;
    const char *link = long_link ? long_link : pax->linkpath;
    if (set_name(r, e->name, name ? name : e->name, "the name is too long") < 0 ||
        set_name(r, e->link, link ? link : header_link, "the link's target is too long") < 0)
        return -1;
    int type = entry_type(r, h->type);
    if (type < 0)
        return -1;
    e->type = (char)type;
    e->size = pax->has_size ? pax->size : size;
    e->xattrs = r->xattrs;
    if (header_numbers(r, h, pax) < 0 || start_content(r, h, pax) < 0)
        return -1;
    return 1;
}

/* 1: *h is a header, 0: the end of the archive, -1: an error. */
static int next_header(struct bw_reader *r, struct header *h) {
    int there = want(r, BW_BLOCK);
    if (there < 0)
        return -1;
    if (there == 0)
        return r->start == r->end ? 0 : bw_malformed(r, "the archive is cut off");
    memcpy(h, r->data + r->start, BW_BLOCK);
    consume(r, BW_BLOCK);
    if (all_zero((unsigned char *)h))
        return 0;
    return checksum_right(h) ? 1 : bw_malformed(r, "not a tar archive, or damaged (checksum)");
}

static int scan_headers(struct bw_reader *r, struct bw_pax *pax, char **long_name,
                        char **long_link) {
    struct header h;
    uint64_t size = 0;
    /* A run of special entries without a real one is bounded like everything else. */
    for (int specials = 0; specials < 1024; specials++) {
        int there = next_header(r, &h);
        if (there <= 0)
            return there;
        if (unsigned_field(r, h.size, sizeof h.size, INT64_MAX, "a broken size", &size) < 0)
            return -1;
        int done = 0;
        if (h.type == 'x' || h.type == 'X')
            done = read_pax(r, size, pax);
        else if (h.type == 'L')
            done = read_long(r, size, long_name);
        else if (h.type == 'K')
            done = read_long(r, size, long_link);
        else if (h.type == 'g' || h.type == 'V') {
            if (size > BW_SPECIAL_MAX)
                return bw_over_budget(r, "a PAX header is larger than 1 MiB");
            done = skip(r, size + padding_of(size));
        } else
            return finish_entry(r, &h, pax, size, *long_name, *long_link);
        if (done < 0)
            return -1;
    }
    return bw_over_budget(r, "more than 1024 headers for one entry");
}

int bw_reader_next(struct bw_reader *r) {
    struct bw_pax pax = {0};
    char *long_name = NULL, *long_link = NULL;
    if (skip(r, r->body) < 0 || skip(r, r->padding) < 0)
        return -1;
    r->body = r->padding = 0;
    r->entry.xattr_count = r->entry.span_count = 0;
    int there = scan_headers(r, &pax, &long_name, &long_link);
    free(long_name);
    free(long_link);
    return there;
}
