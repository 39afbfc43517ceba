/* The entries of a layer's tar, put into the tree, their content into the image. */
#include "internal.h"

#include <dirent.h>
#include <endian.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static int no_memory(struct erofs_writer *w) {
    errno = ENOMEM;
    return erofs_fail(w, "remember the entry");
}

static int hostile(struct erofs_writer *w, const char *what) {
    return bw_fail(w->result, BW_TAR_HOSTILE, 0, what, w->reader->entry.name);
}

/* Hides all that is below a directory of the layer's own. */
static int make_opaque(struct erofs_writer *w, struct erofs_inode *directory) {
    bool user = w->options->flags & BW_TAR_USERXATTR;
    if (directory->opaque)
        return 0;
    directory->opaque = true;
    const char *key = user ? "user.overlay.opaque" : "trusted.overlay.opaque";
    return erofs_add_xattr(directory, key, "y", 1) < 0 ? no_memory(w) : 0;
}

int erofs_place(struct erofs_writer *w, struct erofs_inode *directory, const char *name,
                size_t length, struct erofs_inode *inode) {
    struct erofs_dentry *d = erofs_find(&w->tree, directory, name, length);
    bool covers = d != NULL && !S_ISDIR(d->inode->mode);
    if (S_ISDIR(inode->mode))
        inode->parent = directory;
    if (d != NULL)
        d->inode = inode;
    else if (erofs_add(&w->tree, directory, name, length, inode) == NULL)
        return no_memory(w);
    /* What stood here hid what is below; so must the directory. */
    return covers && S_ISDIR(inode->mode) ? make_opaque(w, inode) : 0;
}

int erofs_hide(struct erofs_writer *w, struct erofs_inode *directory, const char *name,
               size_t length) {
    const struct erofs_dentry *d = erofs_find(&w->tree, directory, name, length);
    if (d != NULL)
        return S_ISDIR(d->inode->mode) ? make_opaque(w, d->inode) : 0;
    struct erofs_inode *mark = erofs_inode_new(&w->tree, S_IFCHR);
    if (mark == NULL)
        return no_memory(w);
    return erofs_place(w, directory, name, length, mark);
}

/* Nothing looks for marks on the root of a stack. */
static int hide_root(struct erofs_writer *w) {
    int fd = bw_openat2(w->options->parent_fd, ".", O_RDONLY | O_DIRECTORY, BW_IN_ROOT);
    DIR *dir = fd < 0 ? NULL : fdopendir(fd);
    const struct dirent *entry;
    if (dir == NULL) {
        erofs_fail(w, "open the root below");
        if (fd >= 0)
            close(fd);
        return -1;
    }
    int status = 0;
    while (status == 0 && (errno = 0, entry = readdir(dir)) != NULL)
        if (strcmp(entry->d_name, ".") && strcmp(entry->d_name, ".."))
            status = erofs_hide(w, w->tree.root, entry->d_name, strlen(entry->d_name));
    if (status == 0 && errno)
        status = erofs_fail(w, "read the root below");
    closedir(dir);
    return status;
}

static int whiteout(struct erofs_writer *w, const char *path, const char *base) {
    size_t above = base == path ? 0 : (size_t)(base - path) - 1;
    const char *name = base + 4;
    struct erofs_inode *dir;
    if (!strcmp(base, ".wh..wh..opq")) {
        if (!above && w->options->parent_fd >= 0)
            return hide_root(w);
        dir = erofs_directory_at(w, path, above);
        return dir == NULL ? -1 : make_opaque(w, dir);
    }
    if (!*name || !strcmp(name, ".") || !strcmp(name, ".."))
        return hostile(w, "a whiteout of no name");
    dir = erofs_directory_at(w, path, above);
    return dir == NULL ? -1 : erofs_hide(w, dir, name, strlen(name));
}

static int set_attributes(struct erofs_writer *w, struct erofs_inode *inode) {
    const struct bw_entry *e = &w->reader->entry;
    inode->mode = (uint16_t)((inode->mode & S_IFMT) | (e->mode & 07777));
    inode->uid = e->uid;
    inode->gid = e->gid;
    inode->mtime = e->mtime;
    inode->nsec = e->mtime_nsec;
    bool user = S_ISREG(inode->mode) || S_ISDIR(inode->mode);
    for (size_t i = 0; i < e->xattr_count; i++) {
        const struct bw_xattr *x = &e->xattrs[i];
        /* user.* belongs to files and directories only. */
        if (!bw_xattr_wanted(x->name) || (!user && bw_starts(x->name, "user."))) {
            w->result->skipped_xattrs++;
            continue;
        }
        if (erofs_add_xattr(inode, x->name, x->value, x->length) < 0) {
            errno = ENOSPC;
            return erofs_fail(w, "keep an extended attribute");
        }
    }
    return 0;
}

