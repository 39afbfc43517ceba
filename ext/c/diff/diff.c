/* The walk through both trees at once. */
#include "internal.h"

#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/statfs.h>
#include <sys/statvfs.h>

#define DIRECTORY (O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC | O_NONBLOCK)

int fail(struct walk *walk, enum bw_diff_kind kind, int errnum, const char *what) {
    struct bw_diff_result *result = walk->result;
    size_t length = walk->length < sizeof result->name - 1 ? walk->length : sizeof result->name - 1;
    result->kind = kind;
    result->errnum = errnum;
    result->what = what;
    memcpy(result->name, walk->path, length);
    result->name[length] = 0;
    return -1;
}

int reserve(struct walk *walk, struct blob *blob, size_t more) {
    if (blob->used + more <= blob->room)
        return 0;
    size_t room = blob->room ? blob->room : 4096;
    while (room < blob->used + more)
        room *= 2;
    unsigned char *grown = realloc(blob->data, room);
    if (!grown)
        return fail(walk, BW_DIFF_SYSTEM, ENOMEM, "remember");
    blob->data = grown;
    blob->room = room;
    return 0;
}

static bool is_gone(int errnum) {
    return errnum == ENOENT || errnum == ENOTDIR || errnum == ELOOP;
}

/* 1: it is there, 0: it is not, -1. */
static int look(struct walk *walk, int dir_fd, const char *name, struct stat *st) {
    if (dir_fd < 0)
        return 0;
    if (!fstatat(dir_fd, name, st, AT_SYMLINK_NOFOLLOW))
        return 1;
    return is_gone(errno) ? 0 : fail(walk, BW_DIFF_SYSTEM, errno, "look at");
}

static bool same_time(const struct timespec *one, const struct timespec *other) {
    if (one->tv_sec != other->tv_sec)
        return false;
    return one->tv_nsec == other->tv_nsec || !one->tv_nsec || !other->tv_nsec;
}

static bool same_status(const struct stat *new, const struct stat *old) {
    if (new->st_mode != old->st_mode || new->st_uid != old->st_uid || new->st_gid != old->st_gid)
        return false;
    if (S_ISDIR(new->st_mode))
        return true;
    if ((S_ISCHR(new->st_mode) || S_ISBLK(new->st_mode)) && new->st_rdev != old->st_rdev)
        return false;
    return new->st_size == old->st_size && same_time(&new->st_mtim, &old->st_mtim);
}

static int same_target(int new_fd, int old_fd, const char *name) {
    char one[PATH_MAX], other[PATH_MAX];
    ssize_t size = readlinkat(new_fd, name, one, sizeof one);
    return size == readlinkat(old_fd, name, other, sizeof other) &&
           (size < 0 || !memcmp(one, other, (size_t)size));
}

/* A file that was copied up and looks as before may have been written to, its time put back; a
 * disk may have lost what it held. */
static int same_content(struct walk *walk, int new_fd, int old_fd, const char *name) {
    static const size_t piece = 64u << 10;
    struct stat st;
    BX_FD one = open_regular(walk, walk->sealed, new_fd, name, &st);
    BX_FD other = open_regular(walk, false, old_fd, name, &st);
    if (one < 0 || other < 0)
        return is_gone(errno) ? 0 : fail(walk, BW_DIFF_SYSTEM, errno, "open");
    walk->map.used = 0;
    if (reserve(walk, &walk->map, 2 * piece) < 0)
        return -1;
    unsigned char *here = walk->map.data, *there = here + piece;
    for (off_t at = 0;;) {
        ssize_t size = pread(one, here, piece, at), wanted = pread(other, there, piece, at);
        if (size < 0 || wanted < 0)
            return fail(walk, BW_DIFF_SYSTEM, errno, "read");
        if (size != wanted || memcmp(here, there, (size_t)size))
            return 0;
        if (!size)
            return 1;
        at += size;
    }
}

