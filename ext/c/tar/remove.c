/* Deleting trees of any depth with a bounded number of descriptors. */
#include "bw_tar.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* Levels held open at once. What lies deeper is moved up and deleted from there: a container may
 * nest directories deeper than any path or table of descriptors is long. */
#define DEPTH_MAX 96

struct removal {
    int top_fd; /* where what lies too deep is moved to */
    dev_t device;
    unsigned moved; /* names made for that */
    uint64_t removed;
    bw_gone *gone; /* NULL: nobody wants to know */
    void *context;
};

static int remove_at(struct removal *r, int dir_fd, const char *name, int depth, bool top);

static int move_up(struct removal *r, int dir_fd, const char *name) {
    char target[48];
    for (int attempt = 0; attempt < 1000; attempt++) {
        snprintf(target, sizeof target, ".bw-deep-%d-%u", (int)getpid(), r->moved++);
        struct stat st;
        if (fstatat(r->top_fd, target, &st, AT_SYMLINK_NOFOLLOW) == 0)
            continue;
        if (renameat(dir_fd, name, r->top_fd, target) < 0)
            return -1;
        /* One above it is free now, so this starts at the top again. */
        return remove_at(r, r->top_fd, target, 0, false);
    }
    errno = EEXIST;
    return -1;
}

static bool dots(const char *name) {
    return name[0] == '.' && (name[1] == 0 || (name[1] == '.' && name[2] == 0));
}

static int empty_directory(struct removal *r, int fd, int depth) {
    int copy = dup(fd);
    DIR *dir = copy < 0 ? NULL : fdopendir(copy);
    struct dirent *entry;
    int failed = 0;
    if (dir == NULL) {
        failed = errno;
        if (copy >= 0)
            close(copy);
        errno = failed;
        return -1;
    }
    while (errno = 0, (entry = readdir(dir)) != NULL) {
        if (!dots(entry->d_name) && remove_at(r, fd, entry->d_name, depth + 1, false) < 0) {
            failed = errno;
            break;
        }
    }
    if (!failed)
        failed = errno;
    closedir(dir);
    errno = failed;
    return failed ? -1 : 0;
}

static int remove_at(struct removal *r, int dir_fd, const char *name, int depth, bool top) {
    struct stat st;
    if (r->gone != NULL && fstatat(dir_fd, name, &st, AT_SYMLINK_NOFOLLOW) == 0 &&
        !S_ISDIR(st.st_mode))
        r->gone(r->context, dir_fd, name, &st);
    if (unlinkat(dir_fd, name, 0) == 0) {
        r->removed++;
        return 0;
    }
    if (errno == ENOENT)
        return 0;
    if (errno != EISDIR && errno != EPERM)
        return -1;
    int refused = errno;
    if (depth >= DEPTH_MAX)
        return move_up(r, dir_fd, name);
    int fd = openat(dir_fd, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
    if (fd < 0) {
        if (errno == ENOTDIR || errno == ELOOP)
            errno = refused; /* no directory: it was the unlink that was not allowed */
        return -1;
    }
    int failed = 0;
    if (fstat(fd, &st) < 0)
        failed = errno;
    else if (top)
        r->device = st.st_dev;
    else if (st.st_dev != r->device)
        failed = EXDEV;
    if (!failed && empty_directory(r, fd, depth) < 0)
        failed = errno;
    close(fd);
    if (!failed && unlinkat(dir_fd, name, AT_REMOVEDIR) < 0 && errno != ENOENT)
        failed = errno;
    r->removed += !failed;
    errno = failed;
    return failed ? -1 : 0;
}

int bw_remove_tree(int dir_fd, const char *name, uint64_t *removed) {
    return bw_remove_watched(dir_fd, name, removed, NULL, NULL);
}

int bw_remove_watched(int dir_fd, const char *name, uint64_t *removed, bw_gone *gone,
                      void *context) {
    struct removal r = {.top_fd = dir_fd, .gone = gone, .context = context};
    int status = remove_at(&r, dir_fd, name, 0, true);
    *removed += r.removed;
    return status;
}
