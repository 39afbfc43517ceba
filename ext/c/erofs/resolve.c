/* Paths in the tree in memory: links on the way lead where they would in the mounted root. */
#include "internal.h"

#include <errno.h>
#include <string.h>

#define LINKS_MAX 40 /* as the kernel */

struct walk {
    struct erofs_writer *w;
    struct erofs_inode *at;
    bool make; /* what is missing */
    int links;
    char rest[2 * BW_NAME_MAX + 4]; /* of the path, still to go */
    char where[BW_NAME_MAX + 1];    /* the way that was gone, without links */
};

static void start(struct walk *walk, struct erofs_writer *w, const char *path, size_t length,
                 bool make) {
    walk->w = w;
    walk->at = w->tree.root;
    walk->make = make;
    walk->links = 0;
    walk->where[0] = 0;
    memcpy(walk->rest, path, length);
    walk->rest[length] = 0;
}

static int refuse(struct walk *walk, int number, const char *what) {
    errno = number;
    return erofs_fail(walk->w, what);
}

/* Puts what a link says before what is still to go. */
static int follow(struct walk *walk, const struct erofs_inode *link, const char *rest) {
    char joined[sizeof walk->rest];
    size_t target = (size_t)link->size, more = strlen(rest);
    if (++walk->links > LINKS_MAX || target + 1 + more >= sizeof joined)
        return refuse(walk, ELOOP, "follow the links of the name");
    memcpy(joined, link->kept, target);
    joined[target] = '/';
    memcpy(joined + target + 1, rest, more + 1);
    if (joined[0] == '/') {
        walk->at = walk->w->tree.root;
        walk->where[0] = 0;
    }
    strcpy(walk->rest, joined);
    return 0;
}

static void upwards(struct walk *walk) {
    char *slash = strrchr(walk->where, '/');
    *(slash != NULL ? slash : walk->where) = 0;
    walk->at = walk->at->parent;
}

/* A directory that no entry has named yet. */
static int make_missing(struct walk *walk, const char *name, size_t length) {
    struct erofs_writer *w = walk->w;
    struct erofs_inode *fresh = erofs_inode_new(&w->tree, S_IFDIR | 0755);
    struct erofs_inode *above = walk->at;
    if (fresh == NULL)
        return refuse(walk, ENOMEM, "make the directory");
    if (erofs_place(w, above, name, length, fresh) < 0)
        return -1;
    walk->at = fresh;
    return erofs_copy_parent(w, fresh, walk->where);
}

/* 1: went on; 0: there is no such thing; -1: an error. */
static int step(struct walk *walk, const char *name, size_t length, const char *rest) {
    const struct erofs_dentry *d = erofs_find(&walk->w->tree, walk->at, name, length);
    if (d != NULL && S_ISLNK(d->inode->mode))
        return follow(walk, d->inode, rest) < 0 ? -1 : 1;
    size_t used = strlen(walk->where);
    if (used + 1 + length > BW_NAME_MAX)
        return refuse(walk, ENAMETOOLONG, "follow the links of the name");
    if (used)
        walk->where[used++] = '/';
    memcpy(walk->where + used, name, length);
    walk->where[used + length] = 0;
    if (d != NULL && S_ISDIR(d->inode->mode))
        walk->at = d->inode;
    else if (!walk->make)
        return 0;
    else if (d != NULL && !erofs_is_whiteout(d->inode))
        return refuse(walk, ENOTDIR, "make the directory");
    else if (make_missing(walk, name, length) < 0)
        return -1;
    memmove(walk->rest, rest, strlen(rest) + 1);
    return 1;
}

static int go(struct walk *walk) {
    while (walk->rest[0]) {
        size_t length = strcspn(walk->rest, "/");
        const char *rest = walk->rest + length + (walk->rest[length] == '/');
        char name[BW_COMPONENT_MAX + 1];
        if (length > BW_COMPONENT_MAX)
            return refuse(walk, ENAMETOOLONG, "follow the links of the name");
        memcpy(name, walk->rest, length);
        name[length] = 0;
        bool up = !strcmp(name, "..");
        if (up)
            upwards(walk);
        if (up || !length || !strcmp(name, ".")) {
            memmove(walk->rest, rest, strlen(rest) + 1);
            continue;
        }
        int went = step(walk, name, length, rest);
        if (went <= 0)
            return went;
    }
    return 1;
}

struct erofs_inode *erofs_directory_at(struct erofs_writer *w, const char *path, size_t length) {
    struct walk walk;
    start(&walk, w, path, length, true);
    return go(&walk) < 0 ? NULL : walk.at;
}

int erofs_lookup(struct erofs_writer *w, const char *path, struct erofs_inode **found) {
    struct walk walk;
    const char *slash = strrchr(path, '/'), *base = slash != NULL ? slash + 1 : path;
    *found = NULL;
    start(&walk, w, path, slash != NULL ? (size_t)(slash - path) : 0, false);
    int went = go(&walk);
    if (went <= 0)
        return went;
    const struct erofs_dentry *d = erofs_find(&w->tree, walk.at, base, strlen(base));
    *found = d != NULL ? d->inode : NULL;
    return 0;
}
