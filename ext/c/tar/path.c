/* Names: their cleaning, their resolution beneath a root, and a set of them. */
#include "internal.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

int bw_fail(struct bw_tar_result *result, enum bw_tar_kind kind, int errnum, const char *what,
            const char *name) {
    result->kind = kind;
    result->errnum = errnum;
    result->what = what;
    if (name != NULL) {
        size_t length = strnlen(name, sizeof result->name - 1);
        memcpy(result->name, name, length);
        result->name[length] = 0;
    }
    return -1;
}

const char *bw_clean_name(const char *name, char *clean, enum bw_tar_kind *kind) {
    size_t used = 0;
    while (*name) {
        size_t length = strcspn(name, "/");
        if (length == 2 && name[0] == '.' && name[1] == '.') {
            *kind = BW_TAR_HOSTILE;
            return "the name leads upwards (..)";
        }
        bool whiteout = !name[length] && bw_starts(name, ".wh."); /* of a name with four fewer */
        if (length > BW_COMPONENT_MAX + 4 * whiteout || used + length + 1 > BW_NAME_MAX) {
            *kind = BW_TAR_BUDGET;
            return "the name is too long";
        }
        if (length != 0 && !(length == 1 && name[0] == '.')) {
            if (used)
                clean[used++] = '/';
            memcpy(clean + used, name, length);
            used += length;
        }
        name += length;
        while (*name == '/')
            name++;
    }
    clean[used] = 0;
    return NULL;
}

int bw_openat2(int dir_fd, const char *path, uint64_t flags, uint64_t resolve) {
    struct open_how how = {.flags = flags | O_CLOEXEC, .resolve = resolve};
    int fd;
    /* EAGAIN: a rename elsewhere raced with the check of "..": the kernel asks to try again. */
    for (int attempt = 0; attempt < 64; attempt++) {
        fd = (int)syscall(SYS_openat2, dir_fd, path, &how, sizeof how);
        if (fd >= 0 || (errno != EAGAIN && errno != EINTR))
            return fd;
    }
    return fd;
}

static uint64_t hash_of(const struct bw_hashes *hashes, const char *path) {
    uint64_t hash = hashes->seed ^ 0xcbf29ce484222325u;
    for (; *path; path++)
        hash = (hash ^ (unsigned char)*path) * 0x100000001b3u;
    hash ^= hash >> 29;
    hash *= 0xbf58476d1ce4e5b9u;
    hash ^= hash >> 32;
    return hash ? hash : 1; /* 0 marks a free slot */
}

static int grow(struct bw_hashes *hashes) {
    size_t room = hashes->room ? hashes->room * 2 : 1024;
    uint64_t *slots = calloc(room, sizeof *slots);
    if (slots == NULL)
        return -1;
    for (size_t i = 0; i < hashes->room; i++) {
        size_t at = hashes->slots[i] & (room - 1);
        if (!hashes->slots[i])
            continue;
        while (slots[at])
            at = (at + 1) & (room - 1);
        slots[at] = hashes->slots[i];
    }
    free(hashes->slots);
    hashes->slots = slots;
    hashes->room = room;
    return 0;
}

static int add(struct bw_hashes *hashes, uint64_t hash) {
    if (hashes->used * 2 >= hashes->room && grow(hashes) < 0)
        return -1;
    size_t at = hash & (hashes->room - 1);
    while (hashes->slots[at] && hashes->slots[at] != hash)
        at = (at + 1) & (hashes->room - 1);
    hashes->used += hashes->slots[at] == 0;
    hashes->slots[at] = hash;
    return 0;
}

static bool has(const struct bw_hashes *hashes, uint64_t hash) {
    if (hashes->room == 0)
        return false;
    size_t at = hash & (hashes->room - 1);
    while (hashes->slots[at] && hashes->slots[at] != hash)
        at = (at + 1) & (hashes->room - 1);
    return hashes->slots[at] == hash;
}

/* Only the hashes are kept, 64 bits with a random seed: two paths of one layer that collide by
 * chance are less likely than a failing memory chip. */
int bw_hashes_add(struct bw_hashes *hashes, const char *path) {
    return add(hashes, hash_of(hashes, path));
}

bool bw_hashes_has(const struct bw_hashes *hashes, const char *path) {
    return has(hashes, hash_of(hashes, path));
}

/* A number's bits are mixed so that neighbours do not crowd; no two numbers become one. */
static uint64_t mixed(uint64_t number) {
    number ^= number >> 29;
    number *= 0xbf58476d1ce4e5b9u;
    number ^= number >> 32;
    return number ? number : 1;
}

int bw_hashes_add_number(struct bw_hashes *hashes, uint64_t number) {
    return add(hashes, mixed(number));
}

bool bw_hashes_has_number(const struct bw_hashes *hashes, uint64_t number) {
    return has(hashes, mixed(number));
}
