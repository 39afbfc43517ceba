/* Layers as EROFS images: a tar stream becomes one file that the kernel mounts.
 *
 * tree.c keeps the names and attributes in memory; layer.c puts a tar's entries into it, and
 * their content into the image as it streams by; image.c writes all the rest after it, the
 * superblock last. Memory grows with the entries, not with what is in the files. */
#ifndef BW_EROFS_H
#define BW_EROFS_H

#include "tar/bw_tar.h"

/* Of the options, in_fd or ring, parent_fd, flags (BW_TAR_USERXATTR, BW_TAR_NO_DEVICES) and the
 * limits count. `image_fd` is an empty file, written from its start; after an error what it holds
 * is worth nothing. Whiteouts get overlay's marks. Returns as bw_tar_extract(). Thread-safe. */
int bw_erofs_layer(const struct bw_tar_options *options, int image_fd,
                   struct bw_tar_result *result);

#endif
