/* Owner, mode, extended attributes and times of what an entry has made. */
#include "internal.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>

bool bw_starts(const char *text, const char *prefix) {
    return !strncmp(text, prefix, strlen(prefix));
}

/* Overlay's own marks would be control over the mount; labels of another machine's policy mean
 * nothing here; the rest of security.* is for its modules alone. */
bool bw_xattr_wanted(const char *name) {
    if (bw_starts(name, "trusted.overlay.") || bw_starts(name, "user.overlay."))
        return false;
    return bw_starts(name, "user.") || bw_starts(name, "trusted.") ||
           !strcmp(name, "security.capability") || !strcmp(name, "system.posix_acl_access") ||
           !strcmp(name, "system.posix_acl_default");
}

/* fd >= 0: an open file; else name in dir_fd, which cannot be opened (a link, a device). */
int bw_set_xattr(int fd, int dir_fd, const char *name, const char *key, const char *value,
                 size_t length) {
    char path[BW_COMPONENT_MAX + 40];
    if (fd >= 0)
        return fsetxattr(fd, key, value, length, 0);
    snprintf(path, sizeof path, "/proc/self/fd/%d/%s", dir_fd, name);
    return lsetxattr(path, key, value, length, 0);
}

static int set_xattrs(struct bw_place *p, int fd, int dir_fd, const char *name) {
    const struct bw_entry *e = &p->reader->entry;
    for (size_t i = 0; i < e->xattr_count; i++) {
        const struct bw_xattr *x = &e->xattrs[i];
        if (!bw_xattr_wanted(x->name)) {
            p->result->skipped_xattrs++;
            continue;
        }
        if (bw_set_xattr(fd, dir_fd, name, x->name, x->value, x->length) == 0)
            continue;
        /* user.* belongs to files and directories only; some file systems take none at all. */
        if (errno == ENOTSUP || (errno == EPERM && fd < 0)) {
            p->result->skipped_xattrs++;
            continue;
        }
        return bw_sys_fail(p, "set an extended attribute");
    }
    return 0;
}

/* Most of what images hold belongs to root, as what root makes does anyway, unless the directory
 * gives its group on: one system call less for each file. */
bool bw_owned_already(const struct bw_place *p) {
    const struct bw_entry *e = &p->reader->entry;
    return p->is_root && p->parent_simple && e->uid == 0 && e->gid == 0;
}

/* Owner before mode (chown clears setuid), both before attributes (chown clears capabilities). */
int bw_set_attributes(struct bw_place *p, int fd, bool fresh) {
    const struct bw_entry *e = &p->reader->entry;
    if (bw_is_archive(p))
        return 0;
    bool owned = fresh && bw_owned_already(p);
    if (!owned && fchown(fd, e->uid, e->gid) < 0)
        return bw_sys_fail(p, "set the owner");
    /* open() may leave special bits out, and chown does. */
    if (!(owned && p->parent_simple && e->mode <= 0777) && fchmod(fd, e->mode) < 0)
        return bw_sys_fail(p, "set the mode");
    return set_xattrs(p, fd, -1, NULL);
}

int bw_set_times(struct bw_place *p, int dir_fd, const char *name, int64_t mtime,
                     uint32_t nsec) {
    struct timespec times[2] = {{mtime, nsec}, {mtime, nsec}};
    int status = name ? utimensat(dir_fd, name, times, AT_SYMLINK_NOFOLLOW)
                      : futimens(dir_fd, times);
    return status < 0 ? bw_sys_fail(p, "set the time") : 0;
}

/* Links, devices and pipes: what is never opened. */
int bw_set_named(struct bw_place *p, int dir_fd, const char *base, bool has_mode) {
    const struct bw_entry *e = &p->reader->entry;
    if (bw_is_archive(p))
        return 0;
    if (!bw_owned_already(p) && fchownat(dir_fd, base, e->uid, e->gid, AT_SYMLINK_NOFOLLOW) < 0)
        return bw_sys_fail(p, "set the owner");
    if (has_mode && fchmodat(dir_fd, base, e->mode, 0) < 0)
        return bw_sys_fail(p, "set the mode");
    if (set_xattrs(p, -1, dir_fd, base) < 0)
        return -1;
    return bw_set_times(p, dir_fd, base, e->mtime, e->mtime_nsec);
}

static bool has_xattr(const struct bw_entry *e, const char *name) {
    for (size_t i = 0; i < e->xattr_count; i++)
        if (!strcmp(e->xattrs[i].name, name))
            return true;
    return false;
}

/* What a layer can say of attributes; ACLs and trusted.* a lower layer may have from elsewhere. */
static bool is_shipped(const char *name) {
    return (bw_starts(name, "user.") && bw_xattr_wanted(name)) ||
           !strcmp(name, "security.capability");
}

int bw_drop_xattrs(struct bw_place *p, int fd) {
    char names[65536]; /* the kernel's limit, XATTR_LIST_MAX */
    ssize_t length = flistxattr(fd, names, sizeof names);
    if (length < 0)
        return errno == ENOTSUP ? 0 : bw_sys_fail(p, "list the extended attributes");
    for (const char *name = names; name < names + length; name += strlen(name) + 1)
        if (is_shipped(name) && !has_xattr(&p->reader->entry, name) && fremovexattr(fd, name) < 0)
            return bw_sys_fail(p, "remove an extended attribute");
    return 0;
}
