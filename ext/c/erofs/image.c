/* The image itself (Documentation/filesystems/erofs.rst, fs/erofs/erofs_fs.h).
 *
 * Block 0: the superblock at 1024. Then the files' content, each from a block's start; the
 * directories that do not fit beside their inodes; from meta_blkaddr on the inodes, each with its
 * attributes and, where it fits into the block, the tail of its data. */
#include "internal.h"

#include <endian.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define MAGIC 0xE0F5E1E2u
#define SUPER_AT 1024u
#define COMPAT (0x1u | 0x2u) /* the checksum; times are of the content's change */
#define INODE_SIZE 64u
#define XATTR_HEADER 12u
#define DIRENT_SIZE 12u
#define FIRST_NID 1u /* nothing has inode number 0 */
#define FLAT_PLAIN 0u
#define FLAT_INLINE 2u
#define CHUNKS 4u
#define INCOMPAT 0x4u /* files in chunks */

static void le16(unsigned char *at, uint64_t value) {
    uint16_t stored = htole16((uint16_t)value);
    memcpy(at, &stored, sizeof stored);
}

static void le32(unsigned char *at, uint64_t value) {
    uint32_t stored = htole32((uint32_t)value);
    memcpy(at, &stored, sizeof stored);
}

static void le64(unsigned char *at, uint64_t value) {
    uint64_t stored = htole64(value);
    memcpy(at, &stored, sizeof stored);
}

int erofs_fail(struct erofs_writer *w, const char *what) {
    int failed = errno;
    const char *name = w->reader->entry.name;
    return bw_fail(w->result, BW_TAR_SYSTEM, failed ? failed : EIO, what, name);
}

int erofs_pwrite(struct erofs_writer *w, const void *data, size_t length, uint64_t offset) {
    const unsigned char *from = data;
    while (length) {
        ssize_t done = pwrite(w->fd, from, length, (off_t)offset);
        if (done < 0 && errno == EINTR)
            continue;
        if (done <= 0)
            return erofs_fail(w, "write the image");
        from += done;
        length -= (size_t)done;
        offset += (uint64_t)done;
    }
    return 0;
}

int erofs_flush(struct erofs_writer *w) {
    int status = erofs_pwrite(w, w->buffer, w->filled, w->at - w->filled);
    w->filled = 0;
    return status;
}

int erofs_put(struct erofs_writer *w, const void *data, size_t length) {
    if (!length)
        return 0;
    if (w->filled + length > EROFS_BUFFER && erofs_flush(w) < 0)
        return -1;
    w->at += length;
    if (length >= EROFS_BUFFER)
        return erofs_pwrite(w, data, length, w->at - length);
    memcpy(w->buffer + w->filled, data, length);
    w->filled += length;
    return 0;
}

int erofs_align(struct erofs_writer *w, uint64_t unit) {
    static const unsigned char zeros[EROFS_BLOCK];
    return erofs_put(w, zeros, (size_t)((unit - w->at % unit) % unit));
}

int erofs_next_block(struct erofs_writer *w, uint32_t *block) {
    if (erofs_align(w, EROFS_BLOCK) < 0)
        return -1;
    if (w->at / EROFS_BLOCK >= UINT32_MAX - 1)
        return bw_fail(w->result, BW_TAR_BUDGET, 0, "the image is too large", w->reader->entry.name);
    *block = (uint32_t)(w->at / EROFS_BLOCK);
    return 0;
}

static int by_name(const void *left, const void *right) {
    const struct erofs_dentry *const *a = left, *const *b = right;
    return strcmp((*a)->name, (*b)->name);
}

/* "." and ".." are entries like all others, in their place. */
static int sort_children(struct erofs_writer *w, struct erofs_inode *dir) {
    dir->sorted = calloc(dir->child_count + 2u, sizeof(struct erofs_dentry *));
    if (dir->sorted == NULL || erofs_add(&w->tree, dir, ".", 1, dir) == NULL ||
        erofs_add(&w->tree, dir, "..", 2, dir->parent) == NULL) {
        errno = ENOMEM;
        return erofs_fail(w, "sort the directory");
    }
    for (struct erofs_dentry *d = dir->children; d != NULL; d = d->sibling)
        dir->sorted[dir->sorted_count++] = d;
    qsort(dir->sorted, dir->sorted_count, sizeof *dir->sorted, by_name);
    return 0;
}

/* How many entries from `first` on fit into one block, and the bytes that they take. */
static uint32_t block_of(const struct erofs_inode *dir, uint32_t first, uint32_t *bytes) {
    uint32_t count = 0;
    for (*bytes = 0; first + count < dir->sorted_count; count++) {
        uint32_t more = DIRENT_SIZE + dir->sorted[first + count]->length;
        if (*bytes + more > EROFS_BLOCK)
            break;
        *bytes += more;
    }
    return count;
}

