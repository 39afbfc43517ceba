/* Shared by the parts of the image writer; nobody else includes it. */
#ifndef BW_EROFS_INTERNAL_H
#define BW_EROFS_INTERNAL_H

#include "bw_erofs.h"
#include "tar/internal.h"

#define EROFS_BLOCK 4096u
#define EROFS_BUFFER (1u << 20)
#define EROFS_INLINE_MAX 2048u           /* bytes of a file that is kept beside its inode, ... */
#define EROFS_INLINE_BUDGET (64ull << 20) /* ... as long as all of them together are fewer */
#define EROFS_CHUNKS_MAX (1u << 16)       /* pieces of a file with holes that are told apart, ... */
#define EROFS_CHUNKS_BUDGET (16ull << 20) /* ... as long as all of them together are fewer */

struct erofs_dentry;

struct erofs_inode {
    uint16_t mode;
    bool opaque;
    bool reached; /* while the image is put together */
    bool inlined; /* its tail lies beside it */
    uint32_t uid, gid, rdev, nlink, number;
    uint64_t size;
    int64_t mtime;
    uint32_t nsec;
    uint32_t block;        /* where its data begins */
    unsigned char *kept;   /* all of its data, for a link or a small file; NULL: in the image */
    unsigned char *xattrs; /* as they stand in the image, without the header */
    uint32_t xattrs_size;
    uint32_t *chunks; /* of a file with holes: the block where each piece begins, as in the image */
    uint32_t chunk_count, chunk_bits;
    struct erofs_inode *parent;    /* of a directory */
    struct erofs_dentry *children; /* of a directory, unordered until sorted */
    struct erofs_dentry **sorted;
    uint32_t child_count, sorted_count;
    uint64_t nid;
    struct erofs_inode *next; /* all that there are, to free them */
};

struct erofs_dentry {
    struct erofs_inode *directory, *inode;
    struct erofs_dentry *sibling;
    uint64_t hash;
    uint16_t length;
    char name[];
};

struct erofs_tree {
    struct erofs_inode *root, *all;
    struct erofs_dentry **slots;
    size_t room, used, inode_count;
};

struct erofs_writer {
    const struct bw_tar_options *options;
    struct bw_tar_result *result;
    struct bw_reader *reader;
    int fd;
    uint64_t at; /* bytes of the image written, with those in the buffer */
    size_t filled;
    unsigned char *buffer;
    uint64_t kept;   /* bytes of small files in memory */
    uint64_t chunks; /* pieces of files with holes */
    struct erofs_tree tree;
};

/* tree.c: NULL when there is no memory, or nothing. Names are `length` bytes. */
int erofs_tree_open(struct erofs_tree *tree);
void erofs_tree_close(struct erofs_tree *tree);
struct erofs_inode *erofs_inode_new(struct erofs_tree *tree, uint16_t mode);
struct erofs_dentry *erofs_find(const struct erofs_tree *tree, const struct erofs_inode *directory,
                                const char *name, size_t length);
/* The name must be free. */
struct erofs_dentry *erofs_add(struct erofs_tree *tree, struct erofs_inode *directory,
                               const char *name, size_t length, struct erofs_inode *inode);
bool erofs_is_whiteout(const struct erofs_inode *inode);

/* attributes.c: 1: taken, 0: not wanted in an image, -1: no memory or no room. */
int erofs_add_xattr(struct erofs_inode *inode, const char *key, const char *value, size_t length);

/* image.c: set the error and return -1. */
int erofs_fail(struct erofs_writer *w, const char *what);
int erofs_put(struct erofs_writer *w, const void *data, size_t length);
int erofs_flush(struct erofs_writer *w);
int erofs_pwrite(struct erofs_writer *w, const void *data, size_t length, uint64_t offset);
/* Zeros up to a multiple of `unit`. */
int erofs_align(struct erofs_writer *w, uint64_t unit);
/* Where the next data begins, as a number of blocks. */
int erofs_next_block(struct erofs_writer *w, uint32_t *block);
int erofs_finish(struct erofs_writer *w);

/* resolve.c */
/* The directory at `path` (cleaned), made with all above it where it is not. NULL: an error. */
struct erofs_inode *erofs_directory_at(struct erofs_writer *w, const char *path, size_t length);
/* The inode of a path, its last component not followed; *found NULL: none. */
int erofs_lookup(struct erofs_writer *w, const char *path, struct erofs_inode **found);

/* below.c */
/* A directory that no entry names is as it was below. */
int erofs_copy_parent(struct erofs_writer *w, struct erofs_inode *directory, const char *path);
/* Brings what a hard link names into the layer. 1: *inode is it; 0: there is none; -1: an error. */
int erofs_copy_up(struct erofs_writer *w, const char *path, struct erofs_inode **inode);

/* layer.c: puts an inode at a name of a directory, over what is there. */
int erofs_place(struct erofs_writer *w, struct erofs_inode *directory, const char *name,
                size_t length, struct erofs_inode *inode);
int erofs_hide(struct erofs_writer *w, struct erofs_inode *directory, const char *name,
               size_t length);

#endif
