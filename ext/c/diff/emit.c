/* Entries of the archive, or lines of the list. */
#include "internal.h"

#include <stdio.h>
#include <stdlib.h>

#define SPARSE_FREE (64u << 10) /* bytes of holes that are not worth a map */
#define SPARSE_SPANS 8192

/* On a mount without devices (MOUNT_ATTR_NODEV) one call is enough, at half of the cost. -1: it is
 * no regular file, or lies on another mount. */
static int open_sealed(int dir_fd, const char *name, struct stat *st) {
    BX_FD fd = bx_openat2(dir_fd, name, O_RDONLY | O_NONBLOCK | O_NOFOLLOW, 0, RESOLVE_NO_XDEV);
    return fd >= 0 && !fstat(fd, st) && S_ISREG(st->st_mode) ? bx_take(&fd) : -1;
}

int open_regular(struct walk *walk, bool sealed, int dir_fd, const char *name, struct stat *st) {
    char number[16];
    int fd = sealed ? open_sealed(dir_fd, name, st) : -1;
    if (fd >= 0)
        return fd;
    /* A device that has taken the file's place meanwhile is not even opened. */
    BX_FD handle = openat(dir_fd, name, O_PATH | O_NOFOLLOW | O_CLOEXEC);
    if (handle < 0 || fstat(handle, st) < 0)
        return -1;
    if (!S_ISREG(st->st_mode)) {
        errno = ENOENT;
        return -1;
    }
    /* The way to /proc/self/fd costs more than the rest of it: gone once. */
    if (walk->handles < 0)
        walk->handles = open("/proc/self/fd", O_PATH | O_DIRECTORY | O_CLOEXEC);
    snprintf(number, sizeof number, "%d", handle);
    return openat(walk->handles, number, O_RDONLY | O_NONBLOCK | O_CLOEXEC);
}

static int written(struct walk *walk, int status) {
    if (status < 0 && walk->writer.errnum == E2BIG)
        return fail(walk, BW_DIFF_LIMIT, 0, "its attributes are larger than 2 MiB");
    if (status < 0)
        return fail(walk, BW_DIFF_SYSTEM, walk->writer.errnum, "write");
    return 0;
}

static int emit_line(struct walk *walk, char kind) {
    char head[2] = {kind, '/'};
    if (!walk->length)
        return 0; /* the root has no name to be told by */
    walk->writer.entries++;
    if (bw_writer_put(&walk->writer, head, sizeof head) < 0)
        return written(walk, -1);
    return written(walk, bw_writer_put(&walk->writer, walk->path, walk->length + 1));
}

static const char *entry_name(const struct walk *walk) {
    return walk->length ? walk->path : ".";
}

static int put_head(struct walk *walk, char type, const struct stat *st, const char *link,
                    uint64_t size, uint64_t real_size) {
    struct bw_head head = {.name = entry_name(walk), .link = link, .type = type, .st = st,
                           .size = size, .xattrs = walk->ours.data,
                           .xattrs_size = type == '1' ? 0 : walk->ours.used,
                           .real_size = real_size};
    return written(walk, bw_writer_head(&walk->writer, &head));
}

static int emit_directory(struct walk *walk, int dir_fd, const char *name, const struct stat *st) {
    if (read_xattrs(walk, dir_fd, name, &walk->ours) < 0)
        return -1;
    return put_head(walk, '5', st, NULL, 0, 0);
}

int emit_parents(struct walk *walk) {
    size_t length = walk->length;
    char kept[PATH_SIZE + 256];
    for (size_t i = 0; i < walk->depth; i++) {
        struct level *level = &walk->levels[i];
        if (level->written)
            continue;
        level->written = true;
        if (!level->length)
            continue; /* the root itself: an entry only when it has changed */
        memcpy(kept, walk->path, length + 1);
        walk->length = level->length;
        walk->path[level->length] = 0;
        int status = walk->listing ? emit_line(walk, 'C')
                                   : emit_directory(walk, level->fd, ITSELF, &level->st);
        walk->length = length;
        memcpy(walk->path, kept, length + 1);
        if (status < 0)
            return -1;
    }
    return 0;
}

static size_t slot_of(const struct walk *walk, uint64_t device, uint64_t number) {
    uint64_t hash = (number ^ device << 40) * 0x9e3779b97f4a7c15ull;
    size_t slot = (size_t)(hash >> 20) & (walk->inode_room - 1);
    while (walk->inodes[slot].path &&
           (walk->inodes[slot].number != number || walk->inodes[slot].device != device))
        slot = (slot + 1) & (walk->inode_room - 1);
    return slot;
}