static void measure_directory(struct erofs_inode *dir) {
    uint32_t bytes = 0;
    dir->size = 0;
    for (uint32_t first = 0, count; first < dir->sorted_count; first += count) {
        dir->size = (dir->size + EROFS_BLOCK - 1) / EROFS_BLOCK * EROFS_BLOCK;
        count = block_of(dir, first, &bytes);
        dir->size += bytes;
    }
}

static unsigned char type_of(uint16_t mode) {
    switch (mode & S_IFMT) {
    case S_IFREG:
        return 1;
    case S_IFDIR:
        return 2;
    case S_IFCHR:
        return 3;
    case S_IFBLK:
        return 4;
    case S_IFIFO:
        return 5;
    default:
        return 7;
    }
}

/* Fills one block; returns the entry after its last. */
static uint32_t fill_block(const struct erofs_inode *dir, uint32_t first, unsigned char *block,
                           uint32_t *bytes) {
    uint32_t count = block_of(dir, first, bytes), name_at = count * DIRENT_SIZE;
    memset(block, 0, EROFS_BLOCK);
    for (uint32_t i = 0; i < count; i++) {
        const struct erofs_dentry *d = dir->sorted[first + i];
        unsigned char *at = block + (size_t)i * DIRENT_SIZE;
        le64(at, d->inode->nid);
        le16(at + 8, name_at);
        at[10] = type_of(d->inode->mode);
        memcpy(block + name_at, d->name, d->length);
        name_at += d->length;
    }
    return first + count;
}

/* Breadth first, so that a directory's inodes lie together. */
static int reach(struct erofs_writer *w, struct erofs_inode **order, size_t *count) {
    order[(*count)++] = w->tree.root;
    w->tree.root->reached = true;
    for (size_t i = 0; i < *count; i++) {
        struct erofs_inode *dir = order[i];
        dir->number = (uint32_t)(i + 1);
        if (!S_ISDIR(dir->mode))
            continue;
        if (sort_children(w, dir) < 0)
            return -1;
        measure_directory(dir);
        dir->nlink = 2;
        for (uint32_t k = 0; k < dir->sorted_count; k++) {
            struct erofs_inode *child = dir->sorted[k]->inode;
            if (child == dir || child == dir->parent)
                continue;
            dir->nlink += S_ISDIR(child->mode);
            child->nlink += !S_ISDIR(child->mode);
            if (!child->reached) {
                child->reached = true;
                order[(*count)++] = child;
            }
        }
    }
    return 0;
}

static uint32_t xattr_size(const struct erofs_inode *inode) {
    return inode->xattrs_size ? XATTR_HEADER + inode->xattrs_size : 0;
}

/* Gives an inode its place, at or after `at` (bytes from the start of the inodes). */
static int lay_out(struct erofs_writer *w, struct erofs_inode *inode, uint64_t *at) {
    uint64_t head = INODE_SIZE + xattr_size(inode), tail = inode->size % EROFS_BLOCK;
    bool may = tail && (S_ISDIR(inode->mode) || inode->kept != NULL);
    if (may && head % EROFS_BLOCK + tail > EROFS_BLOCK)
        may = false;
    if (may && (*at + head) % EROFS_BLOCK + tail > EROFS_BLOCK)
        *at = (*at + EROFS_BLOCK - 1) / EROFS_BLOCK * EROFS_BLOCK;
    inode->inlined = may && (*at + head) % EROFS_BLOCK + tail <= EROFS_BLOCK;
    inode->nid = *at / 32;
    *at += head + (inode->inlined ? tail : 0) + 4ull * inode->chunk_count;
    *at = (*at + 31) / 32 * 32;
    uint64_t whole = inode->inlined ? inode->size - tail : inode->size;
    if (!S_ISDIR(inode->mode)) {
        if (inode->kept == NULL || inode->inlined)
            return 0;
        if (erofs_next_block(w, &inode->block) < 0)
            return -1;
        return erofs_put(w, inode->kept, (size_t)inode->size);
    }
    if (!whole)
        return 0;
    if (erofs_next_block(w, &inode->block) < 0 || erofs_flush(w) < 0)
        return -1;
    /* Written when all have their places. */
    w->at += (whole + EROFS_BLOCK - 1) / EROFS_BLOCK * EROFS_BLOCK;
    return 0;
}

/* Writes the blocks of a directory; what is inlined is left in `tail`. */
static int write_directory(struct erofs_writer *w, const struct erofs_inode *dir,
                           unsigned char *tail) {
    uint64_t at = (uint64_t)dir->block * EROFS_BLOCK;
    uint32_t bytes;
    for (uint32_t next = 0; next < dir->sorted_count; at += EROFS_BLOCK) {
        next = fill_block(dir, next, tail, &bytes);
        bool beside = dir->inlined && next == dir->sorted_count;
        if (!beside && erofs_pwrite(w, tail, EROFS_BLOCK, at) < 0)
            return -1;
    }
    return 0;
}

