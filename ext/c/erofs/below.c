/* What a layer needs of the tree that it is for: the attributes of directories that no entry
 * names, and files that its hard links name. */
#include "internal.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/sysmacros.h>
#include <sys/xattr.h>
#include <unistd.h>

#define LIST_ROOM 65536  /* XATTR_LIST_MAX */
#define VALUE_ROOM 65536 /* XATTR_SIZE_MAX */

/* Has this layer said that what lies below a directory of its own is gone? */
static bool hidden(const struct erofs_inode *directory) {
    while (!directory->opaque && directory->parent != directory)
        directory = directory->parent;
    return directory->opaque;
}

/* The same of a path: does what the layer has on the way hide it? */
static bool hidden_path(const struct erofs_writer *w, const char *path) {
    const struct erofs_inode *at = w->tree.root;
    while (*path && S_ISDIR(at->mode) && !at->opaque) {
        size_t length = strcspn(path, "/");
        const struct erofs_dentry *d = erofs_find(&w->tree, at, path, length);
        if (d == NULL)
            return false;
        at = d->inode;
        path += length + (path[length] == '/');
    }
    return at->opaque || erofs_is_whiteout(at);
}

static int copy_xattrs(struct erofs_writer *w, int from, struct erofs_inode *inode) {
    char *names = malloc(LIST_ROOM + VALUE_ROOM), *value = names + LIST_ROOM;
    int status = 0;
    if (names == NULL)
        return erofs_fail(w, "allocate memory");
    ssize_t length = flistxattr(from, names, LIST_ROOM);
    if (length < 0 && errno != ENOTSUP && errno != EBADF)
        status = erofs_fail(w, "list the extended attributes");
    for (const char *key = names; status == 0 && key < names + length; key += strlen(key) + 1) {
        if (!bw_xattr_wanted(key))
            continue;
        ssize_t size = fgetxattr(from, key, value, VALUE_ROOM);
        if (size < 0 || erofs_add_xattr(inode, key, value, (size_t)size) < 0)
            status = erofs_fail(w, "copy an extended attribute");
    }
    free(names);
    return status;
}

static int copy_attributes(struct erofs_writer *w, int from, const struct stat *st,
                           struct erofs_inode *inode) {
    inode->mode = (uint16_t)st->st_mode;
    inode->uid = st->st_uid;
    inode->gid = st->st_gid;
    inode->mtime = st->st_mtim.tv_sec;
    inode->nsec = (uint32_t)st->st_mtim.tv_nsec;
    return copy_xattrs(w, from, inode);
}

int erofs_copy_parent(struct erofs_writer *w, struct erofs_inode *directory, const char *path) {
    struct stat st;
    if (w->options->parent_fd < 0 || hidden(directory))
        return 0;
    const char *name = *path ? path : ".";
    int from = bw_openat2(w->options->parent_fd, name, O_RDONLY | O_DIRECTORY, BW_IN_ROOT);
    if (from < 0)
        return errno == ENOENT || errno == ENOTDIR ? 0 : erofs_fail(w, "open the lower directory");
    int status = fstat(from, &st) < 0 ? erofs_fail(w, "look at the lower directory")
                                      : copy_attributes(w, from, &st, directory);
    close(from);
    return status;
}

static int copy_content(struct erofs_writer *w, int from, struct erofs_inode *inode) {
    unsigned char *piece = malloc(EROFS_BUFFER);
    int status = piece == NULL ? erofs_fail(w, "allocate memory") : 0;
    if (status == 0)
        status = erofs_next_block(w, &inode->block);
    while (status == 0) {
        ssize_t got = read(from, piece, EROFS_BUFFER);
        if (got < 0)
            status = erofs_fail(w, "copy the file from below");
        if (got <= 0)
            break;
        inode->size += (uint64_t)got;
        status = erofs_put(w, piece, (size_t)got);
    }
    free(piece);
    return status;
}

static int copy_link(struct erofs_writer *w, int from, struct erofs_inode *inode) {
    inode->kept = malloc(BW_NAME_MAX + 1);
    ssize_t length = inode->kept == NULL ? -1
                                         : readlinkat(from, "", (char *)inode->kept, BW_NAME_MAX);
    if (length < 0)
        return erofs_fail(w, "copy the link from below");
    inode->size = (uint64_t)length;
    return 0;
}

static uint32_t as_rdev(dev_t device) {
    uint32_t low = minor(device);
    return (low & 0xff) | major(device) << 8 | (low & ~0xffu) << 12;
}

static int copy_from(struct erofs_writer *w, const char *path, int from, const struct stat *st,
                     struct erofs_inode **inode) {
    const char *slash = strrchr(path, '/'), *base = slash != NULL ? slash + 1 : path;
    struct erofs_inode *dir =
        erofs_directory_at(w, path, slash != NULL ? (size_t)(slash - path) : 0);
    struct erofs_inode *fresh = erofs_inode_new(&w->tree, (uint16_t)st->st_mode);
    if (dir == NULL || fresh == NULL)
        return dir == NULL ? -1 : erofs_fail(w, "allocate memory");
    *inode = fresh;
    if (copy_attributes(w, from, st, fresh) < 0)
        return -1;
    if (S_ISREG(st->st_mode) && copy_content(w, from, fresh) < 0)
        return -1;
    if (S_ISLNK(st->st_mode) && copy_link(w, from, fresh) < 0)
        return -1;
    fresh->rdev = as_rdev(st->st_rdev);
    return erofs_place(w, dir, base, strlen(base), fresh) < 0 ? -1 : 1;
}

int erofs_copy_up(struct erofs_writer *w, const char *path, struct erofs_inode **inode) {
    struct stat st;
    if (w->options->parent_fd < 0 || hidden_path(w, path))
        return 0;
    int from = bw_openat2(w->options->parent_fd, path, O_PATH | O_NOFOLLOW, BW_IN_ROOT);
    if (from < 0)
        return errno == ENOENT || errno == ENOTDIR ? 0 : erofs_fail(w, "open the file below");
    if (fstat(from, &st) == 0 && S_ISREG(st.st_mode)) {
        close(from);
        from = bw_openat2(w->options->parent_fd, path, O_RDONLY | O_NOFOLLOW | O_NONBLOCK,
                          BW_IN_ROOT);
    }
    int status = from < 0 || fstat(from, &st) < 0 ? erofs_fail(w, "open the file below") : 0;
    if (status == 0 && !S_ISDIR(st.st_mode) && !(S_ISCHR(st.st_mode) && st.st_rdev == 0))
        status = copy_from(w, path, from, &st, inode);
    if (from >= 0)
        close(from);
    return status;
}
