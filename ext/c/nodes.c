/* Operations that make or hide names beneath the root. */

#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>

#include "child.h"

BX_OP(mkdir)
{
    int root = bx_root(child);
    struct bx_make make = {.kind = BX_DIRECTORY,
                           .mode = (mode_t)BX_NUM(1) & 07777,
                           .uid = (uid_t)BX_NUM(2),
                           .gid = (gid_t)BX_NUM(3)};
    BX_FD fd = root < 0 ? root : bx_make_beneath(root, BX_STR(0), &make, NULL);
    return fd < 0 ? fd : 0;
}

/* The same device is there already: fine. Anything else under that name is not. */
static int same_node(int parent, const char *name, mode_t mode, dev_t device)
{
    struct stat st;
    if (fstatat(parent, name, &st, AT_SYMLINK_NOFOLLOW) < 0)
        return -errno;
    int same = (st.st_mode & S_IFMT) == (mode & S_IFMT) && st.st_rdev == device;
    return same ? 0 : -EEXIST;
}

BX_OP(mknod)
{
    const char *name;
    mode_t mode = (mode_t)BX_NUM(1);
    dev_t device = makedev((unsigned)BX_NUM(2), (unsigned)BX_NUM(3));
    int root = bx_root(child);
    BX_FD parent = root < 0 ? root : bx_open_parent(root, BX_STR(0), &name);
    if (parent < 0)
        return parent;
    if (mknodat(parent, name, mode, device) < 0)
        return errno == EEXIST ? same_node(parent, name, mode, device) : -errno;
    if (!BX_NUM(4) && !BX_NUM(5))
        return 0;
    return bx_sys(fchownat(parent, name, (uid_t)BX_NUM(4), (gid_t)BX_NUM(5), AT_SYMLINK_NOFOLLOW));
}

BX_OP(symlink)
{
    const char *name;
    int root = bx_root(child);
    bx_object(child, BX_STR(1), NULL);
    BX_FD parent = root < 0 ? root : bx_open_parent(root, BX_STR(1), &name);
    if (parent < 0)
        return parent;
    int status = bx_sys(symlinkat(BX_STR(0), parent, name));
    return status == -EEXIST ? 0 : status;
}

/* Opened once, without following a link, and known to be the device 1:3: an image or a racing
 * container that put something else there is found out (CVE-2025-31133). */
int bx_null_of(struct bx_child *child)
{
    struct stat st;
    if (child->null >= 0)
        return child->null;
    int root = bx_root(child);
    BX_FD fd = root < 0 ? root : bx_open_beneath(root, "/dev/null", O_PATH, RESOLVE_NO_SYMLINKS);
    if (fd < 0)
        return fd;
    if (fstat(fd, &st) < 0)
        return -errno;
    if (!S_ISCHR(st.st_mode) || st.st_rdev != makedev(1, 3))
        return -ENODEV;
    return child->null = bx_take(&fd);
}

/* The first empty tmpfs is mounted; from then on it is cloned: a third of the price. */
static int empty_directory(struct bx_child *child)
{
    if (child->masks >= 0)
        return bx_open_tree(child->masks, "", OPEN_TREE_CLONE | AT_EMPTY_PATH);
    BX_FD context = bx_sys(syscall(SYS_fsopen, "tmpfs", 1));
    if (context < 0)
        return context;
    if (syscall(SYS_fsconfig, context, 1, "nr_inodes", "2", 0) < 0 ||
        syscall(SYS_fsconfig, context, 1, "mode", "755", 0) < 0 ||
        syscall(SYS_fsconfig, context, 6, NULL, NULL, 0) < 0)
        return -errno;
    unsigned attributes =
        BXP_ATTR_RDONLY | BXP_ATTR_NOSUID | BXP_ATTR_NODEV | BXP_ATTR_NOEXEC;
    child->masks = bx_sys(syscall(SYS_fsmount, context, 1, attributes));
    return child->masks < 0 ? child->masks : fcntl(child->masks, F_DUPFD_CLOEXEC, 3);
}

static int null_file(struct bx_child *child)
{
    int null = bx_null_of(child);
    if (null < 0) {
        bx_object(child, "/dev/null", "is not the null device");
        return null;
    }
    return bx_open_tree(null, "", OPEN_TREE_CLONE | AT_EMPTY_PATH);
}

static int missing(int status)
{
    return status == -ENOENT || status == -ENOTDIR;
}

BX_OP(mask)
{
    struct stat st;
    int root = bx_root(child);
    BX_FD target = root < 0 ? root : bx_open_beneath(root, BX_STR(0), O_PATH, 0);
    if (target < 0)
        return missing(target) ? 0 : target;
    if (fstat(target, &st) < 0)
        return -errno;
    BX_FD cover = S_ISDIR(st.st_mode) ? empty_directory(child) : null_file(child);
    return cover < 0 ? cover : bx_attach_fd(cover, target);
}

BX_OP(readonly)
{
    int root = bx_root(child);
    BX_FD target = root < 0 ? root : bx_open_beneath(root, BX_STR(0), O_PATH, 0);
    if (target < 0)
        return missing(target) ? 0 : target;
    BX_FD copy = bx_open_tree(target, "", OPEN_TREE_CLONE | AT_RECURSIVE | AT_EMPTY_PATH);
    if (copy < 0)
        return copy;
    int status = bx_setattr(copy, AT_RECURSIVE, BXP_ATTR_RDONLY, 0, 0);
    return status < 0 ? status : bx_attach_fd(copy, target);
}