static int grow_inodes(struct walk *walk) {
    struct inode *old = walk->inodes;
    size_t room = walk->inode_room;
    walk->inode_room = room ? room * 2 : 1024;
    walk->inodes = calloc(walk->inode_room, sizeof *walk->inodes);
    if (!walk->inodes) {
        walk->inodes = old;
        walk->inode_room = room;
        return fail(walk, BW_DIFF_SYSTEM, ENOMEM, "remember links");
    }
    for (size_t i = 0; i < room; i++)
        if (old[i].path)
            walk->inodes[slot_of(walk, old[i].device, old[i].number)] = old[i];
    free(old);
    return 0;
}

/* The slot of an inode of several names, NULL: it has one. Its path is that of its first name in
 * this archive, NULL when this would be it. */
static int inode_of(struct walk *walk, const struct stat *st, struct inode **inode) {
    *inode = NULL;
    if (st->st_nlink < 2)
        return 0;
    if (walk->inode_count * 2 >= walk->inode_room && grow_inodes(walk) < 0)
        return -1;
    *inode = &walk->inodes[slot_of(walk, st->st_dev, st->st_ino)];
    return 0;
}

static int remember(struct walk *walk, struct inode *inode, const struct stat *st) {
    inode->path = strdup(walk->path);
    if (!inode->path)
        return fail(walk, BW_DIFF_SYSTEM, ENOMEM, "remember links");
    inode->device = st->st_dev;
    inode->number = st->st_ino;
    walk->inode_count++;
    return 0;
}

static int map_line(struct walk *walk, uint64_t number) {
    if (reserve(walk, &walk->map, 24) < 0)
        return -1;
    walk->map.used += (size_t)sprintf((char *)walk->map.data + walk->map.used, "%llu\n",
                                      (unsigned long long)number);
    return 0;
}

struct span {
    uint64_t start, length;
};

/* The parts of a file that hold data; how many, 0: it is not to be treated as sparse. */
static size_t spans_of(int fd, uint64_t size, struct span *spans, uint64_t *data) {
    size_t count = 0;
    *data = 0;
    for (off_t at = 0; (uint64_t)at < size;) {
        off_t start = lseek(fd, at, SEEK_DATA);
        if (start < 0 && errno == ENXIO)
            break;
        off_t end = start < 0 ? -1 : lseek(fd, start, SEEK_HOLE);
        if (start < 0 || end <= start || count == SPARSE_SPANS)
            return 0;
        if ((uint64_t)start >= size)
            break;
        if ((uint64_t)end > size)
            end = (off_t)size;
        spans[count++] = (struct span){(uint64_t)start, (uint64_t)(end - start)};
        *data += (uint64_t)(end - start);
        at = end;
    }
    if (!count || spans[count - 1].start + spans[count - 1].length < size)
        spans[count++] = (struct span){size, 0};
    return count;
}

/* GNU's sparse format 1.0: the map is the beginning of the content. */
static int put_sparse(struct walk *walk, int fd, const struct stat *st, const struct span *spans,
                      size_t count, uint64_t data) {
    walk->map.used = 0;
    if (map_line(walk, count) < 0)
        return -1;
    for (size_t i = 0; i < count; i++)
        if (map_line(walk, spans[i].start) < 0 || map_line(walk, spans[i].length) < 0)
            return -1;
    uint64_t map = (walk->map.used + 511) / 512 * 512, size = map + data;
    if (put_head(walk, '0', st, NULL, size, (uint64_t)st->st_size) < 0)
        return -1;
    int status = bw_writer_put(&walk->writer, walk->map.data, walk->map.used);
    if (!status)
        status = bw_writer_pad(&walk->writer, walk->map.used);
    for (size_t i = 0; i < count && !status; i++)
        status = bw_writer_file(&walk->writer, fd, spans[i].start, spans[i].length);
    return written(walk, status ? status : bw_writer_pad(&walk->writer, size));
}

/* Is it worth looking for its holes? EROFS gives every file the blocks that its size asks for. */
static bool may_be_sparse(int fd, const struct stat *st) {
    uint64_t stored = (uint64_t)st->st_blocks * 512, size = (uint64_t)st->st_size;
    if (size <= SPARSE_FREE)
        return false;
    if (stored == (size + 4095) / 4096 * 4096)
        return lseek(fd, 0, SEEK_HOLE) < st->st_size;
    return stored * 2 <= size && size - stored >= SPARSE_FREE;
}

