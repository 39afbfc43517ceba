/* Whiteouts: what a layer says to be gone (OCI image-spec layer.md, "Whiteouts").
 *
 * They are for what lies below: what the layer itself brings stays, in whichever order it comes.
 * Overlay gets its own marks; where layers are applied to one tree, what they name is deleted. */
#include "internal.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define OPAQUE_DEPTH 512 /* directories below an opaque one that are looked through */

static int spare_or_remove(struct bw_place *p, int fd, char *path, size_t length, int depth);

static int look_at(struct bw_place *p, int fd, const char *name, char *path, size_t length,
                   int depth) {
    size_t more = strlen(name);
    if (length + more + 2 > BW_NAME_MAX)
        return bw_fail(p->result, BW_TAR_BUDGET, 0, "the name is too long", path);
    size_t slash = length != 0;
    if (slash)
        path[length] = '/';
    memcpy(path + length + slash, name, more + 1);
    int status = 0;
    if (!bw_hashes_has(&p->seen, path)) {
        status = bw_remove(p, fd, name);
    } else {
        int child = openat(fd, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
        if (child >= 0) {
            status = spare_or_remove(p, child, path, length + slash + more, depth + 1);
            close(child);
        } else if (errno != ENOTDIR && errno != ELOOP)
            status = bw_sys_fail(p, "open the directory");
    }
    path[length] = 0;
    return status;
}

/* Removes from a directory all that is not of this layer. */
static int spare_or_remove(struct bw_place *p, int fd, char *path, size_t length, int depth) {
    struct dirent *entry;
    if (depth > OPAQUE_DEPTH)
        return bw_fail(p->result, BW_TAR_BUDGET, 0, "an opaque directory is too deep", path);
    int copy = openat(fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *dir = copy < 0 ? NULL : fdopendir(copy);
    if (dir == NULL) {
        bw_sys_fail(p, "open the directory");
        if (copy >= 0)
            close(copy);
        return -1;
    }
    int status = 0;
    while (status == 0 && (errno = 0, entry = readdir(dir)) != NULL) {
        if (!strcmp(entry->d_name, ".") || !strcmp(entry->d_name, ".."))
            continue;
        status = look_at(p, fd, entry->d_name, path, length, depth);
    }
    if (status == 0 && errno)
        status = bw_sys_fail(p, "read the directory");
    closedir(dir);
    return status;
}

/* `path` is the directory: empty it of what lower layers put there, or mark it. */
static int place_opaque(struct bw_place *p, const char *parent) {
    char path[BW_NAME_MAX + 1];
    if (!*parent && bw_is_branch(p)) {
        int status = bw_hide_root(p); /* no stacking file system looks for marks on a root */
        if (status <= 0)
            return status;
    }
    strcpy(path, parent);
    int fd = bw_make_parents(p, path);
    if (fd < 0)
        return -1;
    bw_forget_parent(p);
    int status = bw_is_branch(p) ? bw_set_opaque(p, fd) : spare_or_remove(p, fd, path, strlen(path), 0);
    close(fd);
    return status;
}

/* Makes one of aufs's files, with the mode that it gives them. */
int bw_touch_mark(struct bw_place *p, int dir_fd, const char *name) {
    int fd = openat(dir_fd, name, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0444);
    if (fd < 0)
        return errno == EEXIST ? 0 : bw_sys_fail(p, "write the whiteout");
    close(fd);
    return 0;
}

/* 1: written; 0: something of the layer's own has the name, *st says what; -1: an error. */
static int write_mark(struct bw_place *p, int dir_fd, const char *base, struct stat *st) {
    const char *hidden = base + 4;
    if (bw_is_aufs(p)) {
        if (fstatat(dir_fd, hidden, st, AT_SYMLINK_NOFOLLOW) == 0)
            return 0;
        if (errno != ENOENT)
            return bw_sys_fail(p, "write the whiteout");
        p->has_whiteouts = true;
        return bw_touch_mark(p, dir_fd, base) < 0 ? -1 : 1;
    }
    if (mknodat(dir_fd, hidden, S_IFCHR, 0) == 0)
        return 1;
    if (errno != EEXIST || fstatat(dir_fd, hidden, st, AT_SYMLINK_NOFOLLOW) < 0)
        return bw_sys_fail(p, "write the whiteout");
    return 0;
}

/* What the layer itself brought survives its whiteout: that is for what lies below. */
int bw_hide(struct bw_place *p, int dir_fd, const char *base) {
    const char *hidden = base + 4;
    struct stat st;
    int written = write_mark(p, dir_fd, base, &st);
    if (written != 0 || !S_ISDIR(st.st_mode))
        return written < 0 ? -1 : 0;
    int fd = openat(dir_fd, hidden, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (fd < 0)
        return bw_sys_fail(p, "open the directory");
    int status = bw_set_opaque(p, fd);
    close(fd);
    return status;
}

static int delete_whiteout(struct bw_place *p, int dir_fd, const char *hidden, const char *path) {
    char full[2 * BW_NAME_MAX + 2];
    const char *slash = strrchr(path, '/');
    int upto = slash ? (int)(slash + 1 - path) : 0;
    snprintf(full, sizeof full, "%.*s%s", upto, path, hidden);
    if (bw_hashes_has(&p->seen, full)) {
        int fd = openat(dir_fd, hidden, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
        if (fd < 0) /* a file of this layer: it has replaced what was below already */
            return 0;
        int status = spare_or_remove(p, fd, full, strlen(full), 0);
        close(fd);
        return status;
    }
    int keep = dup(dir_fd);
    if (keep < 0)
        return bw_sys_fail(p, "open the directory");
    int status = bw_clear(p, keep, hidden);
    close(keep);
    return status;
}

int bw_place_whiteout(struct bw_place *p, const char *path, const char *base) {
    const char *hidden = base + 4, *again;
    char parent[BW_NAME_MAX + 1];
    if (!strcmp(base, ".wh..wh..opq")) {
        size_t length = base == path ? 0 : (size_t)(base - path) - 1;
        memcpy(parent, path, length);
        parent[length] = 0;
        return place_opaque(p, parent);
    }
    if (!*hidden || !strcmp(hidden, ".") || !strcmp(hidden, ".."))
        return bw_hostile(p, "a whiteout of no name");
    int dir_fd = bw_parent_of(p, path, &again);
    if (dir_fd < 0)
        return -1;
    return bw_is_branch(p) ? bw_hide(p, dir_fd, base)
                                             : delete_whiteout(p, dir_fd, hidden, path);
}

/* Looks for ".wh." at the start of each component. */
enum bw_mark bw_mark_of(const char *path, const char *base) {
    for (const char *part = path; *part;) {
        size_t length = strcspn(part, "/");
        if (bw_starts(part, ".wh..wh.") && strcmp(part, ".wh..wh..opq"))
            return BW_MARK_METADATA;
        if (bw_starts(part, ".wh."))
            return part == base ? BW_MARK_WHITEOUT : BW_MARK_INSIDE;
        part += length + (part[length] == '/');
    }
    return BW_MARK_NONE;
}
