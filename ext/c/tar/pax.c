/* PAX records (POSIX.1-2008 pax(1), "pax Extended Header") and what GNU tar, star and libarchive
 * put into them: sparse maps, extended attributes. */
#include "internal.h"

#include <stdlib.h>
#include <string.h>

/* Decimal digits up to `stop`; *end is left at it. */
static int decimal(const char *text, uint64_t limit, uint64_t *value, const char **end) {
    uint64_t sum = 0;
    const char *at = text;
    for (; *at >= '0' && *at <= '9'; at++) {
        unsigned digit = (unsigned)(*at - '0');
        if (sum > (limit - digit) / 10)
            return -1;
        sum = sum * 10 + digit;
    }
    *value = sum;
    *end = at;
    return at == text ? -1 : 0;
}

static int whole(const char *text, uint64_t limit, uint64_t *value) {
    const char *end;
    return decimal(text, limit, value, &end) < 0 || *end ? -1 : 0;
}

static int pax_time(const char *text, int64_t *seconds, uint32_t *nsec) {
    bool negative = *text == '-';
    uint64_t value;
    uint32_t fraction = 0, scale = 100000000;
    const char *at;
    if (decimal(text + negative, INT64_MAX / 2, &value, &at) < 0)
        return -1;
    if (*at == '.')
        for (at++; *at >= '0' && *at <= '9'; at++, scale /= 10)
            fraction += (uint32_t)(*at - '0') * scale;
    if (*at)
        return -1;
    *seconds = negative ? -(int64_t)value : (int64_t)value;
    *nsec = fraction;
    if (negative && fraction) {
        *seconds -= 1;
        *nsec = 1000000000 - fraction;
    }
    return 0;
}

int bw_add_span(struct bw_reader *r, uint64_t offset, uint64_t length) {
    struct bw_entry *e = &r->entry;
    if (e->span_count == BW_SPARSE_MAX)
        return bw_over_budget(r, "more than 65536 parts in a sparse file");
    if (e->span_count == r->span_room) {
        size_t room = r->span_room ? r->span_room * 2 : 64;
        struct bw_span *spans = realloc(r->spans, room * sizeof *spans);
        if (spans == NULL)
            return bw_no_memory(r);
        r->spans = spans;
        r->span_room = room;
    }
    r->spans[e->span_count++] = (struct bw_span){offset, length};
    return 0;
}

static int sparse_list(struct bw_reader *r, const char *text) {
    while (*text) {
        uint64_t offset, length;
        const char *at;
        if (decimal(text, INT64_MAX, &offset, &at) < 0 || *at != ',' ||
            decimal(at + 1, INT64_MAX, &length, &at) < 0 || (*at != ',' && *at))
            return bw_malformed(r, "a broken sparse map");
        if (bw_add_span(r, offset, length) < 0)
            return -1;
        text = *at ? at + 1 : at;
    }
    return 0;
}

static int pax_sparse(struct bw_reader *r, struct bw_pax *pax, const char *key, const char *value) {
    uint64_t n;
    pax->sparse = true;
    if (!strcmp(key, "name"))
        pax->sparse_name = value;
    else if (!strcmp(key, "map"))
        return sparse_list(r, value);
    else if (!strcmp(key, "major"))
        pax->version_1 = !strcmp(value, "1");
    else if (!strcmp(key, "realsize") || !strcmp(key, "size")) {
        if (whole(value, INT64_MAX, &pax->real_size) < 0)
            return bw_malformed(r, "a broken sparse size");
        pax->has_real_size = true;
    } else if (!strcmp(key, "offset")) {
        if (whole(value, INT64_MAX, &pax->pending_offset) < 0 || pax->has_pending)
            return bw_malformed(r, "a broken sparse map");
        pax->has_pending = true;
    } else if (!strcmp(key, "numbytes")) {
        if (whole(value, INT64_MAX, &n) < 0 || !pax->has_pending)
            return bw_malformed(r, "a broken sparse map");
        pax->has_pending = false;
        return bw_add_span(r, pax->pending_offset, n);
    }
    return 0;
}

static int base64_value(char c) {
    if (c >= 'A' && c <= 'Z')
        return c - 'A';
    if (c >= 'a' && c <= 'z')
        return c - 'a' + 26;
    if (c >= '0' && c <= '9')
        return c - '0' + 52;
    return c == '+' ? 62 : c == '/' ? 63 : -1;
}

