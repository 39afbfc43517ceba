/* What a layer needs of the tree that it is for, when it is unpacked into a branch by itself. In a
 * mount of both the kernel would copy it up. */
#include "internal.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/sendfile.h>
#include <sys/xattr.h>
#include <unistd.h>

#define LIST_ROOM 65536  /* XATTR_LIST_MAX */
#define VALUE_ROOM 65536 /* XATTR_SIZE_MAX */

/* Without the tree below the answer may be another one than with it: the caller is told. */
static bool lacks_parent(struct bw_place *p) {
    if (p->options->parent_fd >= 0)
        return false;
    p->result->lacked = 1;
    return true;
}

static bool has_mark(int dir_fd, const char *name) {
    char mark[BW_COMPONENT_MAX + 8];
    struct stat st;
    snprintf(mark, sizeof mark, ".wh.%s", name);
    return fstatat(dir_fd, mark, &st, AT_SYMLINK_NOFOLLOW) == 0;
}

/* Has this layer said that what lies below at `path` is gone? */
static bool hidden(struct bw_place *p, const char *path) {
    char component[BW_COMPONENT_MAX + 1];
    int at = bw_open_directory(p->options->root_fd, ".");
    bool found = false;
    while (at >= 0 && !found && *path) {
        size_t length = strcspn(path, "/");
        memcpy(component, path, length);
        component[length] = 0;
        path += length + (path[length] == '/');
        int next = bw_open_directory(at, component);
        found = (bw_is_aufs(p) && has_mark(at, component)) || (next >= 0 && bw_is_opaque(p, next));
        close(at);
        at = next;
    }
    if (at >= 0)
        close(at);
    return found;
}

static int copy_xattrs(struct bw_place *p, int from, int fd, int dir_fd, const char *name) {
    char *names = malloc(LIST_ROOM + VALUE_ROOM), *value = names + LIST_ROOM;
    int status = 0;
    if (names == NULL)
        return bw_sys_fail(p, "allocate memory");
    ssize_t length = flistxattr(from, names, LIST_ROOM);
    if (length < 0 && errno != ENOTSUP && errno != EBADF)
        status = bw_sys_fail(p, "list the extended attributes");
    for (const char *key = names; status == 0 && key < names + length; key += strlen(key) + 1) {
        if (!bw_xattr_wanted(key))
            continue;
        ssize_t size = fgetxattr(from, key, value, VALUE_ROOM);
        if (size < 0 || bw_set_xattr(fd, dir_fd, name, key, value, (size_t)size) < 0)
            status = bw_sys_fail(p, "copy an extended attribute");
    }
    free(names);
    return status;
}

static int copy_looks(struct bw_place *p, int from, int fd, const struct stat *st) {
    if (fchown(fd, st->st_uid, st->st_gid) < 0 || fchmod(fd, st->st_mode & 07777) < 0)
        return bw_sys_fail(p, "copy the lower directory's owner and mode");
    return copy_xattrs(p, from, fd, -1, NULL);
}

/* The directory `path` of the tree below. -1: there is none; -2: an error. */
static int open_below(struct bw_place *p, int parent_fd, const char *path, struct stat *st) {
    int from = bw_openat2(parent_fd, path, O_RDONLY | O_DIRECTORY, BW_IN_ROOT);
    if (from < 0 && (errno == ENOENT || errno == ENOTDIR))
        return -1;
    if (from >= 0 && fstat(from, st) == 0)
        return from;
    bw_sys_fail(p, "open the lower directory");
    if (from >= 0)
        close(from);
    return -2;
}

/* Notes it for bw_tar_adopt(). */
static int leave_for_later(struct bw_place *p, int fd, const char *path) {
    const struct bw_tar_options *o = p->options;
    size_t length = strlen(path) + 1;
    struct stat st;
    if (p->result->lacked || hidden(p, path))
        return 0;
    if (o->implied == NULL || length > o->implied_room - p->result->implied_size) {
        p->result->lacked = 1;
        return 0;
    }
    errno = ENOMEM;
    if (fstat(fd, &st) < 0 || bw_hashes_add_number(&p->implied, st.st_ino) < 0)
        return bw_sys_fail(p, "remember the directory");
    memcpy(o->implied + p->result->implied_size, path, length);
    p->result->implied_size += length;
    return 0;
}

