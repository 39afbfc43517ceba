/* The record of a copy: what a tree and its copy need not be compared for later.
 *
 * A file system sets an inode's time of change (ctime) whenever content, size, mode, owner, times,
 * attributes, links or name of it change, and a directory's when a name in it does; no program can
 * set it. So an inode of the copy that still has the time that it had when the copy was whole is
 * what was copied: neither its attributes need to be read nor anything of the original. That holds
 * - on the file systems named below: others round this time, or have it from another machine;
 * - for times before `before`, which is one that the file system gave after the copy was whole: one
 *   that is set later cannot be the same, however coarse the clock is;
 * - for times finer than a millisecond (an ext4 of small inodes has whole seconds);
 * - at the same place: a directory is known together with the number of its original, so what was
 *   moved to where another one had been is not taken for that.
 * Writing through a shared mapping may leave all times of a tmpfs's file alone; comparing, which goes
 * by size and mtime, does not see that either. */
#include "internal.h"

#include <dirent.h>
#include <stdlib.h>
#include <sys/vfs.h>

#define DIRECTORY (O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC | O_NONBLOCK)
#define MILLISECOND 1000000

static int64_t changed_at(const struct stat *st) {
    return (int64_t)st->st_ctim.tv_sec * 1000000000 + st->st_ctim.tv_nsec;
}

/* The slot of an inode, or the free one that it would have. There always is a free one. */
static size_t slot_of(const struct bw_copied *slots, size_t count, uint64_t inode) {
    uint64_t hash = inode * 0x9e3779b97f4a7c15ull;
    size_t slot = (size_t)((unsigned __int128)hash * count >> 64);
    for (size_t tries = 0; tries < count && slots[slot].inode && slots[slot].inode != inode; tries++)
        slot = slot + 1 == count ? 0 : slot + 1;
    return slot;
}

bool is_copied(const struct walk *walk, const struct stat *st, uint64_t check) {
    if (!walk->copied_count || st->st_dev != walk->device)
        return false;
    const struct bw_copied *found =
        &walk->copied[slot_of(walk->copied, walk->copied_count, st->st_ino)];
    return found->inode == st->st_ino && found->changed == changed_at(st) && found->check == check;
}

struct recorder {
    struct walk *walk;
    int64_t before;
    struct blob found; /* of struct bw_copied */
};

static int add(struct recorder *recorder, const struct stat *st, uint64_t check) {
    struct bw_copied one = {.inode = st->st_ino, .changed = changed_at(st), .check = check};
    if (!one.inode || st->st_dev != recorder->walk->device || one.changed >= recorder->before ||
        st->st_ctim.tv_nsec % MILLISECOND == 0)
        return 0;
    if (reserve(recorder->walk, &recorder->found, sizeof one) < 0)
        return -1;
    memcpy(recorder->found.data + recorder->found.used, &one, sizeof one);
    recorder->found.used += sizeof one;
    return 0;
}

static int record_below(struct recorder *recorder, int new_fd, int old_fd);

/* What lies too deep is not recorded, and compared. */
static int record_directory(struct recorder *recorder, int new_fd, int old_fd, const char *name) {
    struct walk *walk = recorder->walk;
    struct stat new, old;
    BX_FD below = openat(new_fd, name, DIRECTORY);
    BX_FD under = openat(old_fd, name, DIRECTORY);
    if (below < 0 || under < 0 || fstat(below, &new) < 0 || fstat(under, &old) < 0)
        return fail(walk, BW_DIFF_SYSTEM, errno, "look at a copy");
    if (add(recorder, &new, old.st_ino) < 0)
        return -1;
    if (walk->depth == LEVELS)
        return 0;
    walk->depth++;
    int status = record_below(recorder, below, under);
    walk->depth--;
    return status;
}

static int record_below(struct recorder *recorder, int new_fd, int old_fd) {
    struct names names;
    struct stat st;
    int status = 0;
    if (read_names(recorder->walk, new_fd, &names) < 0)
        return -1;
    for (size_t i = 0; i < names.count && !status; i++) {
        const char *name = names.list[i];
        bool known = type_of(name) != DT_UNKNOWN, directory = type_of(name) == DT_DIR;
        if (!directory && fstatat(new_fd, name, &st, AT_SYMLINK_NOFOLLOW) < 0)
            status = fail(recorder->walk, BW_DIFF_SYSTEM, errno, "look at a copy");
        else if (directory || (!known && S_ISDIR(st.st_mode)))
            status = record_directory(recorder, new_fd, old_fd, name);
        else
            status = add(recorder, &st, (uint64_t)st.st_size);
    }
    free_names(&names);
    return status;
}

static bool is_exact(int fd) {
    struct statfs st;
    if (fstatfs(fd, &st) < 0)
        return false;
    switch ((unsigned long)st.f_type) {
    case 0xef53:     /* ext4 */
    case 0x01021994: /* tmpfs */
    case 0x58465342: /* XFS */
    case 0x9123683e: /* Btrfs */
        return true;
    default:
        return false;
    }
}

/* One third of the slots stays free. */
static int lay_out(struct walk *walk, const struct blob *found, struct bw_copied **slots,
                   size_t *count) {
    const struct bw_copied *one = (const struct bw_copied *)found->data;
    size_t inodes = found->used / sizeof *one;
    *count = inodes + inodes / 2 + 1;
    *slots = calloc(*count, sizeof **slots);
    if (!*slots)
        return fail(walk, BW_DIFF_SYSTEM, ENOMEM, "remember");
    for (size_t i = 0; i < inodes; i++)
        (*slots)[slot_of(*slots, *count, one[i].inode)] = one[i];
    return 0;
}

int bw_diff_record(int new_fd, int old_fd, int64_t before, struct bw_copied **slots, size_t *count,
                   struct bw_diff_result *result) {
    struct stat st;
    *slots = NULL;
    *count = 0;
    memset(result, 0, sizeof *result);
    result->what = "";
    if (!is_exact(new_fd))
        return 0;
    struct walk *walk = new_walk(result);
    struct recorder recorder = {.walk = walk, .before = before};
    if (!walk) {
        result->kind = BW_DIFF_SYSTEM;
        result->errnum = ENOMEM;
        return -1;
    }
    int status = fstat(new_fd, &st) < 0 ? fail(walk, BW_DIFF_SYSTEM, errno, "look at a copy") : 0;
    walk->device = st.st_dev;
    if (!status)
        status = record_directory(&recorder, new_fd, old_fd, ITSELF);
    if (!status)
        status = lay_out(walk, &recorder.found, slots, count);
    free(recorder.found.data);
    free_walk(walk);
    return status;
}
