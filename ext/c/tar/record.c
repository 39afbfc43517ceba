/* What the bytes of an archive can be made of again, beside the files that came out of it: the
 * records of docs/layers.md, "Recipes", uncompressed. All bytes that are no file's content stand
 * in literal records; a file's content is named by its path and size. */
#include "internal.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define ROOM (128u << 10)
#define HEAD 5 /* 'L', and the length in 32 bits */
/* Of files that go again in the same layer, whose content is kept in the recipe. Who makes a tar of
 * it again holds that many bytes in memory. */
#define KEPT_FILES 4096u
#define KEPT_BYTES (16u << 20)

struct bw_record {
    int fd;
    bool complete;
    bool literal; /* the last record in the buffer is an open literal */
    size_t literal_at;
    size_t used;
    uint64_t covered; /* bytes of the archive that the records stand for */
    struct bw_hashes files; /* numbers of the inodes that records name */
    uint64_t *inodes;       /* the same in the order of the records; 0: kept since */
    size_t count, room;
    unsigned kept;
    uint64_t kept_bytes;
    unsigned char buffer[ROOM];
};

struct bw_record *bw_record_new(int fd) {
    struct bw_record *record = malloc(sizeof *record);
    if (record == NULL)
        return NULL;
    record->fd = fd;
    record->complete = true;
    record->literal = false;
    record->literal_at = record->used = 0;
    record->covered = 0;
    record->files = (struct bw_hashes){0};
    record->inodes = NULL;
    record->count = record->room = record->kept = record->kept_bytes = 0;
    return record;
}

static void little_endian(unsigned char *into, uint64_t value, int bytes) {
    for (int i = 0; i < bytes; i++, value >>= 8)
        into[i] = (unsigned char)value;
}

static void close_literal(struct bw_record *record) {
    if (record->literal)
        little_endian(record->buffer + record->literal_at + 1,
                      record->used - record->literal_at - HEAD, 4);
    record->literal = false;
}

static void flush(struct bw_record *record) {
    close_literal(record);
    const unsigned char *at = record->buffer;
    while (record->used && record->complete) {
        ssize_t done = write(record->fd, at, record->used);
        if (done < 0 && errno == EINTR)
            continue;
        if (done < 0) {
            /* Without a recipe the layer is as good; only its blob has to be kept. */
            record->complete = false;
            break;
        }
        at += done;
        record->used -= (size_t)done;
    }
    record->used = 0;
}

bool bw_record_finish(struct bw_record *record, uint64_t stream_bytes) {
    flush(record);
    return record->complete && record->covered == stream_bytes;
}

void bw_record_free(struct bw_record *record) {
    if (record != NULL) {
        free(record->files.slots);
        free(record->inodes);
    }
    free(record);
}

void bw_record_literal(struct bw_record *record, const unsigned char *data, size_t length) {
    while (length && record->complete) {
        if (record->used + HEAD + 1 > ROOM)
            flush(record);
        if (!record->literal) {
            record->literal = true;
            record->literal_at = record->used;
            record->buffer[record->used] = 'L';
            record->used += HEAD;
        }
        size_t part = ROOM - record->used < length ? ROOM - record->used : length;
        memcpy(record->buffer + record->used, data, part);
        record->used += part;
        record->covered += part;
        data += part;
        length -= part;
    }
}

static int remember(struct bw_record *record, uint64_t inode) {
    if (record->count == record->room) {
        size_t room = record->room ? record->room * 2 : 1024;
        uint64_t *grown = realloc(record->inodes, room * sizeof *grown);
        if (grown == NULL)
            return -1;
        record->inodes = grown;
        record->room = room;
    }
    record->inodes[record->count++] = inode;
    return bw_hashes_add_number(&record->files, inode);
}

void bw_record_file(struct bw_record *record, const char *path, uint64_t size, uint64_t inode) {
    size_t length = strlen(path), need = 1 + 8 + 2 + length;
    if (!record->complete)
        return;
    if (remember(record, inode) < 0) {
        record->complete = false;
        return;
    }
    close_literal(record);
    if (record->used + need > ROOM)
        flush(record);
    unsigned char *at = record->buffer + record->used;
    *at = 'F';
    little_endian(at + 1, size, 8);
    little_endian(at + 9, length, 2);
    memcpy(at + 11, path, length);
    record->used += need;
    record->covered += size;
}

/* The number of the record that names a file, the last one: numbers of inodes are used again. -1:
 * none does any more. */
static ssize_t number_of(const struct bw_record *record, uint64_t inode) {
    if (!bw_hashes_has_number(&record->files, inode))
        return -1;
    for (size_t i = record->count; i-- > 0;)
        if (record->inodes[i] == inode)
            return (ssize_t)i;
    return -1;
}

static bool copy_in(struct bw_record *record, int fd, uint64_t size) {
    while (size && record->complete) {
        if (record->used == ROOM)
            flush(record);
        size_t part = ROOM - record->used < size ? ROOM - record->used : (size_t)size;
        ssize_t got = read(fd, record->buffer + record->used, part);
        if (got < 0 && errno == EINTR)
            continue;
        if (got <= 0)
            return false;
        record->used += (size_t)got;
        size -= (uint64_t)got;
    }
    return record->complete;
}

static bool keep(struct bw_record *record, size_t number, int fd, uint64_t size) {
    enum { KEPT_HEAD = 1 + 4 + 8 };
    if (++record->kept > KEPT_FILES || (record->kept_bytes += size) > KEPT_BYTES)
        return false;
    close_literal(record);
    if (record->used + KEPT_HEAD > ROOM)
        flush(record);
    unsigned char *at = record->buffer + record->used;
    *at = 'K';
    little_endian(at + 1, number, 4);
    little_endian(at + 5, size, 8);
    record->used += KEPT_HEAD;
    return copy_in(record, fd, size);
}

void bw_record_removed(struct bw_record *record, int dir_fd, const char *name,
                       const struct stat *st) {
    ssize_t number = record->complete ? number_of(record, st->st_ino) : -1;
    if (number < 0)
        return;
    int fd = openat(dir_fd, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
    record->complete = fd >= 0 && number <= UINT32_MAX &&
                       keep(record, (size_t)number, fd, (uint64_t)st->st_size);
    /* By its other names it may go once more. */
    record->inodes[number] = 0;
    if (fd >= 0)
        close(fd);
}

unsigned bw_record_kept(const struct bw_record *record) {
    return record->kept;
}