static void fill_inode(const struct erofs_inode *inode, unsigned char *at) {
    memset(at, 0, INODE_SIZE + XATTR_HEADER);
    uint32_t count = inode->xattrs_size ? 1 + inode->xattrs_size / 4 : 0;
    bool device = S_ISCHR(inode->mode) || S_ISBLK(inode->mode);
    uint32_t layout = inode->chunks != NULL ? CHUNKS : inode->inlined ? FLAT_INLINE : FLAT_PLAIN;
    le16(at, 1u | layout << 1);
    le16(at + 2, count);
    le16(at + 4, inode->mode);
    le64(at + 8, inode->size);
    if (inode->chunks != NULL)
        le16(at + 16, inode->chunk_bits);
    else
        le32(at + 16, device ? inode->rdev : inode->block);
    le32(at + 20, inode->number);
    le32(at + 24, inode->uid);
    le32(at + 28, inode->gid);
    le64(at + 32, (uint64_t)inode->mtime);
    le32(at + 40, inode->nsec);
    le32(at + 44, inode->nlink);
}

static int write_inode(struct erofs_writer *w, const struct erofs_inode *inode, uint64_t start) {
    static const unsigned char zeros[EROFS_BLOCK];
    unsigned char head[INODE_SIZE + XATTR_HEADER], tail[EROFS_BLOCK];
    uint64_t place = start + inode->nid * 32, length = inode->size % EROFS_BLOCK;
    const unsigned char *beside = inode->kept;
    fill_inode(inode, head);
    if (S_ISDIR(inode->mode)) {
        if (write_directory(w, inode, tail) < 0)
            return -1;
        beside = tail;
    } else if (beside != NULL)
        beside += inode->size - length;
    if (erofs_put(w, zeros, (size_t)(place - w->at)) < 0 ||
        erofs_put(w, head, INODE_SIZE + (inode->xattrs_size ? XATTR_HEADER : 0)) < 0 ||
        erofs_put(w, inode->xattrs, inode->xattrs_size) < 0 ||
        erofs_put(w, inode->chunks, inode->chunk_count * sizeof *inode->chunks) < 0)
        return -1;
    return inode->inlined ? erofs_put(w, beside, (size_t)length) : 0;
}

static uint32_t crc32c(const unsigned char *data, size_t length) {
    uint32_t crc = ~0u;
    for (size_t i = 0; i < length; i++) {
        crc ^= data[i];
        for (int bit = 0; bit < 8; bit++)
            crc = crc >> 1 ^ (crc & 1 ? 0x82F63B78u : 0);
    }
    return crc;
}

static int write_super(struct erofs_writer *w, uint64_t count, uint32_t start) {
    unsigned char block[EROFS_BLOCK] = {0}, *super = block + SUPER_AT;
    le32(super, MAGIC);
    le32(super + 8, COMPAT);
    super[12] = 12; /* log2 of a block */
    le16(super + 14, w->tree.root->nid);
    le64(super + 16, count);
    le32(super + 36, w->at / EROFS_BLOCK);
    le32(super + 40, start);
    le32(super + 80, INCOMPAT);
    le32(super + 4, crc32c(super, EROFS_BLOCK - SUPER_AT));
    return erofs_pwrite(w, block, EROFS_BLOCK, 0);
}

static int write_all(struct erofs_writer *w, struct erofs_inode **order) {
    size_t count = 0;
    uint64_t at = FIRST_NID * 32;
    uint32_t start;
    if (reach(w, order, &count) < 0)
        return -1;
    for (size_t i = 0; i < count; i++)
        if (lay_out(w, order[i], &at) < 0)
            return -1;
    if (erofs_next_block(w, &start) < 0)
        return -1;
    for (size_t i = 0; i < count; i++)
        if (write_inode(w, order[i], (uint64_t)start * EROFS_BLOCK) < 0)
            return -1;
    /* fsck.erofs 1.5 reads the header of attributes of an inode that has none, too: were the last
     * inode the end of the image, it would call it corrupt. */
    if (erofs_put(w, (const unsigned char[XATTR_HEADER]){0}, XATTR_HEADER) < 0 ||
        erofs_align(w, EROFS_BLOCK) < 0 || erofs_flush(w) < 0)
        return -1;
    if (w->at / EROFS_BLOCK > UINT32_MAX)
        return bw_fail(w->result, BW_TAR_BUDGET, 0, "the image is too large", "");
    return write_super(w, count, start);
}

int erofs_finish(struct erofs_writer *w) {
    /* "." and ".." are counted with the names, but are no inodes. */
    struct erofs_inode **order = calloc(w->tree.inode_count, sizeof(struct erofs_inode *));
    if (order == NULL)
        return erofs_fail(w, "sort the directories");
    int status = write_all(w, order);
    free(order);
    return status;
}
