/* Names and inodes in memory, found by a hash of directory and name. */
#include "internal.h"

#include <stdlib.h>
#include <string.h>

static uint64_t hash_of(const struct erofs_inode *directory, const char *name, size_t length) {
    uint64_t hash = (uintptr_t)directory ^ 0xcbf29ce484222325u;
    for (size_t i = 0; i < length; i++)
        hash = (hash ^ (unsigned char)name[i]) * 0x100000001b3u;
    hash ^= hash >> 29;
    hash *= 0xbf58476d1ce4e5b9u;
    return hash ^ hash >> 32;
}

int erofs_tree_open(struct erofs_tree *tree) {
    memset(tree, 0, sizeof *tree);
    tree->root = erofs_inode_new(tree, S_IFDIR | 0755);
    if (tree->root == NULL)
        return -1;
    tree->root->parent = tree->root;
    return 0;
}

void erofs_tree_close(struct erofs_tree *tree) {
    for (struct erofs_inode *inode = tree->all, *next; inode != NULL; inode = next) {
        next = inode->next;
        for (struct erofs_dentry *d = inode->children, *sibling; d != NULL; d = sibling) {
            sibling = d->sibling;
            free(d);
        }
        free(inode->sorted);
        free(inode->kept);
        free(inode->chunks);
        free(inode->xattrs);
        free(inode);
    }
    free(tree->slots);
    memset(tree, 0, sizeof *tree);
}

struct erofs_inode *erofs_inode_new(struct erofs_tree *tree, uint16_t mode) {
    struct erofs_inode *inode = calloc(1, sizeof *inode);
    if (inode == NULL)
        return NULL;
    inode->mode = mode;
    inode->next = tree->all;
    tree->all = inode;
    tree->inode_count++;
    return inode;
}

static int grow(struct erofs_tree *tree) {
    size_t room = tree->room ? tree->room * 2 : 1024;
    struct erofs_dentry **slots = calloc(room, sizeof(struct erofs_dentry *));
    if (slots == NULL)
        return -1;
    for (size_t i = 0; i < tree->room; i++) {
        if (tree->slots[i] == NULL)
            continue;
        size_t at = tree->slots[i]->hash & (room - 1);
        while (slots[at] != NULL)
            at = (at + 1) & (room - 1);
        slots[at] = tree->slots[i];
    }
    free(tree->slots);
    tree->slots = slots;
    tree->room = room;
    return 0;
}

struct erofs_dentry *erofs_find(const struct erofs_tree *tree, const struct erofs_inode *directory,
                                const char *name, size_t length) {
    if (tree->room == 0)
        return NULL;
    uint64_t hash = hash_of(directory, name, length);
    for (size_t at = hash & (tree->room - 1);; at = (at + 1) & (tree->room - 1)) {
        struct erofs_dentry *d = tree->slots[at];
        if (d == NULL || (d->hash == hash && d->directory == directory && d->length == length &&
                          !memcmp(d->name, name, length)))
            return d;
    }
}

struct erofs_dentry *erofs_add(struct erofs_tree *tree, struct erofs_inode *directory,
                               const char *name, size_t length, struct erofs_inode *inode) {
    if (tree->used * 2 >= tree->room && grow(tree) < 0)
        return NULL;
    struct erofs_dentry *d = malloc(sizeof *d + length + 1);
    if (d == NULL)
        return NULL;
    d->directory = directory;
    d->inode = inode;
    d->hash = hash_of(directory, name, length);
    d->length = (uint16_t)length;
    memcpy(d->name, name, length);
    d->name[length] = 0;
    d->sibling = directory->children;
    directory->children = d;
    directory->child_count++;
    size_t at = d->hash & (tree->room - 1);
    while (tree->slots[at] != NULL)
        at = (at + 1) & (tree->room - 1);
    tree->slots[at] = d;
    tree->used++;
    return d;
}

bool erofs_is_whiteout(const struct erofs_inode *inode) {
    return S_ISCHR(inode->mode) && inode->rdev == 0;
}