/* Is it worth telling of them? */
static bool is_sparse(uint64_t size, uint64_t data) {
    return data * 2 <= size && size - data >= SPARSE_FREE;
}

static int put_content(struct walk *walk, int fd, const struct stat *st) {
    uint64_t size = (uint64_t)st->st_size, data;
    if (may_be_sparse(fd, st)) {
        struct span *spans = malloc((SPARSE_SPANS + 1) * sizeof *spans);
        size_t count = spans ? spans_of(fd, size, spans, &data) : 0;
        int status = count && is_sparse(size, data) ? put_sparse(walk, fd, st, spans, count, data) : 1;
        free(spans);
        if (status <= 0)
            return status;
    }
    if (put_head(walk, '0', st, NULL, size, 0) < 0)
        return -1;
    uint64_t missing = walk->writer.missing;
    int status = bw_writer_file(&walk->writer, fd, 0, size);
    if (!status)
        status = bw_writer_pad(&walk->writer, size);
    walk->result->cut += walk->writer.missing > missing;
    return written(walk, status);
}

static int emit_file(struct walk *walk, int dir_fd, const char *name) {
    struct stat st;
    BX_FD fd = open_regular(walk, walk->sealed, dir_fd, name, &st);
    if (fd < 0 && (errno == ENOENT || errno == ELOOP))
        return 0;
    if (fd < 0)
        return fail(walk, BW_DIFF_SYSTEM, errno, "open");
    if (read_xattrs(walk, fd, ITSELF, &walk->ours) < 0)
        return -1;
    return put_content(walk, fd, &st);
}

static int emit_link(struct walk *walk, int dir_fd, const char *name, const struct stat *st) {
    char target[PATH_SIZE];
    ssize_t size = readlinkat(dir_fd, name, target, sizeof target - 1);
    if (size < 0 && (errno == ENOENT || errno == EINVAL))
        return 0;
    if (size < 0)
        return fail(walk, BW_DIFF_SYSTEM, errno, "read link");
    target[size] = 0;
    walk->ours.used = 0;
    return put_head(walk, '2', st, target, 0, 0);
}

static int emit_first(struct walk *walk, int dir_fd, const char *name, const struct stat *st) {
    if (S_ISREG(st->st_mode))
        return emit_file(walk, dir_fd, name);
    if (S_ISLNK(st->st_mode))
        return emit_link(walk, dir_fd, name, st);
    walk->ours.used = 0;
    char type = S_ISCHR(st->st_mode) ? '3' : S_ISBLK(st->st_mode) ? '4' : '6';
    return put_head(walk, type, st, NULL, 0, 0);
}

static int emit_node(struct walk *walk, int dir_fd, const char *name, const struct stat *st) {
    uint64_t before = walk->writer.entries;
    struct inode *inode;
    if (inode_of(walk, st, &inode) < 0)
        return -1;
    if (inode && inode->path)
        return put_head(walk, '1', st, inode->path, 0, 0);
    int status = emit_first(walk, dir_fd, name, st);
    /* A name that has just vanished is not in the archive: no other one may be a link to it. */
    if (status || !inode || walk->writer.entries == before)
        return status;
    return remember(walk, inode, st);
}

/* `name` in dir_fd, whose path the walk is at. */
int emit_entry(struct walk *walk, int dir_fd, const char *name, const struct stat *st,
               bool is_new) {
    if (emit_parents(walk) < 0)
        return -1;
    if (walk->listing)
        return emit_line(walk, is_new ? 'A' : 'C');
    if (S_ISDIR(st->st_mode))
        return emit_directory(walk, dir_fd, name, st);
    return emit_node(walk, dir_fd, name, st);
}

/* The walk is at the directory; an empty file of the name's own says that it is gone. */
int emit_deleted(struct walk *walk, const char *name) {
    size_t length = walk->length;
    const char *slash = length ? "/" : "";
    struct stat st = {.st_mode = S_IFREG};
    if (emit_parents(walk) < 0)
        return -1;
    int more = snprintf(walk->path + length, sizeof walk->path - length, "%s%s%s", slash,
                        walk->listing ? "" : ".wh.", name);
    walk->length += (size_t)more;
    walk->ours.used = 0;
    int status = walk->length >= PATH_SIZE ? fail(walk, BW_DIFF_LIMIT, 0, "the path is too long")
                 : walk->listing           ? emit_line(walk, 'D')
                                           : put_head(walk, '0', &st, NULL, 0, 0);
    walk->length = length;
    walk->path[length] = 0;
    return status;
}