/* In place; stops at the padding. -1: other characters. */
static ssize_t decode_base64(char *text, size_t length) {
    uint32_t bits = 0;
    int have = 0;
    size_t out = 0;
    while (length && text[length - 1] == '=')
        length--;
    for (size_t i = 0; i < length; i++) {
        int value = base64_value(text[i]);
        if (value < 0)
            return -1;
        bits = bits << 6 | (uint32_t)value;
        have += 6;
        if (have >= 8) {
            have -= 8;
            text[out++] = (char)(bits >> have);
            bits &= (1u << have) - 1;
        }
    }
    return (ssize_t)out;
}

static int add_xattr(struct bw_reader *r, const char *name, const char *value, size_t length) {
    struct bw_entry *e = &r->entry;
    if (e->xattr_count == BW_XATTRS_MAX)
        return bw_over_budget(r, "more than 512 extended attributes");
    if (!*name || strlen(name) > BW_COMPONENT_MAX || length > 65536)
        return bw_over_budget(r, "an extended attribute is too long");
    r->xattrs[e->xattr_count++] = (struct bw_xattr){name, value, length};
    return 0;
}

/* Names with '=' and '%' as GNU tar writes them; in place, shorter. */
static char *plain_name(char *name) {
    char *out = name;
    for (const char *at = name; *at;) {
        bool equals = !strncmp(at, "%3D", 3), percent = !strncmp(at, "%25", 3);
        *out++ = equals ? '=' : *at;
        at += equals || percent ? 3 : 1;
    }
    *out = 0;
    return name;
}

static int pax_record(struct bw_reader *r, struct bw_pax *pax, char *key, char *value,
                      size_t length) {
    static const char schily[] = "SCHILY.xattr.", libarchive[] = "LIBARCHIVE.xattr.";
    if (!strncmp(key, schily, sizeof schily - 1))
        return add_xattr(r, plain_name(key + sizeof schily - 1), value, length);
    if (!strncmp(key, libarchive, sizeof libarchive - 1)) {
        ssize_t decoded = decode_base64(value, length);
        if (decoded < 0)
            return bw_malformed(r, "a broken extended attribute");
        return add_xattr(r, key + sizeof libarchive - 1, value, (size_t)decoded);
    }
    if (length == 0)
        return 0; /* takes a value of a global header back; those are not kept */
    if (strlen(value) != length)
        return bw_malformed(r, "a zero byte in a PAX value");
    if (!strcmp(key, "path"))
        pax->path = value;
    else if (!strcmp(key, "linkpath"))
        pax->linkpath = value;
    else if (!strcmp(key, "size")) {
        pax->has_size = true;
        return whole(value, INT64_MAX, &pax->size) < 0 ? bw_malformed(r, "a broken PAX size") : 0;
    } else if (!strcmp(key, "uid")) {
        pax->has_uid = true;
        return whole(value, UINT32_MAX - 1, &pax->uid) < 0 ? bw_malformed(r, "a broken uid") : 0;
    } else if (!strcmp(key, "gid")) {
        pax->has_gid = true;
        return whole(value, UINT32_MAX - 1, &pax->gid) < 0 ? bw_malformed(r, "a broken gid") : 0;
    } else if (!strcmp(key, "mtime")) {
        pax->has_mtime = true;
        return pax_time(value, &pax->mtime, &pax->nsec) < 0 ? bw_malformed(r, "a broken mtime") : 0;
    } else if (!strncmp(key, "GNU.sparse.", 11))
        return pax_sparse(r, pax, key + 11, value);
    return 0;
}

/* "LENGTH KEY=VALUE\n", LENGTH counting all of it. */
int bw_parse_pax(struct bw_reader *r, struct bw_pax *pax, char *text, size_t size) {
    char *end = text + size;
    while (text < end) {
        uint64_t length;
        const char *at;
        if (*text == 0) /* padding that somebody counted as content */
            return 0;
        if (decimal(text, size, &length, &at) < 0 || *at != ' ' ||
            length > (uint64_t)(end - text) || length < (uint64_t)(at - text) + 3 ||
            text[length - 1] != '\n')
            return bw_malformed(r, "a broken PAX record");
        char *key = text + (at - text) + 1;
        char *equals = memchr(key, '=', (size_t)(text + length - 1 - key));
        if (equals == NULL || equals == key || memchr(key, 0, (size_t)(equals - key)))
            return bw_malformed(r, "a broken PAX record");
        *equals = 0;
        text[length - 1] = 0;
        if (pax_record(r, pax, key, equals + 1, (size_t)(text + length - 1 - equals - 1)) < 0)
            return -1;
        text += length;
    }
    return 0;
}