/* An entry for a directory that is there already says all of it anew. */
static int directory(struct erofs_writer *w, struct erofs_inode *dir, const char *base) {
    struct erofs_inode *inode = w->tree.root;
    if (*base) {
        const struct erofs_dentry *d = erofs_find(&w->tree, dir, base, strlen(base));
        inode = d != NULL && S_ISDIR(d->inode->mode) ? d->inode : NULL;
    }
    if (inode == NULL) {
        inode = erofs_inode_new(&w->tree, S_IFDIR);
        if (inode == NULL)
            return no_memory(w);
        if (erofs_place(w, dir, base, strlen(base), inode) < 0)
            return -1;
    } else {
        inode->xattrs_size = 0;
        bool opaque = inode->opaque;
        inode->opaque = false;
        if (opaque && make_opaque(w, inode) < 0)
            return -1;
    }
    return set_attributes(w, inode);
}

static int span(struct erofs_writer *w, uint64_t length, uint64_t *at, unsigned char *kept) {
    const unsigned char *data;
    w->result->bytes += length;
    if (w->result->bytes > w->options->max_bytes)
        return bw_over_budget(w->reader, "more bytes than allowed");
    while (length) {
        size_t want = length > EROFS_BUFFER ? EROFS_BUFFER : (size_t)length;
        ssize_t got = bw_reader_take(w->reader, want, &data);
        if (got <= 0)
            return got < 0 ? -1 : bw_malformed(w->reader, "the content ends early");
        if (kept != NULL)
            memcpy(kept + *at, data, (size_t)got);
        else if (at != NULL ? erofs_pwrite(w, data, (size_t)got, *at) < 0
                            : erofs_put(w, data, (size_t)got) < 0)
            return -1;
        if (at != NULL)
            *at += (uint64_t)got;
        length -= (uint64_t)got;
    }
    return 0;
}

/* Says which pieces of a file are holes, as fine as its size allows. */
static int note_holes(struct erofs_writer *w, struct erofs_inode *inode) {
    const struct bw_entry *e = &w->reader->entry;
    uint64_t size = EROFS_BLOCK;
    uint32_t bits = 0;
    while ((e->real_size + size - 1) / size > EROFS_CHUNKS_MAX) {
        size *= 2;
        bits++;
    }
    uint32_t count = (uint32_t)((e->real_size + size - 1) / size);
    if (w->chunks + count > EROFS_CHUNKS_BUDGET)
        return 0; /* its holes are zeros then */
    inode->chunks = malloc(count * sizeof *inode->chunks);
    if (inode->chunks == NULL)
        return no_memory(w);
    w->chunks += count;
    inode->chunk_count = count;
    inode->chunk_bits = bits;
    memset(inode->chunks, 0xff, count * sizeof *inode->chunks);
    for (size_t i = 0; i < e->span_count; i++) {
        const struct bw_span *s = &e->spans[i];
        for (uint64_t k = s->offset / size; s->length && k <= (s->offset + s->length - 1) / size; k++)
            inode->chunks[k] = htole32((uint32_t)(inode->block + (k << bits)));
    }
    return 0;
}

/* Holes are holes of the image. */
static int sparse(struct erofs_writer *w, struct erofs_inode *inode) {
    const struct bw_entry *e = &w->reader->entry;
    uint64_t start = w->at;
    if (erofs_flush(w) < 0)
        return -1;
    if (start + e->real_size < start || (start + e->real_size) / EROFS_BLOCK >= UINT32_MAX - 1)
        return bw_over_budget(w->reader, "the image is too large");
    if (note_holes(w, inode) < 0)
        return -1;
    for (size_t i = 0; i < e->span_count; i++) {
        uint64_t at = start + e->spans[i].offset;
        if (span(w, e->spans[i].length, &at, NULL) < 0)
            return -1;
    }
    w->at = (start + e->real_size + EROFS_BLOCK - 1) / EROFS_BLOCK * EROFS_BLOCK;
    return 0;
}

static int content(struct erofs_writer *w, struct erofs_inode *inode) {
    const struct bw_entry *e = &w->reader->entry;
    uint64_t at = 0;
    inode->size = e->sparse ? e->real_size : e->size;
    if (!inode->size)
        return 0;
    if (!e->sparse && e->size <= EROFS_INLINE_MAX && w->kept + e->size <= EROFS_INLINE_BUDGET) {
        inode->kept = malloc(e->size);
        w->kept += e->size;
        return inode->kept == NULL ? no_memory(w) : span(w, e->size, &at, inode->kept);
    }
    if (erofs_next_block(w, &inode->block) < 0)
        return -1;
    return e->sparse ? sparse(w, inode) : span(w, e->size, NULL, NULL);
}

