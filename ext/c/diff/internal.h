/* Shared by the parts of the comparison; nobody else includes it. */
#ifndef BW_DIFF_INTERNAL_H
#define BW_DIFF_INTERNAL_H

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <string.h>
#include <sys/stat.h>

#include "../tar/bw_writer.h"
#include "../util.h"
#include "bw_diff.h"

#define PATH_SIZE 4096
#define LEVELS 1500 /* of directories: two descriptors each; a path of PATH_SIZE has 2,047 */

struct blob {
    unsigned char *data;
    size_t used, room;
};

/* The names of a directory, sorted; before each its type, a byte. */
struct names {
    struct blob text;
    const char **list;
    size_t count;
};

struct inode {
    uint64_t device, number;
    char *path; /* of its first name in the archive; NULL: a free slot */
};

/* A directory that the walk is in. It becomes an entry when something below it does. */
struct level {
    int fd;
    size_t length; /* of its path */
    struct stat st;
    bool written;
};

struct identity {
    uint64_t device, number;
};

/* What the scouts found. */
struct found {
    struct node *root; /* NULL: nothing, the walk looks at everything itself */
    /* Files of several names, of which one at least has changed: sorted. All of their names become
     * entries, so that they are one file again where the layer is unpacked. */
    struct identity *shared;
    size_t shared_count;
};

struct walk {
    enum bw_diff_form form;
    bool looks, listing, content, plain, old_kernel;
    bool sealed; /* new lies on one mount that opens no devices: seen, where the walk has been */
    int handles; /* /proc/self/fd, -1: not opened yet */
    const struct bw_copied *copied; /* the caller's */
    size_t copied_count;
    dev_t device; /* that the record is of */
    struct bw_diff_result *result;
    struct bw_writer writer;
    char path[PATH_SIZE + 256];
    size_t length;
    struct level levels[LEVELS];
    size_t depth;
    struct inode *inodes;
    size_t inode_room, inode_count;
    struct blob ours, theirs, list, map;
    struct found found;
    struct node *node; /* of the directory that the walk is in; NULL: nobody was there before */
};

/* A directory that both trees have, as the scouts left it (scout.c). */
struct node {
    struct node *parent, *children, *last, *next, *cursor;
    bool changed; /* something in it or below it has; written by any thread, read when all are done */
    char name[];
};

/* What overlay or aufs say about a name in a branch. */
enum mark { MARK_NONE, MARK_WHITEOUT, MARK_SKIP };

int fail(struct walk *walk, enum bw_diff_kind kind, int errnum, const char *what);
int reserve(struct walk *walk, struct blob *blob, size_t more);

/* diff.c. 1: nothing has changed, 0: something has, -1. */
int same(struct walk *walk, int new_fd, int old_fd, const char *name, const struct stat *new,
         const struct stat *old);
bool is_mark_name(const char *name);
/* NULL: no memory. */
struct walk *new_walk(struct bw_diff_result *result);
void free_walk(struct walk *walk);

/* copied.c: whether an entry is what was copied. `check` as in struct bw_copied. */
bool is_copied(const struct walk *walk, const struct stat *st, uint64_t check);

/* scout.c: looks through both trees with all processors, before anything is written. 0 or -1. */
int scout(struct walk *walk, int new_fd, int old_fd);
void free_found(struct found *found);
int by_identity(const void *one, const void *other);

/* names.c. The directory stands at its beginning: one that was just opened, or was rewound. */
int rewind_names(struct walk *walk, int fd);
int read_names(struct walk *walk, int fd, struct names *names);
void free_names(struct names *names);
/* Of a name that read_names() found: DT_DIR, ... or DT_UNKNOWN (readdir(3)). */
static inline unsigned char type_of(const char *name) {
    return (unsigned char)name[-1];
}
bool has_name(const struct names *names, const char *name);

/* xattrs.c: of `name` in `dir_fd`, or (ITSELF) of what `dir_fd` is, opened for reading. */
#define ITSELF "."
int read_xattrs(struct walk *walk, int dir_fd, const char *name, struct blob *out);
int branch_xattrs(struct walk *walk, int dir_fd, const char *name, bool *opaque, bool *whiteout);

/* emit.c */
int emit_entry(struct walk *walk, int dir_fd, const char *name, const struct stat *st,
               bool is_new);
int emit_deleted(struct walk *walk, const char *name);
int emit_parents(struct walk *walk);
/* A regular file's content: a descriptor, -1 with errno. Opens no device, whatever is there.
 * `sealed`: the mount of the directory sees to that. */
int open_regular(struct walk *walk, bool sealed, int dir_fd, const char *name, struct stat *st);

#endif