static int same_xattrs(struct walk *walk, int new_fd, int old_fd, const char *name) {
    if (read_xattrs(walk, new_fd, name, &walk->ours) < 0 ||
        read_xattrs(walk, old_fd, name, &walk->theirs) < 0)
        return -1;
    return walk->ours.used == walk->theirs.used &&
           (!walk->ours.used || !memcmp(walk->ours.data, walk->theirs.data, walk->ours.used));
}

/* 1: nothing has changed, 0: something has, -1. */
int same(struct walk *walk, int new_fd, int old_fd, const char *name, const struct stat *new,
         const struct stat *old) {
    if (!same_status(new, old))
        return 0;
    if (S_ISLNK(new->st_mode))
        return same_target(new_fd, old_fd, name);
    if (!S_ISREG(new->st_mode) && !S_ISDIR(new->st_mode))
        return 1;
    int status = walk->looks ? 1 : same_xattrs(walk, new_fd, old_fd, name);
    if (status > 0 && walk->content && S_ISREG(new->st_mode))
        status = same_content(walk, new_fd, old_fd, name);
    return status;
}

/* Extends the walk's path; the length to go back to, -1: it is too long. */
static ssize_t descend(struct walk *walk, const char *name) {
    size_t before = walk->length, more = strlen(name);
    /* The root of a container is packed as "/" itself. */
    size_t slash = before && walk->path[before - 1] != '/' ? 1 : 0;
    if (before + slash + more >= PATH_SIZE)
        return fail(walk, BW_DIFF_LIMIT, 0, "the path is too long");
    if (slash)
        walk->path[before] = '/';
    memcpy(walk->path + before + slash, name, more + 1);
    walk->length = before + slash + more;
    return (ssize_t)before;
}

static void ascend(struct walk *walk, ssize_t before) {
    walk->length = (size_t)before;
    walk->path[before] = 0;
}

bool is_mark_name(const char *name) {
    return !strncmp(name, ".wh.", 4);
}

/* Whether a branch's entry is a mark; for aufs `*hidden` is the name that it hides. */
static int mark_of(struct walk *walk, int dir_fd, const char *name, const struct stat *st,
                   enum mark *mark) {
    bool opaque, whiteout = false;
    *mark = MARK_NONE;
    if (S_ISSOCK(st->st_mode)) {
        walk->result->skipped++; /* no tar holds it: what was there before is gone */
        *mark = MARK_WHITEOUT;
        return 0;
    }
    if (!walk->plain && is_mark_name(name)) {
        walk->result->skipped += walk->form != BW_DIFF_AUFS;
        *mark = MARK_SKIP;
        return 0;
    }
    if (walk->plain || walk->form != BW_DIFF_OVERLAY)
        return 0;
    if (S_ISCHR(st->st_mode) && !st->st_rdev) {
        *mark = MARK_WHITEOUT;
        return 0;
    }
    if (S_ISREG(st->st_mode)) {
        if (branch_xattrs(walk, dir_fd, name, &opaque, &whiteout) < 0)
            return -1;
        if (whiteout && !st->st_size)
            *mark = MARK_WHITEOUT;
    }
    return 0;
}

static int walk_directory(struct walk *walk, int new_fd, int old_fd, const struct stat *st,
                          bool whole, bool changed);

/* The scouts' node of a directory below the present one. Both come by in the order of names. */
static struct node *node_of(const struct walk *walk, const char *name) {
    struct node *here = walk->node;
    if (!here)
        return NULL;
    while (here->cursor && strcmp(here->cursor->name, name) < 0)
        here->cursor = here->cursor->next;
    return here->cursor && !strcmp(here->cursor->name, name) ? here->cursor : NULL;
}

/* Whether a branch's directory hides all that old has there. 0, or -1. */
static int is_opaque(struct walk *walk, int fd, bool *opaque) {
    bool whiteout;
    *opaque = false;
    if (walk->form == BW_DIFF_OVERLAY && branch_xattrs(walk, fd, ITSELF, opaque, &whiteout) < 0)
        return -1;
    if (walk->form == BW_DIFF_AUFS)
        *opaque = !faccessat(fd, ".wh..wh..opq", F_OK, AT_SYMLINK_NOFOLLOW);
    return 0;
}

