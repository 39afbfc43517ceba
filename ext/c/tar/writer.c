#include "bw_writer.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/sendfile.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#define BLOCK 512
#define SEND_MIN (128u << 10)  /* bytes from which sendfile(2) beats a copy through the buffer */
#define SEND_PIECE (1u << 30)
#define OCTAL_7 07777777ull    /* what a field of seven digits and a NUL holds */
#define OCTAL_11 077777777777ull

/* The ustar header (pax(1), "ustar Interchange Format"). */
struct header {
    char name[100], mode[8], uid[8], gid[8], size[12], mtime[12], checksum[8], type, link[100];
    char magic[8], uname[32], gname[32], major[8], minor[8], prefix[155], rest[12];
};

static int fail(struct bw_writer *writer, int errnum) {
    if (!writer->errnum)
        writer->errnum = errnum;
    return -1;
}

int bw_writer_open(struct bw_writer *writer, int fd) {
    struct stat st = {0};
    *writer = (struct bw_writer){.errnum = 0};
    /* Into a file it would be slower than a copy: it goes through a pipe of the kernel's own. */
    writer->streams = !fstat(fd, &st) && (S_ISFIFO(st.st_mode) || S_ISSOCK(st.st_mode));
    if (S_ISFIFO(st.st_mode))
        (void)fcntl(fd, F_SETPIPE_SZ, 1 << 20); /* fewer turns of both sides; a wish */
    writer->records = malloc(BW_WRITER_RECORDS);
    if (bw_outlet_open(&writer->outlet, fd) || !writer->records) {
        bw_writer_close(writer);
        return fail(writer, ENOMEM);
    }
    return 0;
}

void bw_writer_close(struct bw_writer *writer) {
    bw_outlet_close(&writer->outlet);
    free(writer->records);
    writer->records = NULL;
}

int bw_writer_flush(struct bw_writer *writer) {
    int errnum = bw_outlet_flush(&writer->outlet);
    return errnum ? fail(writer, errnum) : 0;
}

/* `size` bytes more are in the buffer. */
static int filled(struct bw_writer *writer, size_t size) {
    struct bw_outlet *outlet = &writer->outlet;
    writer->size += size;
    outlet->used += size;
    int errnum = outlet->used == BW_OUTLET_SIZE ? bw_outlet_full(outlet) : 0;
    return errnum ? fail(writer, errnum) : 0;
}

/* Where the next bytes go, and how many of `size` the buffer has room for. */
static unsigned char *room_for(const struct bw_writer *writer, uint64_t size, size_t *part) {
    size_t room = BW_OUTLET_SIZE - writer->outlet.used;
    *part = size < room ? (size_t)size : room;
    return writer->outlet.buffer + writer->outlet.used;
}

int bw_writer_put(struct bw_writer *writer, const void *data, size_t size) {
    const unsigned char *from = data;
    while (size) {
        size_t part;
        unsigned char *to = room_for(writer, size, &part);
        memcpy(to, from, part);
        from += part;
        size -= part;
        if (filled(writer, part) < 0)
            return -1;
    }
    return 0;
}

int bw_writer_zeros(struct bw_writer *writer, uint64_t size) {
    while (size) {
        size_t part;
        unsigned char *to = room_for(writer, size, &part);
        memset(to, 0, part);
        size -= part;
        if (filled(writer, part) < 0)
            return -1;
    }
    return 0;
}

int bw_writer_pad(struct bw_writer *writer, uint64_t size) {
    return bw_writer_zeros(writer, (BLOCK - size % BLOCK) % BLOCK);
}

int bw_writer_end(struct bw_writer *writer) {
    if (bw_writer_zeros(writer, 2 * BLOCK) < 0)
        return -1;
    return bw_writer_flush(writer);
}

/* In the kernel, from the page cache into the pipe or file. -1 with errnum 0: not with these. */
static int64_t send_some(struct bw_writer *writer, int fd, uint64_t offset, uint64_t size) {
    off_t at = (off_t)offset;
    uint64_t done = 0;
    while (done < size) {
        size_t want = size - done < SEND_PIECE ? (size_t)(size - done) : SEND_PIECE;
        ssize_t count = sendfile(writer->outlet.fd, fd, &at, want);
        if (count < 0 && errno == EINTR)
            continue;
        if (count < 0 && !done && (errno == EINVAL || errno == ENOSYS || errno == EOVERFLOW))
            return -1;
        if (count < 0)
            return fail(writer, errno);
        if (!count)
            break;
        done += (uint64_t)count;
        writer->size += (uint64_t)count;
    }
    return (int64_t)done;
}

static int64_t copy_some(struct bw_writer *writer, int fd, uint64_t offset, uint64_t size) {
    uint64_t done = 0;
    while (done < size) {
        size_t part;
        unsigned char *to = room_for(writer, size - done, &part);
        ssize_t count = pread(fd, to, part, (off_t)(offset + done));
        if (count < 0 && errno == EINTR)
            continue;
        if (count < 0)
            return fail(writer, errno);
        if (!count)
            break;
        done += (uint64_t)count;
        if (filled(writer, (size_t)count) < 0)
            return -1;
    }
    return (int64_t)done;
}

