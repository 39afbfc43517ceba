/* Standard input, output and error of the payload: pipes, or a terminal of its own /dev/pts. */

#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/vfs.h>
#include <termios.h>

#include "child.h"

#define DEVPTS_SUPER_MAGIC 0x1cd1
#ifndef TIOCGPTPEER
#define TIOCGPTPEER _IO('T', 0x41)
#endif

/* A new terminal: the ptmx of the devpts that is mounted beneath the root, and nothing else
 * (CVE-2025-52565: a link put in its place must not be followed). */
static int open_master(int root)
{
    struct stat st;
    struct statfs fs;
    BX_FD fd = bx_open_beneath(root, "/dev/pts/ptmx", O_RDWR | O_NOCTTY, RESOLVE_NO_SYMLINKS);
    if (fd < 0)
        return fd;
    if (fstat(fd, &st) < 0 || fstatfs(fd, &fs) < 0)
        return -errno;
    if (!S_ISCHR(st.st_mode) || st.st_rdev != makedev(5, 2) || fs.f_type != DEVPTS_SUPER_MAGIC)
        return -ENODEV;
    return bx_take(&fd);
}

static int open_peer(int master)
{
    struct stat st;
    int unlock = 0;
    if (ioctl(master, TIOCSPTLCK, &unlock) < 0)
        return -errno;
    BX_FD fd = ioctl(master, TIOCGPTPEER, O_RDWR | O_NOCTTY | O_CLOEXEC);
    if (fd < 0 || fstat(fd, &st) < 0)
        return -errno;
    if (!S_ISCHR(st.st_mode) || major(st.st_rdev) < 136 || major(st.st_rdev) > 143)
        return -ENODEV;
    return bx_take(&fd);
}

static int bind_console(int root, int peer)
{
    struct bx_make make = {.kind = BX_FILE, .no_links = 1, .mode = 0600};
    BX_FD copy = bx_open_tree(peer, "", OPEN_TREE_CLONE | AT_EMPTY_PATH);
    if (copy < 0)
        return copy;
    BX_FD target = bx_make_beneath(root, "/dev/console", &make, NULL);
    return target < 0 ? target : bx_attach_fd(copy, target);
}

static int send_master(int report, int master)
{
    struct bx_report message = {.kind = BX_CONSOLE};
    struct iovec part = {.iov_base = &message, .iov_len = sizeof message};
    union {
        struct cmsghdr head;
        char room[CMSG_SPACE(sizeof(int))];
    } control = {0};
    struct msghdr packet = {.msg_iov = &part,
                            .msg_iovlen = 1,
                            .msg_control = &control,
                            .msg_controllen = sizeof control};
    struct cmsghdr *head = CMSG_FIRSTHDR(&packet);
    head->cmsg_level = SOL_SOCKET;
    head->cmsg_type = SCM_RIGHTS;
    head->cmsg_len = CMSG_LEN(sizeof(int));
    memcpy(CMSG_DATA(head), &master, sizeof(int));
    return sendmsg(report, &packet, MSG_NOSIGNAL) < 0 ? -errno : 0;
}

static int install(int fd, int number)
{
    return dup2(fd, number) < 0 ? -errno : 0;
}

BX_OP(console)
{
    bx_object(child, "/dev/pts/ptmx", NULL);
    int root = bx_root(child);
    BX_FD master = root < 0 ? root : open_master(root);
    if (master < 0)
        return master;
    BX_FD peer = open_peer(master);
    if (peer < 0)
        return peer;
    int given = child->rows || child->columns;
    struct winsize size = {.ws_row = given ? child->rows : (unsigned short)BX_NUM(1),
                           .ws_col = given ? child->columns : (unsigned short)BX_NUM(2)};
    if ((size.ws_row || size.ws_col) && ioctl(master, TIOCSWINSZ, &size) < 0)
        return -errno;
    if (BX_NUM(0) && fchown(peer, (uid_t)BX_NUM(0), (gid_t)-1) < 0)
        return -errno;
    bx_object(child, "/dev/console", NULL);
    int status = BX_NUM(3) & BXP_F_CONSOLE_BIND ? bind_console(root, peer) : 0;
    for (int i = 0; i < 3 && status >= 0; i++)
        status = install(peer, i);
    if (status >= 0 && ioctl(0, TIOCSCTTY, 0) < 0)
        status = -errno;
    return status < 0 ? status : send_master(child->report, master);
}

/* The container's own null device, for a standard stream that leads nowhere. */
static int open_null(struct bx_child *child)
{
    struct stat st;
    int root = bx_root(child);
    BX_FD fd = root < 0 ? root : bx_open_beneath(root, "/dev/null", O_RDWR, RESOLVE_NO_SYMLINKS);
    if (fd < 0)
        return fd;
    if (fstat(fd, &st) < 0)
        return -errno;
    return S_ISCHR(st.st_mode) && st.st_rdev == makedev(1, 3) ? bx_take(&fd) : -ENODEV;
}

/* The user owns the pipes, so that opening /dev/stdout again works. */
static int install_pipe(int fd, int number, uint64_t uid)
{
    struct stat st;
    if (fstat(fd, &st) < 0)
        return -errno;
    if (uid && S_ISFIFO(st.st_mode) && fchown(fd, (uid_t)uid, (gid_t)-1) < 0)
        return -errno;
    return install(fd, number);
}

BX_OP(stdio)
{
    for (int i = 0; i < 3; i++) {
        BX_FD null = child->stdio[i] < 0 ? open_null(child) : -1;
        int fd = child->stdio[i] < 0 ? null : child->stdio[i];
        bx_object(child, "/dev/null", NULL);
        int status = fd < 0 ? fd : install_pipe(fd, i, BX_NUM(0));
        if (status < 0)
            return status;
    }
    return 0;
}
