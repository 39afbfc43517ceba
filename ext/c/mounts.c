/* Operations on mounts. The root is attached over "/" of the child's own mount namespace: paths
 * of the host still resolve beneath it (a walk starts below what covers the starting point), so
 * `bind` finds its sources until `pivot`. */

#include <stdio.h>
#include <sys/mount.h>
#include <sys/stat.h>

#include "child.h"

#ifndef FSOPEN_CLOEXEC
#define FSOPEN_CLOEXEC 1
#define FSMOUNT_CLOEXEC 1
#define FSCONFIG_SET_FLAG 0
#define FSCONFIG_SET_STRING 1
#define FSCONFIG_CMD_CREATE 6
#endif

BX_OP(propagation)
{
    child->propagated = 1;
    return bx_sys(mount(NULL, "/", NULL, BX_NUM(0), NULL));
}

static unsigned clone_flags(uint64_t flags)
{
    return OPEN_TREE_CLONE | (flags & BXP_F_RECURSIVE ? AT_RECURSIVE : 0);
}

static int is_optional(int status, uint64_t flags)
{
    return flags & BXP_F_OPTIONAL && (status == -ENOENT || status == -ENOTDIR);
}

BX_OP(source)
{
    uint64_t slot = BX_NUM(0), flags = BX_NUM(2);
    if (slot >= BXP_MAX_SLOTS || child->slots[slot] >= 0)
        return -EBADF;
    bx_object(child, BX_STR(1), NULL);
    int fd = bx_open_tree(AT_FDCWD, BX_STR(1), clone_flags(flags));
    if (is_optional(fd, flags))
        return 0;
    child->slots[slot] = fd;
    return fd < 0 ? fd : 0;
}

/* EAGAIN: something in the tree was renamed meanwhile. */
static int open_part(const char *base, const char *path)
{
    enum { RACE_TRIES = 128 };
    BX_FD directory = open(base, O_PATH | O_DIRECTORY | O_CLOEXEC);
    if (directory < 0)
        return -errno;
    int fd = -EAGAIN;
    for (int i = 0; i < RACE_TRIES && (fd == -EAGAIN || fd == -EINTR); i++)
        fd = bx_openat2(directory, path, O_PATH, 0, RESOLVE_BENEATH | RESOLVE_NO_MAGICLINKS);
    return fd;
}

BX_OP(source_beneath)
{
    uint64_t slot = BX_NUM(0), flags = BX_NUM(3);
    if (slot >= BXP_MAX_SLOTS || child->slots[slot] >= 0)
        return -EBADF;
    bx_object(child, BX_STR(1), BX_STR(2));
    BX_FD part = open_part(BX_STR(1), BX_STR(2));
    if (part < 0)
        return part;
    int fd = bx_open_tree(part, "", clone_flags(flags) | AT_EMPTY_PATH);
    child->slots[slot] = fd;
    return fd < 0 ? fd : 0;
}

BX_OP(root)
{
    int fd = bx_slot(child, BX_NUM(0));
    if (fd < 0)
        return fd;
    if (!child->propagated)
        return -EPERM; /* the mount would show on the host */
    if (mount(NULL, "/", NULL, MS_PRIVATE, NULL) < 0)
        return -errno;
    int status = bx_sys(syscall(SYS_move_mount, fd, "", AT_FDCWD, "/", MOVE_MOUNT_F_EMPTY_PATH));
    if (!status)
        child->root = fd;
    return status;
}

static int change(int fd, uint64_t flags, uint64_t set, uint64_t clear, uint64_t propagation)
{
    unsigned deep = flags & BXP_F_ATTR_RECURSIVE ? AT_RECURSIVE : 0;
    int status = set || clear ? bx_setattr(fd, deep, set, clear, 0) : 0;
    if (status < 0 || !(propagation & ~(uint64_t)BXP_MS_REC))
        return status;
    deep = propagation & BXP_MS_REC ? AT_RECURSIVE : 0;
    return bx_setattr(fd, deep, 0, 0, propagation & ~(uint64_t)BXP_MS_REC);
}

/* Attaches the detached mount at `dest`, which is made if missing: like what is mounted. */
static int attach(struct bx_child *child, int fd, const char *dest, uint64_t flags)
{
    struct stat st;
    int root = bx_root(child);
    bx_object(child, dest, NULL);
    if (root < 0)
        return root;
    if (fstat(fd, &st) < 0)
        return -errno;
    struct bx_make make = {.kind = S_ISDIR(st.st_mode) ? BX_DIRECTORY : BX_FILE,
                           .no_links = !!(flags & BXP_F_NO_SYMLINKS),
                           .mode = S_ISDIR(st.st_mode) ? 0755 : 0644};
    BX_FD target = bx_make_beneath(root, dest, &make, NULL);
    if (target < 0)
        return target;
    struct stat there;
    if (fstat(target, &there) < 0)
        return -errno;
    if (!S_ISDIR(st.st_mode) != !S_ISDIR(there.st_mode))
        return -ENOTDIR; /* the kernel only says EINVAL */
    return bx_attach_fd(fd, target);
}

BX_OP(bind)
{
    uint64_t flags = BX_NUM(2);
    BX_FD fd = bx_open_tree(AT_FDCWD, BX_STR(0), clone_flags(flags));
    if (is_optional(fd, flags))
        return 0;
    if (fd < 0)
        return fd;
    int status = change(fd, flags, BX_NUM(3), BX_NUM(4), BX_NUM(5));
    return status < 0 ? status : attach(child, fd, BX_STR(1), flags);
}