static bool opens_no_devices(int fd) {
    struct statfs st;
    return !fstatfs(fd, &st) && st.f_flags & ST_NODEV;
}

/* A directory of new. What is mounted below may open devices. */
static int open_below(struct walk *walk, int dir_fd, const char *name) {
    if (walk->sealed) {
        int fd = bx_openat2(dir_fd, name, DIRECTORY, 0, RESOLVE_NO_XDEV);
        if (fd >= 0)
            return fd;
        walk->sealed = fd != -EXDEV;
    }
    return openat(dir_fd, name, DIRECTORY);
}

static int enter(struct walk *walk, int new_fd, int old_fd, const char *name,
                 const struct stat *st, bool old_is_dir, bool whole, bool changed) {
    struct node *here = walk->node, *node = old_is_dir ? node_of(walk, name) : NULL;
    if (node && !node->changed)
        return 0;
    BX_FD below = open_below(walk, new_fd, name);
    if (below < 0)
        return is_gone(errno) ? 0 : fail(walk, BW_DIFF_SYSTEM, errno, "open directory");
    BX_FD under = old_is_dir ? openat(old_fd, name, DIRECTORY) : -1;
    if (old_is_dir && under < 0 && !is_gone(errno))
        return fail(walk, BW_DIFF_SYSTEM, errno, "open directory");
    bool opaque;
    if (is_opaque(walk, below, &opaque) < 0)
        return -1;
    walk->node = node;
    int status = walk_directory(walk, below, under, st, whole || opaque, changed);
    walk->node = here;
    return status;
}

/* One name of a file has changed, so the others are entries too. In a branch, all that are there:
 * copying up takes one name along and leaves the others. */
static bool is_shared(const struct walk *walk, const struct stat *st) {
    struct identity wanted = {st->st_dev, st->st_ino};
    if (walk->listing || S_ISDIR(st->st_mode) || st->st_nlink < 2)
        return false;
    if (walk->form != BW_DIFF_TREE)
        return true;
    return walk->found.shared_count &&
           bsearch(&wanted, walk->found.shared, walk->found.shared_count, sizeof wanted,
                   by_identity) != NULL;
}

/* A name that new has; the walk is at it. */
static int compare_here(struct walk *walk, int new_fd, int old_fd, const char *name,
                        const struct stat *new, bool whole) {
    struct stat old;
    int there = look(walk, old_fd, name, &old);
    if (there < 0)
        return -1;
    int unchanged = there && !is_shared(walk, new) ? same(walk, new_fd, old_fd, name, new, &old) : 0;
    if (unchanged < 0)
        return -1;
    if (!unchanged && emit_entry(walk, new_fd, name, new, !there) < 0)
        return -1;
    if (!S_ISDIR(new->st_mode))
        return 0;
    return enter(walk, new_fd, old_fd, name, new, there && S_ISDIR(old.st_mode), whole,
                 !unchanged);
}

/* 1: the name hides what old has there, 0: it does not (any more), -1. */
static int visit(struct walk *walk, int new_fd, int old_fd, const char *name, bool whole) {
    struct stat st;
    enum mark mark;
    int there = look(walk, new_fd, name, &st);
    if (there <= 0)
        return there < 0 ? -1 : whole;
    walk->result->compared++;
    if (mark_of(walk, new_fd, name, &st, &mark) < 0)
        return -1;
    if (mark == MARK_SKIP)
        return 0;
    if (mark == MARK_WHITEOUT)
        return 1;
    ssize_t before = descend(walk, name);
    int status = before < 0 ? -1 : compare_here(walk, new_fd, old_fd, name, &st, whole);
    if (before >= 0)
        ascend(walk, before);
    return status;
}

