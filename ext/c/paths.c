/* Paths beneath a container's root. Every one is resolved by the kernel from the root's
 * descriptor (RESOLVE_IN_ROOT), so a link or ".." in it cannot lead out, and what was found is
 * used by descriptor, so a racing rename cannot either (pain.md B, class P). */

#include <limits.h>
#include <stdio.h>
#include <sys/stat.h>

#include "child.h"

/* RESOLVE_IN_ROOT answers EAGAIN when something was renamed meanwhile. */
enum { RACE_TRIES = 128, STEPS = 512 };

int bx_open_beneath(int root, const char *path, uint64_t flags, uint64_t resolve)
{
    int fd = -EAGAIN;
    resolve |= RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS;
    for (int i = 0; i < RACE_TRIES && (fd == -EAGAIN || fd == -EINTR); i++)
        fd = bx_openat2(root, path, flags, 0, resolve);
    return fd;
}

/* Opens the longest part of `path` that is there; *rest is the first name that is not. */
static int open_existing(int root, const char *path, uint64_t resolve, size_t *rest)
{
    char prefix[PATH_MAX];
    size_t cut = strlen(path);
    for (;;) {
        while (cut && path[cut - 1] == '/')
            cut--;
        while (cut && path[cut - 1] != '/')
            cut--;
        memcpy(prefix, path, cut);
        memcpy(prefix + cut, cut ? "" : "/", cut ? 1 : 2);
        int fd = bx_open_beneath(root, prefix, O_PATH | O_DIRECTORY, resolve);
        if (fd != -ENOENT || !cut) {
            *rest = cut;
            return fd;
        }
    }
}

/* Puts the target of a dangling link in the place of its name: path[at, at + size). */
static int expand_link(char path[PATH_MAX], size_t at, size_t size, const char *target)
{
    char fresh[PATH_MAX];
    int keep = target[0] == '/' ? 0 : (int)at;
    int length = snprintf(fresh, sizeof fresh, "%.*s%s/%s", keep, path, target, path + at + size);
    if (length < 0 || (size_t)length >= sizeof fresh)
        return -ENAMETOOLONG;
    memcpy(path, fresh, (size_t)length + 1);
    return 0;
}

static int create(int parent, const char *name, int last, const struct bx_make *make)
{
    if (!last)
        return bx_sys(mkdirat(parent, name, 0755));
    if (make->kind == BX_FILE) {
        BX_FD fd = openat(parent, name, O_CREAT | O_EXCL | O_WRONLY | O_NOFOLLOW | O_CLOEXEC,
                          make->mode);
        return fd < 0 ? -errno : 0;
    }
    if (mkdirat(parent, name, make->mode) < 0)
        return -errno;
    if (!make->uid && !make->gid)
        return 0;
    return bx_sys(fchownat(parent, name, make->uid, make->gid, AT_SYMLINK_NOFOLLOW));
}

/* One step towards a path that is not whole: follows a dangling link or makes one name. */
static int step(int root, char path[PATH_MAX], const struct bx_make *make, uint64_t resolve,
                int *made)
{
    size_t at = 0;
    BX_FD parent = open_existing(root, path, resolve, &at);
    if (parent < 0)
        return parent;
    while (path[at] == '/')
        at++;
    size_t size = strcspn(path + at, "/");
    char name[NAME_MAX + 1], target[PATH_MAX];
    if (size > NAME_MAX)
        return -ENAMETOOLONG;
    memcpy(name, path + at, size);
    name[size] = 0;
    if (!size || !strcmp(name, "."))
        return -ENOENT;
    if (!strcmp(name, ".."))
        return -EINVAL; /* beyond a directory that is not there: nothing can be meant by it */
    ssize_t length = readlinkat(parent, name, target, sizeof target - 1);
    if (length >= 0) {
        if (make->no_links)
            return -ELOOP;
        target[length] = 0;
        return expand_link(path, at, size, target);
    }
    if (errno != ENOENT)
        return errno == EINVAL ? 0 : -errno; /* EINVAL: it has just come to be; look again */
    int last = strspn(path + at + size, "/") == strlen(path + at + size);
    int status = create(parent, name, last, make);
    if (!status && last && made)
        *made = 1;
    return status == -EEXIST ? 0 : status;
}

/* An O_PATH descriptor of `path`; what is missing is made. A dangling link is followed, inside
 * the root, as Docker does (/var/run -> /run without a /run). */
int bx_make_beneath(int root, const char *path, const struct bx_make *make, int *made)
{
    char work[PATH_MAX];
    uint64_t resolve = make->no_links ? RESOLVE_NO_SYMLINKS : 0;
    size_t length = strlen(path);
    if (length >= sizeof work)
        return -ENAMETOOLONG;
    memcpy(work, path, length + 1);
    for (int i = 0; i < STEPS; i++) {
        int fd = bx_open_beneath(root, work, O_PATH, resolve);
        if (fd != -ENOENT)
            return fd;
        int status = step(root, work, make, resolve, made);
        if (status < 0)
            return status;
    }
    return -ELOOP;
}

/* The directory of `path`, made if missing, and where its last name begins. */
int bx_open_parent(int root, const char *path, const char **name)
{
    static const struct bx_make directory = {.kind = BX_DIRECTORY, .mode = 0755};
    char parent[PATH_MAX];
    const char *slash = strrchr(path, '/');
    *name = slash ? slash + 1 : path;
    size_t length = (size_t)(*name - path);
    if (!**name || !strcmp(*name, ".") || !strcmp(*name, ".."))
        return -EINVAL;
    if (length >= sizeof parent)
        return -ENAMETOOLONG;
    memcpy(parent, path, length);
    memcpy(parent + length, length ? "" : "/", length ? 1 : 2);
    return bx_make_beneath(root, parent, &directory, NULL);
}
