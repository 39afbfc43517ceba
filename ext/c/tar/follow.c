/* How far the large files of an archive have come, for whoever reads one while the rest of the
 * archive is still on its way. Records on a pipe, numbers little-endian:
 *
 *     B inode (64 bits) length (16 bits) path    a file begins, and has no content yet
 *     G                                          it has more
 *     E                                          it has all
 *
 * One file after the other: G and E are of the last B. */
#include "internal.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

static int tell(int fd, const unsigned char *data, size_t length) {
    while (length) {
        ssize_t done = write(fd, data, length);
        if (done < 0 && errno == EINTR)
            continue;
        if (done < 0)
            return -1;
        data += done;
        length -= (size_t)done;
    }
    return 0;
}

int bw_follow_begin(int fd, uint64_t inode, const char *path) {
    unsigned char record[1 + 8 + 2 + BW_NAME_MAX], *at = record;
    size_t length = strlen(path);
    *at++ = 'B';
    for (int i = 0; i < 8; i++)
        *at++ = (unsigned char)(inode >> 8 * i);
    *at++ = (unsigned char)length;
    *at++ = (unsigned char)(length >> 8);
    memcpy(at, path, length);
    return tell(fd, record, (size_t)(at - record) + length);
}

int bw_follow_more(int fd) { return tell(fd, (const unsigned char *)"G", 1); }

int bw_follow_end(int fd) { return tell(fd, (const unsigned char *)"E", 1); }
