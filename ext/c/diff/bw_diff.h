/* Changes between two file trees, as a layer's tar or as a list.
 *
 * An entry has changed when its type, mode, owner, device numbers or shipped attributes differ, or,
 * for what is no directory, its size, time or link target; times are compared in seconds where one
 * of them has no fraction. Directories above a change are entries too. Names are sorted by their
 * bytes, so that the same trees give the same tar. */
#ifndef BW_DIFF_H
#define BW_DIFF_H

#include <stddef.h>
#include <stdint.h>

enum bw_diff_form {
    BW_DIFF_TREE,    /* new is a whole tree */
    BW_DIFF_OVERLAY, /* new is a branch: what is not in it has not changed; overlay's marks */
    BW_DIFF_AUFS,    /* likewise, with the marks of aufs */
};

enum bw_diff_kind {
    BW_DIFF_OK = 0,
    BW_DIFF_SYSTEM,      /* a system call failed; errnum says how */
    BW_DIFF_UNSUPPORTED, /* the branch holds what only a mount can read */
    BW_DIFF_LIMIT,       /* names or attributes longer than a tar holds */
};

/* An inode of a copy, as it was when the copy was whole (copied.c). */
struct bw_copied {
    uint64_t inode;  /* 0: a free slot */
    int64_t changed; /* its ctime, in nanoseconds */
    uint64_t check;  /* its size; of a directory the inode of the original */
};

struct bw_diff_options {
    int sink_fd;
    int new_fd;
    int old_fd; /* -1: an empty tree */
    enum bw_diff_form form;
    int looks;   /* compare by status alone, as `rsync -a` does: attributes are not read */
    int listing; /* records "K/path" that end in NUL in place of a tar */
    int content; /* compare files of a tree byte by byte, too; those of a branch always are */
    /* What bw_diff_record() found when new was made, a copy of old; 0 slots: nothing. Of use for a
     * tree that is not compared byte by byte. */
    const struct bw_copied *copied;
    size_t copied_count;
};

struct bw_diff_result {
    uint64_t entries;
    uint64_t size;     /* bytes written */
    uint64_t compared; /* entries that were looked at */
    uint64_t skipped;  /* sockets, names that a layer cannot hold */
    uint64_t cut;      /* files that became shorter while they were read: filled with zeros */
    enum bw_diff_kind kind;
    int errnum;
    const char *what; /* a static sentence */
    char name[4096];
};

/* Both return 0, or -1 with kind, errnum, what and name set. Directories must be open for reading.
 * Thread-safe. What vanishes while it is looked at counts as gone. */
int bw_diff(const struct bw_diff_options *options, struct bw_diff_result *result);

/* What of `new_fd`'s tree, a whole copy of `old_fd`'s that nobody writes to yet, is to be known
 * again. `before`: the file system's time (ctime, in nanoseconds) of something that was changed
 * after the copy was whole. The caller frees `*slots`, NULL when there are none: the file system's
 * times prove nothing. */
int bw_diff_record(int new_fd, int old_fd, int64_t before, struct bw_copied **slots, size_t *count,
                   struct bw_diff_result *result);

/* Writes `name` in `dir_fd` ("." is that directory itself), and all below, as a tar whose entries
 * are called `as` and `as`/...; with an empty `as` the top itself is left out. Names that mean
 * something in a layer are written as they are. */
int bw_diff_pack(int dir_fd, const char *name, const char *as, int sink_fd,
                 struct bw_diff_result *result);

#endif
