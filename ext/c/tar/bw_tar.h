/* Extraction of an uncompressed tar stream beneath a directory, safe against hostile archives.
 *
 * Lowest first: reader.c (with pax.c) turns the stream into entries and touches no file system;
 * place.c (with path.c and whiteout.c) does what an entry asks for, every path by
 * openat2(RESOLVE_IN_ROOT) beneath the root; remove.c deletes trees; record.c writes down what the
 * archive's bytes can be made of again; follow.c tells how far large files have come. extract.c is
 * the loop. ring.c is a stream in memory. */
#ifndef BW_TAR_H
#define BW_TAR_H

#include <stddef.h>
#include <stdint.h>

enum bw_tar_kind {
    BW_TAR_OK = 0,
    BW_TAR_MALFORMED, /* not a tar, or broken */
    BW_TAR_HOSTILE,   /* asks for something outside of its rights: "..", a whiteout trick */
    BW_TAR_BUDGET,    /* more entries, bytes or longer names than allowed */
    BW_TAR_SYSTEM,    /* a system call failed; errnum says how */
};

/* What becomes of whiteouts: nothing special; overlay's marks; aufs's, which are the files
 * themselves; deletion of what they name. */
enum bw_tar_whiteouts {
    BW_WHITEOUTS_PLAIN,
    BW_WHITEOUTS_OVERLAY,
    BW_WHITEOUTS_AUFS,
    BW_WHITEOUTS_DELETE,
};

enum bw_tar_flags {
    BW_TAR_USERXATTR = 1,  /* overlay's marks go to user.overlay.*, as in a user namespace */
    BW_TAR_NO_DEVICES = 2, /* skip device nodes: a user namespace cannot make them */
    BW_TAR_ARCHIVE = 4,    /* an archive of files, not a layer: plain files, directories and
                              symbolic links only, no owner, no attributes, modes 0600 and 0700 */
    BW_TAR_CHOWN = 8,      /* all belongs to uid and gid */
    BW_TAR_KEEP_KINDS = 16, /* no directory replaces what is none, nor the reverse */
};

struct bw_ring;

struct bw_tar_options {
    int in_fd;            /* the stream, when ring is NULL */
    struct bw_ring *ring; /* the stream in memory; the caller calls bw_ring_leave() afterwards */
    int root_fd;          /* a directory; O_PATH is not enough */
    int parent_fd;        /* the tree that a layer is for, -1: not at hand */
    int record_fd;        /* gets the records of record.c, -1: not wanted */
    int follow_fd;        /* gets the records of follow.c, -1: not wanted */
    enum bw_tar_whiteouts whiteouts;
    uint32_t flags;
    uint32_t uid, gid;  /* with BW_TAR_CHOWN */
    const char *prefix; /* the directory below the root that all goes to; NULL: the root. Links
                           resolve in the root all the same. */
    uint64_t max_entries;
    uint64_t max_bytes; /* of file content written */
    uint32_t max_name;  /* bytes of a name, and of a link's target; at most 4095 */
    char *implied;      /* without parent_fd: gets the directories that no entry names and that look
                           like those below, each path with its NUL; NULL: they count as lacked */
    size_t implied_room;
};

struct bw_tar_result {
    uint64_t entries;
    uint64_t bytes;          /* of file content written */
    uint64_t stream_bytes;   /* of the stream, all of it */
    uint64_t skipped;        /* entries left out: devices where asked, AUFS metadata */
    uint64_t skipped_xattrs; /* attributes that the file system or the rules do not take */
    uint32_t recorded;       /* 1: what went to record_fd is complete */
    uint32_t kept;           /* files whose content went there, for they went again */
    uint32_t lacked;         /* 1: parent_fd was not given, and would have been looked at for more
                                than the directories in `implied` */
    size_t implied_size;     /* bytes written to options->implied */
    enum bw_tar_kind kind;
    int errnum;
    const char *what; /* a static sentence */
    char name[4096];  /* the entry, cut to fit */
};

/* Reads the stream to its end. Returns 0, or -1 with kind, errnum, what and name set. What was written
 * before an error stays; the caller throws the whole tree away. Thread-safe. */
int bw_tar_extract(const struct bw_tar_options *options, struct bw_tar_result *result);

/* Gives directories of a branch owner, mode, attributes and time that they have in the tree that it
 * has come to lie on: `paths` is what was written to `implied`, or a part of it in the same order. What
 * is no directory in one of the two is passed over. 1: done. 0: what was made in one of them should
 * have inherited from it: the layer is to be unpacked on its parent. -1: an error, as above. */
int bw_tar_adopt(int root_fd, int parent_fd, const char *paths, size_t size,
                 struct bw_tar_result *result);

/* Parses the stream and does nothing with it: for fuzzing. */
int bw_tar_scan(const struct bw_tar_options *options, struct bw_tar_result *result);

/* Deletes `name` below dir_fd, whatever it is and however deep, never following a link and never
 * crossing into another file system. Adds what went to *removed. Returns 0 or -1 with errno;
 * nothing there is no error. */
int bw_remove_tree(int dir_fd, const char *name, uint64_t *removed);

/* The same, and tells of each name that is no directory's before it goes. */
struct stat;
typedef void bw_gone(void *context, int dir_fd, const char *name, const struct stat *st);
int bw_remove_watched(int dir_fd, const char *name, uint64_t *removed, bw_gone *gone,
                      void *context);

#endif