void bw_not_implied(struct bw_place *p, int fd) {
    struct stat st;
    if (p->implied.used == 0 || p->result->lacked)
        return;
    if (fd < 0 || fstat(fd, &st) < 0 || bw_hashes_has_number(&p->implied, st.st_ino))
        p->result->lacked = 1;
}

int bw_copy_parent(struct bw_place *p, int fd, const char *path) {
    struct stat st;
    if (!bw_is_branch(p))
        return 0;
    if (p->options->parent_fd < 0)
        return leave_for_later(p, fd, path);
    if (hidden(p, path))
        return 0;
    int from = open_below(p, p->options->parent_fd, path, &st);
    if (from < 0)
        return from == -1 ? 0 : -1;
    int status = copy_looks(p, from, fd, &st);
    close(from);
    if (status == 0)
        status = bw_remember_time(p, path, st.st_mtim.tv_sec, (uint32_t)st.st_mtim.tv_nsec);
    return status;
}

/* Would what is made in such a directory take something over from it? */
static bool is_inherited(int fd, const struct stat *st) {
    return (st->st_mode & S_ISGID) || fgetxattr(fd, "system.posix_acl_default", NULL, 0) >= 0;
}

static int adopt_one(struct bw_place *p, int root_fd, int parent_fd, const char *path) {
    struct stat st;
    int from = open_below(p, parent_fd, path, &st);
    if (from < 0)
        return from == -1 ? 1 : -1;
    int fd = bw_openat2(root_fd, path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW, BW_IN_ROOT);
    int status = fd < 0 ? bw_sys_fail(p, "open the directory") : !is_inherited(from, &st);
    if (status > 0 && (copy_looks(p, from, fd, &st) < 0 ||
                       bw_set_times(p, fd, NULL, st.st_mtim.tv_sec,
                                    (uint32_t)st.st_mtim.tv_nsec) < 0))
        status = -1;
    if (fd >= 0)
        close(fd);
    close(from);
    return status;
}

int bw_tar_adopt(int root_fd, int parent_fd, const char *paths, size_t size,
                 struct bw_tar_result *result) {
    memset(result, 0, sizeof *result);
    /* Only what says where an error was is used of them. */
    struct bw_reader *reader = calloc(1, sizeof *reader);
    struct bw_place *place = calloc(1, sizeof *place);
    int status = 1;
    if (reader == NULL || place == NULL)
        status = bw_fail(result, BW_TAR_SYSTEM, ENOMEM, "allocate memory", "");
    else {
        place->result = result;
        place->reader = reader;
    }
    for (const char *path = paths; status > 0 && path < paths + size; path += strlen(path) + 1) {
        snprintf(reader->entry.name, sizeof reader->entry.name, "%s", path);
        status = adopt_one(place, root_fd, parent_fd, path);
    }
    free(reader);
    free(place);
    return status;
}

static int copy_content(struct bw_place *p, int from, int to, const struct stat *st) {
    off_t left = st->st_size;
    while (left > 0) {
        size_t most = left > (1 << 30) ? 1u << 30 : (size_t)left;
        ssize_t done = sendfile(to, from, NULL, most);
        if (done < 0)
            return bw_sys_fail(p, "copy the file from below");
        if (done == 0)
            break;
        left -= done;
    }
    if (fchown(to, st->st_uid, st->st_gid) < 0 || fchmod(to, st->st_mode & 07777) < 0)
        return bw_sys_fail(p, "copy the file's owner and mode from below");
    return copy_xattrs(p, from, to, -1, NULL);
}

