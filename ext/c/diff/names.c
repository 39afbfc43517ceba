#include "internal.h"

#include <dirent.h>
#include <stdlib.h>

#define CHUNK (64u << 10)

struct linux_dirent {
    uint64_t inode;
    int64_t offset;
    uint16_t length;
    uint8_t type;
    char name[];
};

static int by_bytes(const void *one, const void *other) {
    return strcmp(*(const char *const *)one, *(const char *const *)other);
}

static bool dots(const char *name) {
    return name[0] == '.' && (!name[1] || (name[1] == '.' && !name[2]));
}

static int add_chunk(struct walk *walk, struct names *names, const char *chunk, size_t size) {
    for (size_t at = 0; at < size;) {
        const struct linux_dirent *entry = (const void *)(chunk + at);
        size_t length = strlen(entry->name) + 1;
        if (!dots(entry->name)) {
            if (reserve(walk, &names->text, 1 + length) < 0)
                return -1;
            names->text.data[names->text.used] = entry->type;
            memcpy(names->text.data + names->text.used + 1, entry->name, length);
            names->text.used += 1 + length;
            names->count++;
        }
        at += entry->length;
    }
    return 0;
}

int rewind_names(struct walk *walk, int fd) {
    return lseek(fd, 0, SEEK_SET) < 0 ? fail(walk, BW_DIFF_SYSTEM, errno, "rewind directory") : 0;
}

int read_names(struct walk *walk, int fd, struct names *names) {
    char chunk[CHUNK] __attribute__((aligned(8)));
    *names = (struct names){.list = NULL};
    for (;;) {
        long size = syscall(SYS_getdents64, fd, chunk, sizeof chunk);
        if (size < 0 && errno != ENOENT) {
            free_names(names);
            return fail(walk, BW_DIFF_SYSTEM, errno, "read directory");
        }
        if (size <= 0)
            break;
        if (add_chunk(walk, names, chunk, (size_t)size) < 0) {
            free_names(names);
            return -1;
        }
    }
    if (!names->count)
        return 0;
    names->list = malloc(names->count * sizeof *names->list);
    if (!names->list) {
        free_names(names);
        return fail(walk, BW_DIFF_SYSTEM, ENOMEM, "read directory");
    }
    const char *text = (const char *)names->text.data;
    for (size_t i = 0; i < names->count; i++, text += strlen(text) + 1)
        names->list[i] = ++text;
    qsort(names->list, names->count, sizeof *names->list, by_bytes);
    return 0;
}

void free_names(struct names *names) {
    free(names->text.data);
    free(names->list);
    *names = (struct names){.list = NULL};
}

bool has_name(const struct names *names, const char *name) {
    return names->count &&
           bsearch(&name, names->list, names->count, sizeof *names->list, by_bytes) != NULL;
}