int bw_writer_file(struct bw_writer *writer, int fd, uint64_t offset, uint64_t size) {
    int64_t done = -1;
    if (writer->streams && size >= SEND_MIN) {
        if (bw_writer_flush(writer) < 0)
            return -1;
        done = send_some(writer, fd, offset, size);
        if (done < 0 && writer->errnum)
            return -1;
    }
    if (done < 0)
        done = copy_some(writer, fd, offset, size);
    if (done < 0)
        return -1;
    writer->missing += size - (uint64_t)done;
    return bw_writer_zeros(writer, size - (uint64_t)done);
}

static void octal(char *field, size_t digits, uint64_t value) {
    for (size_t i = digits; i--; value >>= 3)
        field[i] = (char)('0' + (value & 7));
}

static void checksum(struct header *block) {
    const unsigned char *bytes = (const unsigned char *)block;
    unsigned sum = 0;
    memset(block->checksum, ' ', sizeof block->checksum);
    for (size_t i = 0; i < sizeof *block; i++)
        sum += bytes[i];
    octal(block->checksum, 6, sum);
    block->checksum[6] = 0;
}

/* Name and prefix where they fit: 0, else -1 and the name's end that does. */
static int split_name(struct header *block, const char *name, size_t length) {
    if (length <= sizeof block->name) {
        memcpy(block->name, name, length);
        return 0;
    }
    /* The last slash that leaves a name short enough. The one that ends a directory's does not
     * count: nothing would be left. */
    for (size_t at = length - 1; at--;) {
        if (name[at] != '/')
            continue;
        if (length - at - 1 > sizeof block->name)
            break;
        if (at && at <= sizeof block->prefix) {
            memcpy(block->prefix, name, at);
            memcpy(block->name, name + at + 1, length - at - 1);
            return 0;
        }
    }
    memcpy(block->name, name, sizeof block->name);
    return -1;
}

/* "LENGTH KEY=VALUE\n", the length counting itself. */
static int record(struct bw_writer *writer, const char *key, const void *value, size_t size) {
    size_t body = strlen(key) + size + 3, total = body + 1;
    char digits[24];
    for (;;) {
        size_t grown = body + (size_t)snprintf(digits, sizeof digits, "%zu", total);
        if (grown == total)
            break;
        total = grown;
    }
    if (total > BW_WRITER_RECORDS - writer->records_used)
        return fail(writer, E2BIG);
    char *out = writer->records + writer->records_used;
    out += sprintf(out, "%zu %s=", total, key);
    memcpy(out, value, size);
    out[size] = '\n';
    writer->records_used += total;
    return 0;
}

static int number(struct bw_writer *writer, const char *key, uint64_t value) {
    char text[24];
    int length = snprintf(text, sizeof text, "%llu", (unsigned long long)value);
    return record(writer, key, text, (size_t)length);
}

/* Seconds with their fraction, no zeros at its end. A time before 1970 counts downwards: -0.5 is
 * second -1 and 500,000,000 ns. */
static int moment(struct bw_writer *writer, const char *key, struct timespec time) {
    char text[48];
    long long seconds = time.tv_sec;
    long nanos = time.tv_nsec;
    const char *sign = "";
    if (seconds < 0) {
        sign = "-";
        seconds = -seconds;
        if (nanos) {
            seconds--;
            nanos = 1000000000 - nanos;
        }
    }
    int length = snprintf(text, sizeof text, "%s%lld.%09ld", sign, seconds, nanos);
    while (text[length - 1] == '0')
        length--;
    if (text[length - 1] == '.')
        length--;
    return record(writer, key, text, (size_t)length);
}

static bool is_escape(const char *at) {
    return !strncmp(at, "%3D", 3) || !strncmp(at, "%25", 3);
}

/* A record's key ends at its first '='. GNU tar writes one in a name as %3D, and % as %25; here so
 * only where it must be, for other readers take names as they are. */
static void xattr_key(char *out, const char *name) {
    bool escapes = strchr(name, '=') != NULL;
    for (const char *at = name; *at && !escapes; at++)
        escapes = is_escape(at);
    out += sprintf(out, "SCHILY.xattr.");
    for (; *name; name++) {
        if (escapes && (*name == '=' || *name == '%'))
            out += sprintf(out, "%%%02X", (unsigned)(unsigned char)*name);
        else
            *out++ = *name;
    }
    *out = 0;
}

static int xattr_records(struct bw_writer *writer, const struct bw_head *head) {
    const unsigned char *at = head->xattrs, *end = at + head->xattrs_size;
    char key[800]; /* names have 255 bytes at most */
    while (at < end) {
        uint32_t length;
        size_t name = strlen((const char *)at);
        xattr_key(key, (const char *)at);
        at += name + 1;
        memcpy(&length, at, sizeof length);
        at += sizeof length;
        if (record(writer, key, at, length) < 0)
            return -1;
        at += length;
    }
    return 0;
}