/* EINVAL from open_tree: a detached mount, or one of another namespace; it is attached itself. */
BX_OP(bind_fd)
{
    uint64_t flags = BX_NUM(2);
    int given = bx_slot(child, BX_NUM(0));
    if (given < 0)
        return flags & BXP_F_OPTIONAL ? 0 : given;
    BX_FD cloned = bx_open_tree(given, "", clone_flags(flags) | AT_EMPTY_PATH);
    if (cloned < 0 && cloned != -EINVAL)
        return cloned;
    int fd = cloned >= 0 ? cloned : given;
    int status = change(fd, flags, BX_NUM(3), BX_NUM(4), BX_NUM(5));
    return status < 0 ? status : attach(child, fd, BX_STR(1), flags);
}

static int config(int context, unsigned command, const char *key, const char *value)
{
    return bx_sys(syscall(SYS_fsconfig, context, command, key, value, 0));
}

static int set_option(int context, const char *option)
{
    char key[256];
    const char *equals = strchr(option, '=');
    if (!equals)
        return config(context, FSCONFIG_SET_FLAG, option, NULL);
    size_t length = (size_t)(equals - option);
    if (length >= sizeof key)
        return -ENAMETOOLONG;
    memcpy(key, option, length);
    key[length] = 0;
    return config(context, FSCONFIG_SET_STRING, key, equals + 1);
}

/* The kernel's own words on a context, after the object. */
static void explain(struct bx_child *child, int context, const char *object)
{
    char said[160];
    ssize_t length = read(context, said, sizeof said - 1);
    while (length > 0 && (said[length - 1] == '\n' || said[length - 1] == ' '))
        length--;
    said[length > 0 ? length : 0] = 0;
    bx_object(child, object, length > 0 ? said : NULL);
}

static const char *options[BXP_MAX_LIST + 1];

static int has_mode(void)
{
    for (const char **option = options; *option; option++)
        if (!strncmp(*option, "mode=", 5))
            return 1;
    return 0;
}

/* A new mount, not yet attached. */
static int make_mount(struct bx_child *child, const struct bx_op *op)
{
    BX_FD context = bx_sys(syscall(SYS_fsopen, BX_STR(0), FSOPEN_CLOEXEC));
    if (context < 0)
        return context;
    int status = bx_list_fill(&op->args[6], options, BXP_MAX_LIST + 1);
    if (status < 0)
        return status;
    status = *BX_STR(1) ? config(context, FSCONFIG_SET_STRING, "source", BX_STR(1)) : 0;
    const char *object = BX_STR(1);
    for (const char **option = options; *option && status >= 0; option++) {
        object = *option;
        status = set_option(context, *option);
    }
    if (status >= 0) {
        object = BX_STR(0);
        status = config(context, FSCONFIG_CMD_CREATE, NULL, NULL);
    }
    if (status < 0) {
        explain(child, context, object);
        return status;
    }
    return bx_sys(syscall(SYS_fsmount, context, FSMOUNT_CLOEXEC, (unsigned)BX_NUM(4)));
}

/* A tmpfs over a directory takes its mode (and so /run stays 0755), unless one was asked for. */
static int copy_mode(int mounted, const char *fstype, int target)
{
    struct stat st;
    if (strcmp(fstype, "tmpfs") || has_mode())
        return 0;
    if (fstat(target, &st) < 0)
        return -errno;
    BX_FD fd = openat(mounted, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    return fd < 0 ? -errno : bx_sys(fchmod(fd, st.st_mode & 07777));
}

BX_OP(mount)
{
    const char *fstype = BX_STR(0), *dest = BX_STR(2);
    uint64_t flags = BX_NUM(3);
    BX_FD fd = make_mount(child, op);
    if (fd == -ENODEV && flags & BXP_F_OPTIONAL)
        return 0;
    if (fd < 0)
        return fd;
    bx_object(child, dest, NULL);
    int status = change(fd, 0, 0, 0, BX_NUM(5)), root = bx_root(child), made = 0;
    if (status < 0 || root < 0)
        return status < 0 ? status : root;
    /* Kernel interfaces never sit behind a link of the image's (CVE-2019-19921 and after). */
    int no_links = flags & BXP_F_NO_SYMLINKS || !strcmp(fstype, "proc") || !strcmp(fstype, "sysfs");
    struct bx_make make = {.kind = BX_DIRECTORY, .no_links = no_links, .mode = 0755};
    BX_FD target = bx_make_beneath(root, dest, &make, &made);
    if (target < 0)
        return target;
    status = made ? 0 : copy_mode(fd, fstype, target);
    return status < 0 ? status : bx_attach_fd(fd, target);
}

BX_OP(attr)
{
    uint64_t flags = BX_NUM(1);
    int root = bx_root(child);
    if (root < 0)
        return root;
    BX_FD fd = bx_open_beneath(root, BX_STR(0), O_PATH, 0);
    if (fd < 0)
        return is_optional(fd, flags) ? 0 : fd;
    if (flags & BXP_F_RECURSIVE)
        flags |= BXP_F_ATTR_RECURSIVE;
    return change(fd, flags, BX_NUM(2), BX_NUM(3), BX_NUM(4));
}

/* pivot_root(".", "."), pivot_root(2): the old root lies over the new one and is unmounted; its
 * unmounts must not reach the host, so it is made a slave first. */
BX_OP(pivot)
{
    BX_FD old = open("/", O_PATH | O_DIRECTORY | O_CLOEXEC);
    if (old < 0)
        return -errno;
    if (child->root < 0)
        return -ENOENT;
    if (fchdir(child->root) < 0 || syscall(SYS_pivot_root, ".", ".") < 0)
        return -errno;
    if (fchdir(old) < 0 || mount(NULL, ".", NULL, MS_SLAVE | MS_REC, NULL) < 0 ||
        umount2(".", MNT_DETACH) < 0 || chdir("/") < 0)
        return -errno;
    return 0;
}