static int gone_here(struct walk *walk, int old_fd, const char *name) {
    struct stat st;
    int there = look(walk, old_fd, name, &st);
    walk->result->compared++;
    if (there <= 0)
        return there;
    /* A layer cannot hold it, so it was none of a layer's. */
    if (is_mark_name(name) || S_ISSOCK(st.st_mode))
        return 0;
    return emit_deleted(walk, name);
}

/* In a branch of aufs, a whiteout stands beside what it hides. */
static bool hidden_by_aufs(const struct walk *walk, const struct names *new, const char *name) {
    char mark[NAME_MAX + 8];
    if (walk->form != BW_DIFF_AUFS || walk->plain)
        return false;
    snprintf(mark, sizeof mark, ".wh.%s", name);
    return has_name(new, mark);
}

/* Both lists are sorted. In a branch that is not `whole`, old's names alone say nothing. */
static int merge(struct walk *walk, int new_fd, int old_fd, const struct names *new,
                 const struct names *old, bool whole) {
    size_t i = 0, j = 0;
    while (i < new->count || j < old->count) {
        int order = i == new->count   ? 1
                    : j == old->count ? -1
                                      : strcmp(new->list[i], old->list[j]);
        const char *name = order > 0 ? old->list[j] : new->list[i];
        int hides = order > 0 ? whole || hidden_by_aufs(walk, new, name)
                              : visit(walk, new_fd, old_fd, name, whole);
        if (hides < 0)
            return -1;
        if (hides && order >= 0 && gone_here(walk, old_fd, name) < 0)
            return -1;
        i += order <= 0;
        j += order >= 0;
    }
    return 0;
}

static int old_names(struct walk *walk, int old_fd, const struct names *new, bool whole,
                     struct names *old) {
    *old = (struct names){.list = NULL};
    if (old_fd < 0)
        return 0;
    if (whole || walk->form == BW_DIFF_AUFS)
        return read_names(walk, old_fd, old);
    /* A branch names few: those that old has are looked up one by one. */
    for (size_t i = 0; i < new->count; i++) {
        size_t length = strlen(new->list[i]) + 1;
        if (reserve(walk, &old->text, length) < 0)
            return -1;
        memcpy(old->text.data + old->text.used, new->list[i], length);
        old->text.used += length;
    }
    old->list = calloc(new->count + 1, sizeof *old->list);
    if (!old->list)
        return fail(walk, BW_DIFF_SYSTEM, ENOMEM, "remember");
    const char *text = (const char *)old->text.data;
    for (size_t i = 0; i < new->count; i++, text += strlen(text) + 1)
        old->list[old->count++] = text;
    return 0;
}

static int walk_directory(struct walk *walk, int new_fd, int old_fd, const struct stat *st,
                          bool whole, bool changed) {
    struct names new, old;
    if (walk->depth == LEVELS)
        return fail(walk, BW_DIFF_LIMIT, 0, "directories are nested too deep");
    walk->levels[walk->depth++] =
        (struct level){.fd = new_fd, .length = walk->length, .st = *st, .written = changed};
    if (read_names(walk, new_fd, &new) < 0)
        return -1;
    int status = old_names(walk, old_fd, &new, whole, &old);
    if (!status)
        status = merge(walk, new_fd, old_fd, &new, &old, whole);
    free_names(&new);
    free_names(&old);
    walk->depth--;
    return status;
}

struct walk *new_walk(struct bw_diff_result *result) {
    struct walk *walk = calloc(1, sizeof *walk);
    if (walk) {
        walk->result = result;
        walk->handles = -1;
    }
    return walk;
}

void free_walk(struct walk *walk) {
    for (size_t i = 0; i < walk->inode_room; i++)
        free(walk->inodes[i].path);
    free(walk->inodes);
    free(walk->ours.data);
    free(walk->theirs.data);
    free(walk->list.data);
    free(walk->map.data);
    free_found(&walk->found);
    bw_writer_close(&walk->writer);
    bx_close(&walk->handles);
    free(walk);
}

