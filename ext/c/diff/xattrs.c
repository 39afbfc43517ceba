/* Attributes of an open file by its descriptor, at half the cost of its name; by name relative to a
 * directory by listxattrat(2), and where the kernel is older than that (6.13) through /proc/self/fd,
 * at four times the cost. */
#include "internal.h"

#include <stdio.h>
#include <stdlib.h>
#include <sys/xattr.h>

#ifndef SYS_listxattrat
#define SYS_listxattrat 465
#endif
#define LIST_MAX (64u << 10)
#define VALUE_MAX (64u << 10) /* XATTR_SIZE_MAX */

static bool starts(const char *text, const char *prefix) {
    return !strncmp(text, prefix, strlen(prefix));
}

/* What a layer carries: what containers set for themselves, and file capabilities. The rest is the
 * host's (labels), the file system's or a union's own. */
static bool is_shipped(const char *name) {
    if (starts(name, "user.overlay.") || starts(name, "user.fuseoverlayfs."))
        return false;
    return starts(name, "user.") || !strcmp(name, "security.capability");
}

static bool is_gone(int errnum) {
    return errnum == ENOENT || errnum == ENOTDIR || errnum == ELOOP;
}

static bool is_itself(const char *name) {
    return !strcmp(name, ITSELF);
}

static void path_of(char out[PATH_SIZE], int dir_fd, const char *name) {
    snprintf(out, PATH_SIZE, "/proc/self/fd/%d/%s", dir_fd, name);
}

static ssize_t ask(struct walk *walk, int dir_fd, const char *name, void *out, size_t room) {
    char path[PATH_SIZE];
    if (is_itself(name))
        return flistxattr(dir_fd, out, room);
    if (!walk->old_kernel) {
        ssize_t size = syscall(SYS_listxattrat, dir_fd, name, AT_SYMLINK_NOFOLLOW, out, room);
        /* EPERM: a filter of system calls that does not know it. */
        if (size >= 0 || (errno != ENOSYS && errno != EPERM))
            return size;
        walk->old_kernel = true;
    }
    path_of(path, dir_fd, name);
    return llistxattr(path, out, room);
}

/* Bytes of the list in walk->list, 0: none (or it vanished, or cannot have any), -1. Most have
 * none: asked without room, that costs half of what the kernel takes to find room for 64 KiB. */
static ssize_t list_of(struct walk *walk, int dir_fd, const char *name) {
    walk->list.used = 0;
    ssize_t size = ask(walk, dir_fd, name, NULL, 0);
    if (size > 0) {
        if (reserve(walk, &walk->list, LIST_MAX) < 0)
            return -1;
        size = ask(walk, dir_fd, name, walk->list.data, LIST_MAX);
    }
    if (size < 0 && (errno == ENOTSUP || is_gone(errno)))
        return 0;
    if (size < 0)
        return fail(walk, BW_DIFF_SYSTEM, errno, "list attributes");
    return size;
}

static int by_bytes(const void *one, const void *other) {
    return strcmp(*(const char *const *)one, *(const char *const *)other);
}

static ssize_t value_of(int dir_fd, const char *name, const char *key, void *out, size_t room) {
    char path[PATH_SIZE];
    if (is_itself(name))
        return fgetxattr(dir_fd, key, out, room);
    path_of(path, dir_fd, name);
    return lgetxattr(path, key, out, room);
}

static int add_value(struct walk *walk, int dir_fd, const char *name, const char *key,
                     struct blob *out) {
    size_t length = strlen(key) + 1;
    if (reserve(walk, out, length + sizeof(uint32_t) + VALUE_MAX) < 0)
        return -1;
    unsigned char *at = out->data + out->used + length + sizeof(uint32_t);
    ssize_t size = value_of(dir_fd, name, key, at, VALUE_MAX);
    if (size < 0 && (errno == ENODATA || is_gone(errno)))
        return 0;
    if (size < 0)
        return fail(walk, BW_DIFF_SYSTEM, errno, "read attribute");
    uint32_t count = (uint32_t)size;
    memcpy(out->data + out->used, key, length);
    memcpy(out->data + out->used + length, &count, sizeof count);
    out->used += length + sizeof count + count;
    return 0;
}

int read_xattrs(struct walk *walk, int dir_fd, const char *name, struct blob *out) {
    out->used = 0;
    ssize_t size = list_of(walk, dir_fd, name);
    if (size <= 0)
        return (int)size;
    const char *found[512], *text = (const char *)walk->list.data, *end = text + size;
    size_t count = 0;
    for (; text < end; text += strlen(text) + 1) {
        if (!is_shipped(text))
            continue;
        if (count == sizeof found / sizeof *found)
            return fail(walk, BW_DIFF_LIMIT, 0, "more than 512 attributes");
        found[count++] = text;
    }
    qsort(found, count, sizeof *found, by_bytes);
    for (size_t i = 0; i < count; i++)
        if (add_value(walk, dir_fd, name, found[i], out) < 0)
            return -1;
    return 0;
}

/* What overlay has noted at a name of a branch. */
int branch_xattrs(struct walk *walk, int dir_fd, const char *name, bool *opaque, bool *whiteout) {
    char value[2];
    *opaque = *whiteout = false;
    ssize_t size = list_of(walk, dir_fd, name);
    if (size <= 0)
        return (int)size;
    const char *text = (const char *)walk->list.data, *end = text + size;
    for (; text < end; text += strlen(text) + 1) {
        const char *key = starts(text, "trusted.overlay.") ? text + 16
                          : starts(text, "user.overlay.")  ? text + 13
                                                           : "";
        if (!strcmp(key, "redirect") || !strcmp(key, "metacopy"))
            return fail(walk, BW_DIFF_UNSUPPORTED, 0,
                        "the branch was written with redirect_dir or metacopy");
        if (!strcmp(key, "opaque"))
            *opaque |= value_of(dir_fd, name, text, value, sizeof value) == 1 && value[0] == 'y';
        if (!strcmp(key, "whiteout"))
            *whiteout = true;
    }
    return 0;
}
