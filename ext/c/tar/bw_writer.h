/* Writing a tar stream: ustar headers where an entry fits, PAX records (pax(1), POSIX.1-2001)
 * before them where it does not. The same entry gives the same bytes. */
#ifndef BW_WRITER_H
#define BW_WRITER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/stat.h>

#include "outlet.h"

#define BW_WRITER_RECORDS (2u << 20) /* bytes of one entry's PAX records: xattrs are the bulk */

struct bw_writer {
    struct bw_outlet outlet;
    bool streams;    /* the descriptor is a pipe or socket: sendfile(2) copies nothing */
    int errnum;      /* of the write that failed, 0: none did */
    uint64_t size;   /* bytes given out, with those in the buffer */
    uint64_t entries;
    uint64_t missing; /* bytes that files had no longer */
    char *records;
    size_t records_used;
};

/* Attributes of an entry as they are to stand in the archive. `xattrs`: NAME NUL LENGTH(u32)
 * VALUE, one after the other, in the order of their names. */
struct bw_head {
    const char *name;   /* without a slash in front; a directory's gets one at its end */
    const char *link;   /* target of a hard or symbolic link, NULL: none */
    char type;          /* '0' '1' '2' '3' '4' '5' '6' */
    const struct stat *st;
    uint64_t size;      /* of the content in the stream */
    const unsigned char *xattrs;
    size_t xattrs_size;
    uint64_t real_size; /* of a sparse file whose map begins the content, else 0 */
};

/* All return 0, or -1 with writer->errnum. */
int bw_writer_open(struct bw_writer *writer, int fd);
void bw_writer_close(struct bw_writer *writer);
int bw_writer_head(struct bw_writer *writer, const struct bw_head *head);
int bw_writer_put(struct bw_writer *writer, const void *data, size_t size);
/* Copies [offset, offset + size) of a file; what the file has no longer is zeros. */
int bw_writer_file(struct bw_writer *writer, int fd, uint64_t offset, uint64_t size);
int bw_writer_zeros(struct bw_writer *writer, uint64_t size);
/* Zeros up to a whole block after `size` bytes of content. */
int bw_writer_pad(struct bw_writer *writer, uint64_t size);
/* Two zero blocks, and everything out. */
int bw_writer_end(struct bw_writer *writer);
int bw_writer_flush(struct bw_writer *writer);

#endif
