/* Extended attributes as an image has them: entries of 4 + name + value bytes, padded to 4. */
#include "internal.h"

#include <endian.h>
#include <stdlib.h>
#include <string.h>

#define XATTRS_ROOM (65534u * 4) /* what i_xattr_icount can say, without the header */

static const struct {
    const char *prefix;
    unsigned char index;
} PREFIXES[] = {
    {"user.", 1},    {"system.posix_acl_access", 2}, {"system.posix_acl_default", 3},
    {"trusted.", 4}, {"security.", 6},
};

int erofs_add_xattr(struct erofs_inode *inode, const char *key, const char *value, size_t length) {
    for (size_t i = 0; i < sizeof PREFIXES / sizeof *PREFIXES; i++) {
        if (!bw_starts(key, PREFIXES[i].prefix))
            continue;
        const char *name = key + strlen(PREFIXES[i].prefix);
        size_t name_length = strlen(name), size = (4 + name_length + length + 3) & ~(size_t)3;
        if (name_length > 255 || length > 65535 || inode->xattrs_size + size > XATTRS_ROOM)
            return -1;
        unsigned char *grown = realloc(inode->xattrs, inode->xattrs_size + size);
        if (grown == NULL)
            return -1;
        inode->xattrs = grown;
        grown += inode->xattrs_size;
        memset(grown, 0, size);
        uint16_t stored = htole16((uint16_t)length);
        grown[0] = (unsigned char)name_length;
        grown[1] = PREFIXES[i].index;
        memcpy(grown + 2, &stored, 2);
        memcpy(grown + 4, name, name_length);
        memcpy(grown + 4 + name_length, value, length);
        inode->xattrs_size += (uint32_t)size;
        return 1;
    }
    return 0;
}