static int copy_file(struct bw_place *p, int from, int dir_fd, const char *base,
                     const struct stat *st) {
    int to = openat(dir_fd, base, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
    if (to < 0)
        return bw_sys_fail(p, "copy the file from below");
    int status = copy_content(p, from, to, st);
    if (close(to) < 0 && status == 0)
        status = bw_sys_fail(p, "copy the file from below");
    return status;
}

static int copy_other(struct bw_place *p, int from, int dir_fd, const char *base,
                      const struct stat *st) {
    char target[BW_NAME_MAX + 1];
    int status;
    if (S_ISLNK(st->st_mode)) {
        ssize_t length = readlinkat(from, "", target, BW_NAME_MAX);
        if (length < 0)
            return bw_sys_fail(p, "copy the link from below");
        target[length] = 0;
        status = symlinkat(target, dir_fd, base);
    } else {
        status = mknodat(dir_fd, base, (st->st_mode & S_IFMT) | 0600, st->st_rdev);
        if (status == 0)
            status = fchmodat(dir_fd, base, st->st_mode & 07777, 0);
    }
    if (status < 0 || fchownat(dir_fd, base, st->st_uid, st->st_gid, AT_SYMLINK_NOFOLLOW) < 0)
        return bw_sys_fail(p, "copy the node from below");
    return 0;
}

static int copy_to(struct bw_place *p, int from, const char *path, const struct stat *st) {
    char parent[BW_NAME_MAX + 1];
    const char *slash = strrchr(path, '/'), *base = slash ? slash + 1 : path;
    size_t length = slash ? (size_t)(slash - path) : 0;
    memcpy(parent, path, length);
    parent[length] = 0;
    int dir_fd = bw_make_parents(p, parent);
    if (dir_fd < 0)
        return -1;
    int status = S_ISREG(st->st_mode) ? copy_file(p, from, dir_fd, base, st)
                                      : copy_other(p, from, dir_fd, base, st);
    if (status == 0)
        status = bw_set_times(p, dir_fd, base, st->st_mtim.tv_sec, (uint32_t)st->st_mtim.tv_nsec);
    close(dir_fd);
    return status;
}

int bw_copy_up(struct bw_place *p, const char *path) {
    struct stat st;
    if (lacks_parent(p) || !bw_is_branch(p) || hidden(p, path))
        return 0;
    int from = bw_openat2(p->options->parent_fd, path, O_PATH | O_NOFOLLOW, BW_IN_ROOT);
    if (from < 0)
        return errno == ENOENT || errno == ENOTDIR ? 0 : bw_sys_fail(p, "open the file below");
    if (fstat(from, &st) == 0 && S_ISREG(st.st_mode)) {
        int again = bw_openat2(p->options->parent_fd, path, O_RDONLY | O_NOFOLLOW | O_NONBLOCK,
                               BW_IN_ROOT);
        close(from);
        from = again;
    }
    int status = from < 0 || fstat(from, &st) < 0 ? bw_sys_fail(p, "open the file below") : 0;
    if (status == 0 && !S_ISDIR(st.st_mode) && !bw_is_whiteout(&st))
        status = copy_to(p, from, path, &st) < 0 ? -1 : 1;
    if (from >= 0)
        close(from);
    return status;
}

int bw_hide_root(struct bw_place *p) {
    char mark[BW_COMPONENT_MAX + 8];
    if (lacks_parent(p))
        return 1;
    int below = openat(p->options->parent_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *dir = below < 0 ? NULL : fdopendir(below);
    struct dirent *entry;
    if (dir == NULL) {
        bw_sys_fail(p, "open the root below");
        if (below >= 0)
            close(below);
        return -1;
    }
    int status = 0;
    while (status == 0 && (errno = 0, entry = readdir(dir)) != NULL) {
        if (!strcmp(entry->d_name, ".") || !strcmp(entry->d_name, ".."))
            continue;
        snprintf(mark, sizeof mark, ".wh.%s", entry->d_name);
        status = bw_hide(p, p->options->root_fd, mark);
    }
    if (status == 0 && errno)
        status = bw_sys_fail(p, "read the root below");
    closedir(dir);
    return status;
}
