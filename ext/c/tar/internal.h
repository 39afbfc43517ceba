/* Shared by the parts of the extractor; nobody else includes it. */
#ifndef BW_TAR_INTERNAL_H
#define BW_TAR_INTERNAL_H

#include <linux/openat2.h>
#include <stdbool.h>
#include <sys/stat.h>
#include <sys/types.h>

#include "bw_tar.h"
#include "ring.h"

#define BW_BLOCK 512
#define BW_NAME_MAX 4095          /* PATH_MAX without its NUL */
#define BW_COMPONENT_MAX 255      /* NAME_MAX */
#define BW_SPECIAL_MAX (1u << 20) /* bytes of a PAX header or a sparse map, as Go's archive/tar */
#define BW_LINK_MAX 8192          /* bytes of a GNU long name block */
#define BW_XATTRS_MAX 512
#define BW_SPARSE_MAX 65536
#define BW_BUFFER (1u << 20)
#define BW_IN_ROOT (RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS)

struct bw_xattr {
    const char *name;
    const char *value;
    size_t length;
};

struct bw_span {
    uint64_t offset;
    uint64_t length;
};

struct bw_entry {
    char type; /* '0' file, '1' hard link, '2' symbolic link, '3' '4' devices, '5' dir, '6' fifo */
    char name[BW_NAME_MAX + 1];
    char link[BW_NAME_MAX + 1];
    uint64_t size; /* of the content in the stream */
    uint64_t real_size; /* of the file: differs when it is sparse */
    uint32_t mode, uid, gid, major, minor;
    int64_t mtime;
    uint32_t mtime_nsec;
    bool sparse;
    struct bw_span *spans; /* owned by the reader */
    size_t span_count;
    struct bw_xattr *xattrs; /* owned by the reader, as is what they point to */
    size_t xattr_count;
};

struct bw_record;

struct bw_reader {
    int fd;
    struct bw_ring *ring; /* NULL: fd */
    struct bw_tar_result *result;
    struct bw_record *record; /* NULL: nobody wants it */
    bool by_name;             /* the content being taken is recorded by its file's name */
    uint32_t max_name;
    unsigned char *buffer;     /* what is read from fd */
    const unsigned char *data; /* the piece at hand: the buffer, the ring's, or the joint */
    size_t start, end;
    unsigned char joint[BW_BLOCK]; /* a block that lies in two pieces */
    struct bw_piece later;         /* the rest of the piece that the joint ends in */
    bool eof;
    uint64_t body; /* bytes of the present entry's content not yet taken, and its padding */
    uint64_t padding;
    char *pax; /* the present entry's PAX records, cut into strings in place */
    struct bw_xattr xattrs[BW_XATTRS_MAX];
    struct bw_span *spans;
    size_t span_room;
    struct bw_entry entry;
};

/* Sets the error and returns -1. `name` may be NULL: the present entry's stays. */
int bw_fail(struct bw_tar_result *result, enum bw_tar_kind kind, int errnum, const char *what,
            const char *name);

int bw_reader_open(struct bw_reader *reader, const struct bw_tar_options *options,
                   struct bw_tar_result *result);
void bw_reader_close(struct bw_reader *reader);
/* 1: reader->entry is the next entry. 0: the end. -1: an error. Skips what was not taken. */
int bw_reader_next(struct bw_reader *reader);
/* Up to `want` bytes of content in *data, valid until the next call. 0 at the content's end. */
ssize_t bw_reader_take(struct bw_reader *reader, size_t want, const unsigned char **data);
/* Reads what follows the archive, up to the end of the stream. */
int bw_reader_drain(struct bw_reader *reader);

/* reader.c: set the error with the present entry's name and return -1. */
int bw_malformed(struct bw_reader *reader, const char *what);
int bw_over_budget(struct bw_reader *reader, const char *what);
int bw_no_memory(struct bw_reader *reader);

/* What the PAX records before an entry say; strings point into reader->pax. */
struct bw_pax {
    const char *path, *linkpath, *sparse_name;
    bool has_size, has_uid, has_gid, has_mtime, has_real_size, version_1, sparse;
    uint64_t size, uid, gid, real_size;
    int64_t mtime;
    uint32_t nsec;
    uint64_t pending_offset; /* of a version 0.0 map: offset and length come as two records */
    bool has_pending;
};

/* pax.c: cuts `size` bytes of records (and a NUL after them) into strings, in place. */
int bw_parse_pax(struct bw_reader *reader, struct bw_pax *pax, char *text, size_t size);
int bw_add_span(struct bw_reader *reader, uint64_t offset, uint64_t length);

struct bw_hashes {
    uint64_t *slots;
    size_t room, used;
    uint64_t seed;
};

struct bw_dir_time {
    char *path;
    int64_t mtime;
    uint32_t nsec;
};

/* record.c. After a failure it goes on and is not complete. */
struct bw_record *bw_record_new(int fd);
void bw_record_literal(struct bw_record *record, const unsigned char *data, size_t length);
void bw_record_file(struct bw_record *record, const char *path, uint64_t size, uint64_t inode);
/* A name goes: what a record says of it has to be kept by itself. */
void bw_record_removed(struct bw_record *record, int dir_fd, const char *name,
                       const struct stat *st);
unsigned bw_record_kept(const struct bw_record *record);
/* Is it complete: each of so many bytes of the archive in one record? */
bool bw_record_finish(struct bw_record *record, uint64_t stream_bytes);
void bw_record_free(struct bw_record *record);