static int start(struct walk **walk, int sink_fd, struct bw_diff_result *result) {
    memset(result, 0, sizeof *result);
    result->what = "";
    *walk = new_walk(result);
    if (!*walk) {
        result->kind = BW_DIFF_SYSTEM;
        result->errnum = ENOMEM;
        return -1;
    }
    return bw_writer_open(&(*walk)->writer, sink_fd) < 0
               ? fail(*walk, BW_DIFF_SYSTEM, ENOMEM, "make buffers")
               : 0;
}

static int end(struct walk *walk, int status) {
    struct bw_diff_result *result = walk->result;
    if (!status && (walk->listing ? bw_writer_flush(&walk->writer) : bw_writer_end(&walk->writer)) < 0)
        status = fail(walk, BW_DIFF_SYSTEM, walk->writer.errnum, "write");
    result->entries = walk->writer.entries;
    result->size = walk->writer.size;
    free_walk(walk);
    return status;
}

static int walk_roots(struct walk *walk, const struct bw_diff_options *options) {
    struct stat st, old;
    bool opaque;
    int unchanged = 1;
    if (fstat(options->new_fd, &st) < 0)
        return fail(walk, BW_DIFF_SYSTEM, errno, "look at");
    walk->device = st.st_dev;
    if (options->old_fd >= 0) {
        if (fstat(options->old_fd, &old) < 0)
            return fail(walk, BW_DIFF_SYSTEM, errno, "look at");
        unchanged = same(walk, options->new_fd, options->old_fd, ITSELF, &st, &old);
    }
    if (unchanged < 0 || (!unchanged && emit_entry(walk, options->new_fd, ITSELF, &st, false) < 0))
        return -1;
    if (is_opaque(walk, options->new_fd, &opaque) < 0)
        return -1;
    if (rewind_names(walk, options->new_fd) < 0 ||
        (options->old_fd >= 0 && rewind_names(walk, options->old_fd) < 0))
        return -1;
    if (walk->form == BW_DIFF_TREE && options->old_fd >= 0 &&
        (scout(walk, options->new_fd, options->old_fd) < 0 ||
         rewind_names(walk, options->new_fd) < 0 || rewind_names(walk, options->old_fd) < 0))
        return -1;
    walk->node = walk->found.root;
    if (walk->node && !walk->node->changed)
        return 0;
    return walk_directory(walk, options->new_fd, options->old_fd, &st,
                          walk->form == BW_DIFF_TREE || opaque, !unchanged);
}

int bw_diff(const struct bw_diff_options *options, struct bw_diff_result *result) {
    struct walk *walk;
    int status = start(&walk, options->sink_fd, result);
    if (!walk)
        return -1;
    walk->form = options->form;
    walk->sealed = opens_no_devices(options->new_fd);
    walk->looks = options->looks;
    walk->listing = options->listing;
    walk->content = options->content || options->form != BW_DIFF_TREE;
    walk->copied = options->copied;
    walk->copied_count = walk->content ? 0 : options->copied_count;
    return end(walk, status ? status : walk_roots(walk, options));
}

int bw_diff_pack(int dir_fd, const char *name, const char *as, int sink_fd,
                 struct bw_diff_result *result) {
    struct walk *walk;
    struct stat st;
    int status = start(&walk, sink_fd, result);
    if (!walk)
        return -1;
    walk->plain = true;
    if (!status && strlen(as) >= PATH_SIZE)
        status = fail(walk, BW_DIFF_LIMIT, 0, "the path is too long");
    if (status)
        return end(walk, status);
    walk->sealed = opens_no_devices(dir_fd);
    walk->length = strlen(as);
    memcpy(walk->path, as, walk->length + 1);
    if (fstatat(dir_fd, name, &st, AT_SYMLINK_NOFOLLOW) < 0)
        return end(walk, fail(walk, BW_DIFF_SYSTEM, errno, "look at"));
    if (walk->length)
        status = emit_entry(walk, dir_fd, name, &st, true);
    if (!status && S_ISDIR(st.st_mode))
        status = enter(walk, dir_fd, -1, name, &st, false, true, true);
    return end(walk, status);
}