static int hard_link(struct erofs_writer *w, struct erofs_inode **inode) {
    const struct bw_entry *e = &w->reader->entry;
    char target[BW_NAME_MAX + 1];
    enum bw_tar_kind kind = BW_TAR_HOSTILE;
    const char *why = bw_clean_name(e->link, target, &kind);
    if (why != NULL || !target[0])
        return bw_fail(w->result, kind, 0, why ? "its link's target leads outside" : "a link to /",
                       e->name);
    int there = erofs_lookup(w, target, inode);
    if (there == 0 && *inode == NULL)
        there = erofs_copy_up(w, target, inode);
    if (there < 0)
        return -1;
    if (*inode == NULL) {
        errno = ENOENT;
        return erofs_fail(w, "open the hard link's target");
    }
    if (S_ISDIR((*inode)->mode) || erofs_is_whiteout(*inode))
        return hostile(w, "a hard link to a directory or to what was deleted");
    return 0;
}

/* 1: *inode is what the entry makes; 0: it is left out. */
static int made(struct erofs_writer *w, struct erofs_inode **inode) {
    static const uint16_t modes[] = {S_IFREG, 0, S_IFLNK, S_IFCHR, S_IFBLK, 0, S_IFIFO};
    const struct bw_entry *e = &w->reader->entry;
    *inode = NULL;
    if (e->type == '1')
        return hard_link(w, inode) < 0 ? -1 : 1;
    bool device = e->type == '3' || e->type == '4';
    if (e->type == '3' && !e->major && !e->minor)
        return hostile(w, "the device 0:0, which overlay takes for a whiteout");
    if (device && w->options->flags & BW_TAR_NO_DEVICES) {
        w->result->skipped++;
        return 0;
    }
    if (e->type == '2' && !e->link[0])
        return bw_fail(w->result, BW_TAR_MALFORMED, 0, "a link without a target", e->name);
    struct erofs_inode *fresh = erofs_inode_new(&w->tree, modes[e->type - '0']);
    *inode = fresh;
    if (fresh == NULL)
        return no_memory(w);
    if (device)
        fresh->rdev = (e->minor & 0xff) | e->major << 8 | (e->minor & ~0xffu) << 12;
    if (e->type == '2') {
        fresh->kept = (unsigned char *)strdup(e->link);
        fresh->size = strlen(e->link);
        if (fresh->kept == NULL)
            return no_memory(w);
    }
    if (set_attributes(w, fresh) < 0 || (e->type == '0' && content(w, fresh) < 0))
        return -1;
    if (e->type == '2')
        fresh->mode = S_IFLNK | 0777;
    return 1;
}

static int place_entry(struct erofs_writer *w) {
    const struct bw_entry *e = &w->reader->entry;
    char path[BW_NAME_MAX + 1];
    enum bw_tar_kind kind = BW_TAR_HOSTILE;
    const char *why = bw_clean_name(e->name, path, &kind);
    if (why != NULL)
        return bw_fail(w->result, kind, 0, why, e->name);
    const char *slash = strrchr(path, '/'), *base = slash != NULL ? slash + 1 : path;
    enum bw_mark mark = bw_mark_of(path, base);
    if (mark == BW_MARK_METADATA) {
        w->result->skipped++;
        return 0;
    }
    if (mark == BW_MARK_INSIDE)
        return hostile(w, "a whiteout in the middle of its name");
    if (mark == BW_MARK_WHITEOUT)
        return whiteout(w, path, base);
    struct erofs_inode *inode;
    struct erofs_inode *dir =
        erofs_directory_at(w, path, slash != NULL ? (size_t)(slash - path) : 0);
    if (dir == NULL)
        return -1;
    if (e->type == '5')
        return directory(w, dir, base);
    if (!*base)
        return hostile(w, "an entry that would replace the root");
    int status = made(w, &inode);
    return status <= 0 ? status : erofs_place(w, dir, base, strlen(base), inode);
}

static int write_layer(struct erofs_writer *w) {
    int there;
    if (erofs_copy_parent(w, w->tree.root, "") < 0)
        return -1;
    /* The superblock's place; it comes last. */
    w->at = EROFS_BLOCK;
    while ((there = bw_reader_next(w->reader)) > 0) {
        if (++w->result->entries > w->options->max_entries)
            return bw_over_budget(w->reader, "more entries than allowed");
        if (place_entry(w) < 0)
            return -1;
    }
    if (there < 0 || erofs_finish(w) < 0)
        return -1;
    /* Who feeds the stream computes a digest of all of it. */
    return bw_reader_drain(w->reader);
}

int bw_erofs_layer(const struct bw_tar_options *options, int image_fd,
                   struct bw_tar_result *result) {
    memset(result, 0, sizeof *result);
    struct erofs_writer w = {.options = options, .result = result, .fd = image_fd};
    int status = -1;
    w.reader = calloc(1, sizeof *w.reader);
    w.buffer = malloc(EROFS_BUFFER);
    if (w.reader == NULL || w.buffer == NULL || erofs_tree_open(&w.tree) < 0) {
        bw_fail(result, BW_TAR_SYSTEM, ENOMEM, "allocate memory", "");
    } else if (bw_reader_open(w.reader, options, result) == 0)
        status = write_layer(&w);
    if (w.reader != NULL)
        bw_reader_close(w.reader);
    erofs_tree_close(&w.tree);
    free(w.reader);
    free(w.buffer);
    return status;
}