struct bw_place {
    const struct bw_tar_options *options;
    struct bw_tar_result *result;
    struct bw_reader *reader;
    int parent_fd; /* of parent_path, -1: none */
    char parent_path[BW_NAME_MAX + 1];
    bool parent_direct; /* no link on parent_path: asked only when there are records */
    bool parent_simple; /* what is made in it belongs to root, and has the mode it is made with */
    bool is_root;       /* this process makes files that belong to root */
    bool has_whiteouts; /* aufs's, written by this layer */
    const char *path;   /* of the present entry, cleaned */
    char prefix[BW_NAME_MAX + 1]; /* where all goes to, cleaned; empty: the root */
    struct bw_dir_time *times;
    size_t time_count, time_room;
    struct bw_hashes seen; /* paths of this layer, kept for whiteouts that delete */
    struct bw_hashes implied; /* inodes of the directories in options->implied */
};

int bw_place_open(struct bw_place *place);
void bw_place_close(struct bw_place *place);
/* Does what reader->entry asks for. */
int bw_place_entry(struct bw_place *place);
/* Sets the times of the directories: last, because all that is put into one changes its time. */
int bw_place_finish(struct bw_place *place);

/* follow.c: tells whoever reads while the archive still comes of a large file, of each further part
 * of it, of its end. 0, or -1 with errno. */
#define BW_FOLLOW_LEAST (64u << 10) /* bytes: a layer worth a process is larger */
#define BW_FOLLOW_STEP (1u << 20)
int bw_follow_begin(int fd, uint64_t inode, const char *path);
int bw_follow_more(int fd);
int bw_follow_end(int fd);

/* place.c, for whiteout.c. Those that return int set the error and return -1, or return a
 * descriptor or 0. */
int bw_sys_fail(struct bw_place *place, const char *what);
int bw_hostile(struct bw_place *place, const char *what);
bool bw_is_overlay(const struct bw_place *place);
bool bw_is_aufs(const struct bw_place *place);
/* Is the root the branch of one layer, and not all that the layers make together? */
bool bw_is_branch(const struct bw_place *place);
bool bw_is_archive(const struct bw_place *place);
bool bw_is_whiteout(const struct stat *st);
bool bw_starts(const char *text, const char *prefix);
void bw_forget_parent(struct bw_place *place);
int bw_clear(struct bw_place *place, int dir_fd, const char *name);
int bw_remove(struct bw_place *place, int dir_fd, const char *name);
int bw_set_opaque(struct bw_place *place, int fd);
int bw_make_parents(struct bw_place *place, const char *path);
int bw_parent_of(struct bw_place *place, const char *path, const char **base);

bool bw_is_opaque(const struct bw_place *place, int fd);
int bw_open_directory(int dir_fd, const char *path);
/* Sets the directory's time at the end. */
int bw_remember_time(struct bw_place *place, const char *path, int64_t mtime, uint32_t nsec);

/* attributes.c */
bool bw_xattr_wanted(const char *name);
bool bw_owned_already(const struct bw_place *place);
/* fd >= 0: an open file; else name in dir_fd. errno is left. */
int bw_set_xattr(int fd, int dir_fd, const char *name, const char *key, const char *value,
                 size_t length);
/* Of an open file or directory; fresh: this call's process has just made it. */
int bw_set_attributes(struct bw_place *place, int fd, bool fresh);
int bw_set_named(struct bw_place *place, int dir_fd, const char *base, bool has_mode);
int bw_set_times(struct bw_place *place, int dir_fd, const char *name, int64_t mtime,
                 uint32_t nsec);
/* Takes away what a directory that was there has and its entry has not. */
int bw_drop_xattrs(struct bw_place *place, int fd);

/* below.c: what a layer needs of the tree it is for, where that is another one than the root. */
/* A directory that no entry names is as it was below: at once, or later by bw_tar_adopt(). */
int bw_copy_parent(struct bw_place *place, int fd, const char *path);
/* What was left for later is no longer true: a directory so made may go, or an entry names it. */
void bw_not_implied(struct bw_place *place, int fd);
/* Brings a file that a hard link names into the branch. 1: done; 0: there is none; -1: an error. */
int bw_copy_up(struct bw_place *place, const char *path);
/* Hides all that the tree below has at its root; 1: that is not at hand. */
int bw_hide_root(struct bw_place *place);

/* whiteout.c */
/* `base` is ".wh.NAME". Hides NAME, unless it is the layer's own. */
int bw_hide(struct bw_place *place, int dir_fd, const char *base);
enum bw_mark { BW_MARK_NONE, BW_MARK_WHITEOUT, BW_MARK_METADATA, BW_MARK_INSIDE };
enum bw_mark bw_mark_of(const char *path, const char *base);
int bw_touch_mark(struct bw_place *place, int dir_fd, const char *name);
int bw_place_whiteout(struct bw_place *place, const char *path, const char *base);

/* path.c */
/* Writes `name` without empty and "." components to `clean` (BW_NAME_MAX + 1 bytes). Returns NULL,
 * or why the name is refused. The root itself is "". A whiteout's last component may be longer than
 * NAME_MAX by its mark. */
const char *bw_clean_name(const char *name, char *clean, enum bw_tar_kind *kind);
int bw_openat2(int dir_fd, const char *path, uint64_t flags, uint64_t resolve);
int bw_hashes_add(struct bw_hashes *hashes, const char *path);
bool bw_hashes_has(const struct bw_hashes *hashes, const char *path);
int bw_hashes_add_number(struct bw_hashes *hashes, uint64_t number);
bool bw_hashes_has_number(const struct bw_hashes *hashes, uint64_t number);

#endif