/* The part of the name that a PAX header and a sparse file's own header are called by. */
static const char *tail_of(const char *name) {
    size_t length = strlen(name);
    return length > 80 ? name + length - 80 : name;
}

static int device_records(struct bw_writer *writer, const struct bw_head *head,
                          struct header *block) {
    unsigned numbers[2] = {0, 0};
    if (head->type == '3' || head->type == '4') {
        numbers[0] = major(head->st->st_rdev);
        numbers[1] = minor(head->st->st_rdev);
    }
    octal(block->major, 7, numbers[0]);
    octal(block->minor, 7, numbers[1]);
    if (numbers[0] > OCTAL_7 && number(writer, "SCHILY.devmajor", numbers[0]) < 0)
        return -1;
    return numbers[1] > OCTAL_7 ? number(writer, "SCHILY.devminor", numbers[1]) : 0;
}

static int sparse_records(struct bw_writer *writer, const struct bw_head *head) {
    if (record(writer, "GNU.sparse.major", "1", 1) < 0 ||
        record(writer, "GNU.sparse.minor", "0", 1) < 0 ||
        record(writer, "GNU.sparse.name", head->name, strlen(head->name)) < 0)
        return -1;
    return number(writer, "GNU.sparse.realsize", head->real_size);
}

/* Fills the header and collects the records of what does not fit. */
static int describe(struct bw_writer *writer, const struct bw_head *head, struct header *block) {
    const struct stat *st = head->st;
    size_t link = head->link ? strlen(head->link) : 0;
    char name[4200];
    int length = snprintf(name, sizeof name, "%s%s%s", head->real_size ? "GNUSparseFile.0/" : "",
                          head->real_size ? tail_of(head->name) : head->name,
                          head->type == '5' && strcmp(head->name, "/") ? "/" : "");
    if (length < 0 || (size_t)length >= sizeof name)
        return fail(writer, ENAMETOOLONG);
    if (split_name(block, name, (size_t)length) < 0 &&
        record(writer, "path", name, (size_t)length) < 0)
        return -1;
    if (link)
        memcpy(block->link, head->link, link < sizeof block->link ? link : sizeof block->link);
    if (link > sizeof block->link && record(writer, "linkpath", head->link, link) < 0)
        return -1;
    octal(block->mode, 7, st->st_mode & 07777);
    octal(block->uid, 7, st->st_uid <= OCTAL_7 ? st->st_uid : 0);
    octal(block->gid, 7, st->st_gid <= OCTAL_7 ? st->st_gid : 0);
    octal(block->size, 11, head->size <= OCTAL_11 ? head->size : 0);
    int plain_time = st->st_mtim.tv_sec >= 0 && (uint64_t)st->st_mtim.tv_sec <= OCTAL_11;
    octal(block->mtime, 11, plain_time ? (uint64_t)st->st_mtim.tv_sec : 0);
    if (device_records(writer, head, block) < 0 ||
        (head->real_size && sparse_records(writer, head) < 0) ||
        (st->st_gid > OCTAL_7 && number(writer, "gid", st->st_gid) < 0) ||
        ((!plain_time || st->st_mtim.tv_nsec) && moment(writer, "mtime", st->st_mtim) < 0) ||
        (head->size > OCTAL_11 && number(writer, "size", head->size) < 0) ||
        (st->st_uid > OCTAL_7 && number(writer, "uid", st->st_uid) < 0))
        return -1;
    return xattr_records(writer, head);
}

static void finish(struct header *block, char type) {
    block->type = type;
    memcpy(block->magic, "ustar\00000", 8);
    checksum(block);
}

static int put_records(struct bw_writer *writer, const char *name) {
    struct header block = {0};
    char path[100];
    int length = snprintf(path, sizeof path, "PaxHeaders/%s", tail_of(name));
    memcpy(block.name, path, (size_t)length);
    octal(block.mode, 7, 0644);
    octal(block.uid, 7, 0);
    octal(block.gid, 7, 0);
    octal(block.size, 11, writer->records_used);
    octal(block.mtime, 11, 0);
    octal(block.major, 7, 0);
    octal(block.minor, 7, 0);
    finish(&block, 'x');
    if (bw_writer_put(writer, &block, sizeof block) < 0 ||
        bw_writer_put(writer, writer->records, writer->records_used) < 0)
        return -1;
    return bw_writer_pad(writer, writer->records_used);
}

int bw_writer_head(struct bw_writer *writer, const struct bw_head *head) {
    struct header block = {0};
    _Static_assert(sizeof block == BLOCK, "a header is a block");
    writer->records_used = 0;
    if (describe(writer, head, &block) < 0)
        return -1;
    if (writer->records_used && put_records(writer, head->name) < 0)
        return -1;
    finish(&block, head->type);
    writer->entries++;
    return bw_writer_put(writer, &block, sizeof block);
}
