/* What an entry asks for, done beneath the root.
 *
 * No path is ever used as a string from the root but through openat2 with RESOLVE_IN_ROOT and
 * RESOLVE_NO_MAGICLINKS: a symbolic link of the archive, absolute or full of "..", resolves as if
 * the root were "/", as the archive's author means it and as a chroot would. The last component is
 * always handled by name in its parent's descriptor and never followed. */
#include "internal.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/xattr.h>
#include <unistd.h>

int bw_sys_fail(struct bw_place *p, const char *what) {
    return bw_fail(p->result, BW_TAR_SYSTEM, errno, what, p->reader->entry.name);
}

int bw_hostile(struct bw_place *p, const char *what) {
    return bw_fail(p->result, BW_TAR_HOSTILE, 0, what, p->reader->entry.name);
}

/* What making an entry answers beside 0 and -1. */
enum { PLACE_TAKEN = -2, PLACE_AGAIN = -3 };

bool bw_is_overlay(const struct bw_place *p) {
    return p->options->whiteouts == BW_WHITEOUTS_OVERLAY;
}

bool bw_is_aufs(const struct bw_place *p) { return p->options->whiteouts == BW_WHITEOUTS_AUFS; }

bool bw_is_branch(const struct bw_place *p) { return bw_is_overlay(p) || bw_is_aufs(p); }

bool bw_is_archive(const struct bw_place *p) { return p->options->flags & BW_TAR_ARCHIVE; }

static bool keeps_kinds(const struct bw_place *p) { return p->options->flags & BW_TAR_KEEP_KINDS; }

bool bw_is_whiteout(const struct stat *st) {
    return S_ISCHR(st->st_mode) && st->st_rdev == 0;
}

int bw_place_open(struct bw_place *p) {
    p->parent_fd = -1;
    p->is_root = geteuid() == 0 && getegid() == 0;
    if (p->options->prefix != NULL) {
        enum bw_tar_kind kind = BW_TAR_HOSTILE;
        const char *why = bw_clean_name(p->options->prefix, p->prefix, &kind);
        if (why != NULL)
            return bw_fail(p->result, kind, 0, why, p->options->prefix);
    }
    if (getrandom(&p->seen.seed, sizeof p->seen.seed, 0) != sizeof p->seen.seed)
        return bw_sys_fail(p, "get random bytes");
    return 0;
}

void bw_forget_parent(struct bw_place *p) {
    if (p->parent_fd >= 0 && p->parent_fd != p->options->root_fd)
        close(p->parent_fd);
    p->parent_fd = -1;
}

void bw_place_close(struct bw_place *p) {
    bw_forget_parent(p);
    for (size_t i = 0; i < p->time_count; i++)
        free(p->times[i].path);
    free(p->times);
    free(p->seen.slots);
    free(p->implied.slots);
    p->times = NULL;
    p->seen.slots = p->implied.slots = NULL;
}

/* Paths of this layer matter only where a whiteout has to spare them. */
static int note(struct bw_place *p, const char *path) {
    if (p->options->whiteouts != BW_WHITEOUTS_DELETE)
        return 0;
    errno = ENOMEM;
    return bw_hashes_add(&p->seen, path) < 0 ? bw_sys_fail(p, "remember the path") : 0;
}

/* An entry brings its parents along, whether they were there or not. */
static int note_parents(struct bw_place *p, const char *path) {
    char prefix[BW_NAME_MAX + 1];
    if (p->options->whiteouts != BW_WHITEOUTS_DELETE)
        return 0;
    strcpy(prefix, path);
    for (char *slash = strrchr(prefix, '/'); slash != NULL; slash = strrchr(prefix, '/')) {
        *slash = 0;
        if (note(p, prefix) < 0)
            return -1;
    }
    return 0;
}

/* ---- making room ---- */

/* Removes `name` for good. What was remembered of paths may no longer be true then. */
int bw_clear(struct bw_place *p, int dir_fd, const char *name) {
    bw_forget_parent(p);
    bw_not_implied(p, -1);
    return bw_remove(p, dir_fd, name);
}

static void gone(void *record, int dir_fd, const char *name, const struct stat *st) {
    bw_record_removed(record, dir_fd, name, st);
}

int bw_remove(struct bw_place *p, int dir_fd, const char *name) {
    struct bw_record *record = p->reader->record;
    uint64_t removed = 0;
    int status = bw_remove_watched(dir_fd, name, &removed, record ? gone : NULL, record);
    return status < 0 ? bw_sys_fail(p, "remove what was there") : 0;
}

