/* The least that unpacking can cost: a tar, as GNU tar and ours write it, put into files as it
 * comes. Nothing is verified, nothing is safe: for archives that we made ourselves, and no others.
 * Built by tests/bench/floor.py. */
#include <fcntl.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#define TEXT (64u << 10)

struct floor {
    int root, file;
    char header[512];
    size_t have;           /* bytes of the header */
    uint64_t left, padding; /* of the entry's content */
    char kind;             /* of the entry whose content comes */
    char text[TEXT];       /* of PAX records or a GNU long name */
    size_t text_used;
    char name[4096], link[4096]; /* for the next entry, "": its own */
    uint64_t size;
    int64_t seconds;
    long nanos;
    bool has_size, has_time;
    struct timespec times[2];
};

static uint64_t number(const char *field, size_t size) {
    uint64_t value = 0;
    if (*field & 0x80) { /* GNU's base 256 */
        for (size_t i = 1; i < size; i++)
            value = value << 8 | (unsigned char)field[i];
        return value;
    }
    for (size_t i = 0; i < size && field[i]; i++)
        if (field[i] != ' ')
            value = value * 8 + (uint64_t)(field[i] - '0');
    return value;
}

static void records(struct floor *floor) {
    for (char *at = floor->text, *end = at + floor->text_used; at < end;) {
        char *key, *value, *next = at + strtoul(at, &key, 10);
        if (next <= at || next > end || !(value = strchr(++key, '=')))
            return;
        *value++ = 0;
        next[-1] = 0;
        if (!strcmp(key, "path"))
            snprintf(floor->name, sizeof floor->name, "%s", value);
        else if (!strcmp(key, "linkpath"))
            snprintf(floor->link, sizeof floor->link, "%s", value);
        else if (!strcmp(key, "size")) {
            floor->size = strtoull(value, NULL, 10);
            floor->has_size = true;
        } else if (!strcmp(key, "mtime")) {
            char *point, digits[10] = "000000000";
            floor->seconds = strtoll(value, &point, 10);
            if (*point == '.')
                memcpy(digits, point + 1, strnlen(point + 1, 9));
            floor->nanos = strtol(digits, NULL, 10);
            floor->has_time = true;
        }
        at = next;
    }
}

static int own(struct floor *floor, const char *name, bool mode) {
    const char *header = floor->header;
    if (fchownat(floor->root, name, (uid_t)number(header + 108, 8), (gid_t)number(header + 116, 8),
                 AT_SYMLINK_NOFOLLOW))
        return -1;
    if (mode && fchmodat(floor->root, name, (mode_t)number(header + 100, 8), 0))
        return -1;
    return utimensat(floor->root, name, floor->times, AT_SYMLINK_NOFOLLOW);
}

static int special(struct floor *floor, char type, const char *name) {
    static const mode_t kinds[] = {S_IFCHR, S_IFBLK, 0, S_IFIFO};
    const char *header = floor->header;
    dev_t device = makedev((unsigned)number(header + 329, 8), (unsigned)number(header + 337, 8));
    return mknodat(floor->root, name, kinds[type - '3'] | 0600, device) || own(floor, name, true);
}

/* The header is whole. */
static int begin(struct floor *floor) {
    const char *header = floor->header;
    char name[4096], link[4096], type = header[156] ? header[156] : '0';
    if (!header[0]) /* the end */
        return 0;
    floor->left = number(header + 124, 12);
    floor->kind = type;
    if (strchr("xgLK", type)) {
        floor->text_used = 0;
        floor->padding = -floor->left & 511;
        return floor->left < TEXT ? 0 : -1;
    }
    if (floor->has_size)
        floor->left = floor->size;
    floor->padding = -floor->left & 511;
    if (floor->name[0])
        snprintf(name, sizeof name, "%s", floor->name);
    else if (!memcmp(header + 257, "ustar", 6) && header[345])
        snprintf(name, sizeof name, "%.155s/%.100s", header + 345, header);
    else
        snprintf(name, sizeof name, "%.100s", header);
    if (floor->link[0])
        snprintf(link, sizeof link, "%s", floor->link);
    else
        snprintf(link, sizeof link, "%.100s", header + 157);
    floor->times[0] = floor->times[1] =
        floor->has_time ? (struct timespec){floor->seconds, floor->nanos}
                        : (struct timespec){(time_t)number(header + 136, 12), 0};
    floor->name[0] = floor->link[0] = 0;
    floor->has_size = floor->has_time = false;
    if (type == '5') {
        (void)mkdirat(floor->root, name, 0700); /* "./" is there */
        return own(floor, name, true);
    }
    if (type == '1')
        return linkat(floor->root, link, floor->root, name, 0);
    if (type == '2')
        return symlinkat(link, floor->root, name) || own(floor, name, false);
    if (type == '3' || type == '4' || type == '6')
        return special(floor, type, name);
    floor->file = openat(floor->root, name, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    if (floor->file < 0)
        /* Archives that name files and not the directories above them. */
        for (char *slash = strchr(name, '/'); slash; slash = strchr(slash + 1, '/')) {
            *slash = 0;
            (void)mkdirat(floor->root, name, 0755);
            *slash = '/';
        }
    if (floor->file < 0)
        floor->file = openat(floor->root, name, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    return floor->file < 0 ? -1 : 0;
}

/* The content is whole. */
static int end(struct floor *floor) {
    const char *header = floor->header;
    floor->text[floor->text_used] = 0;
    if (floor->kind == 'x')
        records(floor);
    else if (floor->kind == 'L')
        snprintf(floor->name, sizeof floor->name, "%s", floor->text);
    else if (floor->kind == 'K')
        snprintf(floor->link, sizeof floor->link, "%s", floor->text);
    if (floor->file < 0)
        return 0;
    int status = fchown(floor->file, (uid_t)number(header + 108, 8), (gid_t)number(header + 116, 8));
    if (!status)
        status = fchmod(floor->file, (mode_t)number(header + 100, 8));
    if (!status)
        status = futimens(floor->file, floor->times);
    close(floor->file);
    floor->file = -1;
    return status;
}

static int take(struct floor *floor, const char *data, size_t size) {
    if (floor->file >= 0)
        return write(floor->file, data, size) == (ssize_t)size ? 0 : -1;
    if (!strchr("xgLK", floor->kind))
        return 0;
    memcpy(floor->text + floor->text_used, data, size);
    floor->text_used += size;
    return 0;
}

/* NULL: no memory. The descriptor stays the caller's. */
struct floor *floor_open(int root) {
    struct floor *floor = calloc(1, sizeof *floor);
    if (floor)
        *floor = (struct floor){.root = root, .file = -1};
    return floor;
}

/* The next bytes of the archive. 0, or -1 with errno. */
int floor_feed(struct floor *floor, const char *data, size_t size) {
    while (size) {
        size_t part;
        if (floor->left) {
            part = size < floor->left ? size : (size_t)floor->left;
            if (take(floor, data, part))
                return -1;
            floor->left -= part;
            if (!floor->left && end(floor))
                return -1;
        } else if (floor->padding) {
            part = size < floor->padding ? size : (size_t)floor->padding;
            floor->padding -= part;
        } else {
            part = size < 512 - floor->have ? size : 512 - floor->have;
            memcpy(floor->header + floor->have, data, part);
            floor->have += part;
            if (floor->have == 512) {
                floor->have = 0;
                if (begin(floor) || (!floor->left && end(floor)))
                    return -1;
            }
        }
        data += part;
        size -= part;
    }
    return 0;
}

void floor_close(struct floor *floor) {
    if (floor->file >= 0)
        close(floor->file);
    free(floor);
}