static const char *opaque_name(const struct bw_place *p) {
    return p->options->flags & BW_TAR_USERXATTR ? "user.overlay.opaque"
                                                : "trusted.overlay.opaque";
}

int bw_set_opaque(struct bw_place *p, int fd) {
    if (bw_is_aufs(p))
        return bw_touch_mark(p, fd, ".wh..wh..opq");
    return fsetxattr(fd, opaque_name(p), "y", 1, 0) < 0 ? bw_sys_fail(p, "make opaque") : 0;
}

bool bw_is_opaque(const struct bw_place *p, int fd) {
    char value[4];
    struct stat st;
    if (bw_is_aufs(p))
        return fstatat(fd, ".wh..wh..opq", &st, AT_SYMLINK_NOFOLLOW) == 0;
    return fgetxattr(fd, opaque_name(p), value, sizeof value) == 1 && value[0] == 'y';
}

int bw_open_directory(int dir_fd, const char *path) {
    return openat(dir_fd, path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
}

/* Where a layer's own entry comes to where its whiteout was: the entry hides what lies below by
 * itself; a directory has to be opaque for that. 1: the whiteout was there. */
static int drop_mark(struct bw_place *p, int dir_fd, const char *name) {
    char mark[BW_COMPONENT_MAX + 8];
    if (!p->has_whiteouts || strlen(name) + 4 > BW_COMPONENT_MAX)
        return 0;
    snprintf(mark, sizeof mark, ".wh.%s", name);
    if (unlinkat(dir_fd, mark, 0) == 0)
        return 1;
    return errno == ENOENT ? 0 : bw_sys_fail(p, "remove the whiteout");
}

/* Makes the directory `name` unless it is there. A file that had its name hid what lies below;
 * the directory that follows it must go on hiding that. Returns a descriptor. */
static int make_directory(struct bw_place *p, int dir_fd, const char *name, bool replace) {
    struct stat st;
    bool hides = false;
    int keep = -1, fd;
    if (mkdirat(dir_fd, name, 0755) < 0) {
        if (errno != EEXIST || fstatat(dir_fd, name, &st, AT_SYMLINK_NOFOLLOW) < 0)
            return bw_sys_fail(p, "make the directory");
        if (!S_ISDIR(st.st_mode)) {
            if (keeps_kinds(p))
                return bw_hostile(p, "a directory that would replace what is none");
            if (!replace && !(bw_is_overlay(p) && bw_is_whiteout(&st)))
                return bw_fail(p->result, BW_TAR_MALFORMED, 0,
                               "a part of its path is no directory", p->reader->entry.name);
            /* dir_fd may be the remembered parent, which bw_clear() closes. */
            keep = dup(dir_fd);
            if (keep < 0 || bw_clear(p, keep, name) < 0 || mkdirat(keep, name, 0755) < 0) {
                int status = bw_sys_fail(p, "make the directory");
                if (keep >= 0)
                    close(keep);
                return status;
            }
            dir_fd = keep;
            hides = bw_is_branch(p);
        }
    }
    fd = bw_open_directory(dir_fd, name);
    int dropped = fd < 0 ? 0 : drop_mark(p, dir_fd, name);
    if (dropped < 0) {
        close(fd);
        fd = -1;
    } else if (fd < 0)
        bw_sys_fail(p, "open the directory");
    else if ((hides || dropped) && bw_set_opaque(p, fd) < 0) {
        close(fd);
        fd = -1;
    }
    if (keep >= 0)
        close(keep);
    return fd;
}

/* ---- parents ---- */

/* Opens or makes each directory of `path`. A link among them resolves inside the root. */
int bw_make_parents(struct bw_place *p, const char *path) {
    char prefix[BW_NAME_MAX + 1], component[BW_COMPONENT_MAX + 1];
    int at = dup(p->options->root_fd);
    if (at < 0)
        return bw_sys_fail(p, "open the directory");
    for (const char *part = path; *part;) {
        size_t length = strcspn(part, "/"), upto = (size_t)(part - path) + length;
        memcpy(prefix, path, upto);
        prefix[upto] = 0;
        memcpy(component, part, length);
        component[length] = 0;
        int next = bw_openat2(p->options->root_fd, prefix, O_RDONLY | O_DIRECTORY, BW_IN_ROOT);
        if (next < 0) {
            if (errno != ENOENT && errno != ENOTDIR) {
                close(at);
                return bw_sys_fail(p, "open the parent directory");
            }
            next = make_directory(p, at, component, false);
            if (next >= 0 && bw_copy_parent(p, next, prefix) < 0) {
                close(next);
                next = -1;
            }
        }
        close(at);
        if (next < 0)
            return -1;
        at = next;
        part += length + (part[length] == '/');
    }
    return at;
}

/* What holds for all that is made in this directory. place_directory() makes it forgotten. */
static void look_at_parent(struct bw_place *p, int fd) {
    struct stat st;
    p->parent_simple = p->parent_direct = false;
    if (fd < 0)
        return;
    if (p->is_root)
        p->parent_simple = fstat(fd, &st) == 0 && st.st_gid == 0 && !(st.st_mode & S_ISGID) &&
                           fgetxattr(fd, "system.posix_acl_default", NULL, 0) < 0;
    if (p->reader->record != NULL) {
        const char *path = *p->parent_path ? p->parent_path : ".";
        int again = bw_openat2(p->options->root_fd, path, O_PATH | O_DIRECTORY,
                               RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS);
        p->parent_direct = again >= 0;
        if (again >= 0)
            close(again);
    }
}

/* The descriptor of the directory that `path` lies in; *base is its last component. The descriptor
 * stays valid until the next call or the next bw_clear(). */
int bw_parent_of(struct bw_place *p, const char *path, const char **base) {
    const char *slash = strrchr(path, '/');
    char parent[BW_NAME_MAX + 1];
    size_t length = slash ? (size_t)(slash - path) : 0;
    *base = slash ? slash + 1 : path;
    if (length == 0) {
        if (p->parent_fd == p->options->root_fd)
            return p->parent_fd;
        bw_forget_parent(p);
        p->parent_path[0] = 0;
        look_at_parent(p, p->options->root_fd);
        return p->parent_fd = p->options->root_fd;
    }
    memcpy(parent, path, length);
    parent[length] = 0;
    if (p->parent_fd >= 0 && !strcmp(parent, p->parent_path))
        return p->parent_fd;
    bw_forget_parent(p);
    int fd = bw_openat2(p->options->root_fd, parent, O_RDONLY | O_DIRECTORY, BW_IN_ROOT);
    if (fd < 0 && errno != ENOENT && errno != ENOTDIR)
        return bw_sys_fail(p, "open the parent directory");
    if (fd < 0)
        fd = bw_make_parents(p, parent);
    if (fd >= 0)
        memcpy(p->parent_path, parent, length + 1);
    look_at_parent(p, fd);
    return p->parent_fd = fd;
}

/* ---- kinds of entries ---- */

static int write_all(struct bw_place *p, int fd, const unsigned char *data, size_t length) {
    while (length) {
        ssize_t done = write(fd, data, length);
        if (done < 0 && errno == EINTR)
            continue;
        if (done < 0)
            return bw_sys_fail(p, "write the file");
        data += done;
        length -= (size_t)done;
    }
    return 0;
}

static int write_span(struct bw_place *p, int fd, uint64_t length) {
    while (length) {
        const unsigned char *data;
        size_t most = length > BW_BUFFER ? BW_BUFFER : (size_t)length;
        ssize_t got = bw_reader_take(p->reader, most, &data);
        if (got <= 0)
            return got < 0 ? -1 : bw_fail(p->result, BW_TAR_MALFORMED, 0,
                                          "the archive is cut off", p->reader->entry.name);
        if (write_all(p, fd, data, (size_t)got) < 0)
            return -1;
        length -= (uint64_t)got;
    }
    return 0;
}

/* Content that can be found again beside the archive need not be written down. */
static void record_file(struct bw_place *p, int fd) {
    struct bw_reader *r = p->reader;
    struct stat st;
    if (r->record == NULL || r->entry.size == 0 || !p->parent_direct || fstat(fd, &st) < 0)
        return;
    bw_record_file(r->record, p->path, r->entry.size, st.st_ino);
    r->by_name = true;
}

static bool is_followed(const struct bw_place *p) {
    return p->options->follow_fd >= 0 && p->reader->entry.size >= BW_FOLLOW_LEAST;
}

static int write_followed(struct bw_place *p, int fd) {
    int to = p->options->follow_fd;
    struct stat st;
    if (fstat(fd, &st) < 0 || bw_follow_begin(to, st.st_ino, p->path) < 0)
        return bw_sys_fail(p, "tell of the file");
    for (uint64_t left = p->reader->entry.size; left;) {
        uint64_t part = left < BW_FOLLOW_STEP ? left : BW_FOLLOW_STEP;
        if (write_span(p, fd, part) < 0)
            return -1;
        left -= part;
        if ((left ? bw_follow_more(to) : bw_follow_end(to)) < 0)
            return bw_sys_fail(p, "tell of the file");
    }
    return 0;
}

static int write_content(struct bw_place *p, int fd) {
    const struct bw_entry *e = &p->reader->entry;
    if (e->size > p->options->max_bytes - p->result->bytes)
        return bw_fail(p->result, BW_TAR_BUDGET, 0, "more content than allowed", e->name);
    p->result->bytes += e->size;
    if (!e->sparse) {
        record_file(p, fd);
        int status = is_followed(p) ? write_followed(p, fd) : write_span(p, fd, e->size);
        p->reader->by_name = false;
        return status;
    }
    if (ftruncate(fd, (off_t)e->real_size) < 0)
        return bw_sys_fail(p, "set the file's size");
    for (size_t i = 0; i < e->span_count; i++) {
        if (lseek(fd, (off_t)e->spans[i].offset, SEEK_SET) < 0)
            return bw_sys_fail(p, "seek in the file");
        if (write_span(p, fd, e->spans[i].length) < 0)
            return -1;
    }
    return 0;
}

/* With its mode at once where that is all there is to it. */
static int file_at(struct bw_place *p, int dir_fd, const char *base) {
    mode_t mode = !bw_is_archive(p) && bw_owned_already(p) ? p->reader->entry.mode & 0777 : 0600;
    return openat(dir_fd, base, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, mode);
}

static int place_file(struct bw_place *p, int dir_fd, const char *base) {
    const struct bw_entry *e = &p->reader->entry;
    int fd = file_at(p, dir_fd, base);
    if (fd < 0)
        return errno == EEXIST ? PLACE_TAKEN : bw_sys_fail(p, "make the file");
    int status = write_content(p, fd);
    if (status == 0)
        status = bw_set_attributes(p, fd, true);
    if (status == 0)
        status = bw_set_times(p, fd, NULL, e->mtime, e->mtime_nsec);
    if (close(fd) < 0 && status == 0) /* a quota may speak up only here */
        status = bw_sys_fail(p, "close the file");
    return status;
}

static int place_symlink(struct bw_place *p, int dir_fd, const char *base) {
    const struct bw_entry *e = &p->reader->entry;
    if (!e->link[0])
        return bw_fail(p->result, BW_TAR_MALFORMED, 0, "a link without a target", e->name);
    if (symlinkat(e->link, dir_fd, base) < 0)
        return errno == EEXIST ? PLACE_TAKEN : bw_sys_fail(p, "make the link");
    return bw_set_named(p, dir_fd, base, false);
}

static int place_node(struct bw_place *p, int dir_fd, const char *base) {
    const struct bw_entry *e = &p->reader->entry;
    mode_t type = e->type == '6' ? S_IFIFO : e->type == '3' ? S_IFCHR : S_IFBLK;
    dev_t device = type == S_IFIFO ? 0 : makedev(e->major, e->minor);
    if (type == S_IFCHR && device == 0)
        return bw_hostile(p, "the device 0:0, which overlay takes for a whiteout");
    if (type != S_IFIFO && (p->options->flags & BW_TAR_NO_DEVICES)) {
        p->result->skipped++;
        return 0;
    }
    if (mknodat(dir_fd, base, type | 0600, device) < 0)
        return errno == EEXIST ? PLACE_TAKEN : bw_sys_fail(p, "make the node");
    return bw_set_named(p, dir_fd, base, true);
}

/* An archive's name beneath the place that it all goes to. */
static const char *full_name(const struct bw_place *p, const char *name, char *path,
                             enum bw_tar_kind *kind) {
    size_t length = strlen(p->prefix);
    char clean[BW_NAME_MAX + 1];
    const char *why = bw_clean_name(name, clean, kind);
    if (why != NULL)
        return why;
    if (length + 1 + strlen(clean) > BW_NAME_MAX) {
        *kind = BW_TAR_BUDGET;
        return "the name is too long";
    }
    memcpy(path, p->prefix, length);
    if (length && *clean)
        path[length++] = '/';
    strcpy(path + length, clean);
    return NULL;
}

/* The target is opened before its name: what is linked is what was looked at. */
static int place_hard_link(struct bw_place *p, int dir_fd, const char *base) {
    const struct bw_entry *e = &p->reader->entry;
    char target[BW_NAME_MAX + 1], proc[32];
    int copied, failed;
    enum bw_tar_kind kind = BW_TAR_HOSTILE;
    struct stat st, there;
    const char *why = full_name(p, e->link, target, &kind);
    if (why != NULL || !target[0])
        return bw_fail(p->result, kind, 0, why ? "its link's target leads outside" : "a link to /",
                       e->name);
    int fd = bw_openat2(p->options->root_fd, target, O_PATH | O_NOFOLLOW, BW_IN_ROOT);
    if (fd < 0) {
        failed = errno;
        if (failed == ENOENT && (copied = bw_copy_up(p, target)) != 0)
            return copied < 0 ? -1 : PLACE_AGAIN;
        errno = failed;
        return bw_sys_fail(p, "open the hard link's target");
    }
    int status = -1;
    if (fstat(fd, &st) < 0)
        bw_sys_fail(p, "open the hard link's target");
    else if (S_ISDIR(st.st_mode) || bw_is_whiteout(&st))
        bw_hostile(p, "a hard link to a directory or to what was deleted");
    else if (fstatat(dir_fd, base, &there, AT_SYMLINK_NOFOLLOW) == 0)
        status = there.st_dev == st.st_dev && there.st_ino == st.st_ino ? 0 : PLACE_TAKEN;
    else {
        /* By /proc rather than AT_EMPTY_PATH, which asks for CAP_DAC_READ_SEARCH. */
        snprintf(proc, sizeof proc, "/proc/self/fd/%d", fd);
        status = linkat(AT_FDCWD, proc, dir_fd, base, AT_SYMLINK_FOLLOW) < 0
                     ? bw_sys_fail(p, "make the hard link")
                     : 0;
    }
    close(fd);
    return status;
}

int bw_remember_time(struct bw_place *p, const char *path, int64_t mtime, uint32_t nsec) {
    if (p->time_count == p->time_room) {
        size_t room = p->time_room ? p->time_room * 2 : 256;
        struct bw_dir_time *times = realloc(p->times, room * sizeof *times);
        if (times == NULL)
            return bw_sys_fail(p, "remember the directory");
        p->times = times;
        p->time_room = room;
    }
    char *copy = strdup(path);
    if (copy == NULL)
        return bw_sys_fail(p, "remember the directory");
    p->times[p->time_count++] = (struct bw_dir_time){copy, mtime, nsec};
    return 0;
}

static int place_directory(struct bw_place *p, int dir_fd, const char *base, const char *path) {
    const struct bw_entry *e = &p->reader->entry;
    /* The place that all goes to is there already, by whatever links its name leads. */
    int fd = strcmp(path, p->prefix) ? make_directory(p, dir_fd, base, true)
                                     : bw_openat2(p->options->root_fd, *path ? path : ".",
                                                  O_RDONLY | O_DIRECTORY, BW_IN_ROOT);
    if (fd < 0)
        return strcmp(path, p->prefix) ? -1 : bw_sys_fail(p, "open the directory");
    bw_not_implied(p, fd);
    int status = bw_set_attributes(p, fd, false);
    /* The root of a branch may have those of the root below, as a whole tree has them. */
    bool whole = p->options->whiteouts == BW_WHITEOUTS_DELETE || (bw_is_branch(p) && !*path);
    if (status == 0 && whole)
        status = bw_drop_xattrs(p, fd);
    /* By whichever name it is remembered as a parent: what is made in it inherits from now on. */
    if (e->mode & S_ISGID || e->gid || e->xattr_count)
        bw_forget_parent(p);
    close(fd);
    return status < 0 ? -1 : bw_remember_time(p, path, e->mtime, e->mtime_nsec);
}

static int may_replace(struct bw_place *p, int dir_fd, const char *base) {
    struct stat st;
    if (keeps_kinds(p) && fstatat(dir_fd, base, &st, AT_SYMLINK_NOFOLLOW) == 0 &&
        S_ISDIR(st.st_mode))
        return bw_hostile(p, "something that would replace a directory");
    return 0;
}

static int place_once(struct bw_place *p, int dir_fd, const char *base) {
    switch (p->reader->entry.type) {
    case '0':
        return place_file(p, dir_fd, base);
    case '1':
        return place_hard_link(p, dir_fd, base);
    case '2':
        return place_symlink(p, dir_fd, base);
    default:
        return place_node(p, dir_fd, base);
    }
}

static int place_plain(struct bw_place *p, const char *path) {
    const char *base;
    p->path = path;
    int dir_fd = bw_parent_of(p, path, &base);
    if (dir_fd < 0)
        return -1;
    if (p->reader->entry.type == '5') {
        if (place_directory(p, dir_fd, base, path) < 0)
            return -1;
        return note(p, path);
    }
    if (!strcmp(path, p->prefix))
        return bw_hostile(p, "an entry that would replace the root");
    int status = place_once(p, dir_fd, base);
    if (status == PLACE_AGAIN)
        status = (dir_fd = bw_parent_of(p, path, &base)) < 0 ? -1 : place_once(p, dir_fd, base);
    if (status == PLACE_TAKEN && may_replace(p, dir_fd, base) < 0)
        return -1;
    if (status == PLACE_TAKEN) {
        if (bw_clear(p, dir_fd == p->options->root_fd ? dir_fd : (dir_fd = dup(dir_fd)), base) < 0)
            status = -1;
        else
            status = place_once(p, dir_fd, base);
        if (dir_fd != p->options->root_fd && dir_fd >= 0)
            close(dir_fd);
        if (status == PLACE_TAKEN)
            status = bw_fail(p->result, BW_TAR_SYSTEM, EEXIST, "replace what was there", path);
    }
    if (status == 0 && p->has_whiteouts) {
        dir_fd = bw_parent_of(p, path, &base);
        status = dir_fd < 0 ? -1 : drop_mark(p, dir_fd, base);
    }
    return status < 0 ? -1 : note(p, path);
}

int bw_place_entry(struct bw_place *p) {
    struct bw_entry *e = &p->reader->entry;
    char path[BW_NAME_MAX + 1];
    enum bw_tar_kind kind = BW_TAR_HOSTILE;
    const char *why = full_name(p, e->name, path, &kind);
    if (why != NULL)
        return bw_fail(p->result, kind, 0, why, e->name);
    if (p->options->flags & BW_TAR_CHOWN) {
        e->uid = p->options->uid;
        e->gid = p->options->gid;
    }
    const char *slash = strrchr(path, '/');
    const char *base = slash ? slash + 1 : path;
    bool made = bw_is_aufs(p) || p->options->whiteouts == BW_WHITEOUTS_PLAIN; /* a file of the name */
    if (made && strlen(base) > BW_COMPONENT_MAX)
        return bw_fail(p->result, BW_TAR_BUDGET, 0, "the name is too long", e->name);
    if (bw_is_archive(p)) {
        if (e->type == '0' || e->type == '1' || e->type == '2' || e->type == '5')
            return place_plain(p, path);
        return bw_hostile(p, "neither a file, a directory nor a link");
    }
    if (p->options->whiteouts == BW_WHITEOUTS_PLAIN)
        return place_plain(p, path);
    switch (bw_mark_of(path, base)) {
    case BW_MARK_METADATA:
        p->result->skipped++;
        return 0;
    case BW_MARK_INSIDE:
        return bw_hostile(p, "a whiteout in the middle of its name");
    case BW_MARK_WHITEOUT:
        return note_parents(p, path) < 0 ? -1 : bw_place_whiteout(p, path, base);
    default:
        return note_parents(p, path) < 0 ? -1 : place_plain(p, path);
    }
}

int bw_place_finish(struct bw_place *p) {
    /* In order: of two entries for one directory the later counts. */
    for (size_t i = 0; i < p->time_count; i++) {
        const struct bw_dir_time *t = &p->times[i];
        int fd = bw_openat2(p->options->root_fd, *t->path ? t->path : ".",
                            O_RDONLY | O_DIRECTORY | O_NOFOLLOW, BW_IN_ROOT);
        if (fd < 0) {
            /* Replaced by something else later in the archive. */
            if (errno == ENOENT || errno == ENOTDIR || errno == ELOOP)
                continue;
            return bw_fail(p->result, BW_TAR_SYSTEM, errno, "open the directory", t->path);
        }
        int status = bw_set_times(p, fd, NULL, t->mtime, t->nsec);
        close(fd);
        if (status < 0)
            return -1;
    }
    return 0;
}
