/* Small things every C file here uses: cleanup attributes and the newer system calls.
 *
 * Functions that can fail return 0 (or a descriptor) and a negative errno otherwise, copied at
 * once. Nothing here allocates.
 */
#pragma once

#include <errno.h>
#include <fcntl.h>
#include <linux/mount.h>
#include <linux/openat2.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#ifndef MOVE_MOUNT_F_EMPTY_PATH
#define MOVE_MOUNT_F_EMPTY_PATH 0x4
#define MOVE_MOUNT_T_EMPTY_PATH 0x40
#endif

#define BX_UNUSED __attribute__((unused))

static inline void bx_close(int *fd)
{
    if (*fd >= 0) {
        close(*fd);
        *fd = -1;
    }
}

#define BX_FD __attribute__((cleanup(bx_close))) int

/* Hands a descriptor out of a BX_FD variable. */
static inline int bx_take(int *fd)
{
    int value = *fd;
    *fd = -1;
    return value;
}

/* The answer of a system call as a negative errno. */
static inline int bx_sys(long answer)
{
    return answer < 0 ? -errno : (int)answer;
}

static inline int bx_openat2(int dir, const char *path, uint64_t flags, uint64_t mode,
                             uint64_t resolve)
{
    struct open_how how = {.flags = flags | O_CLOEXEC, .mode = mode, .resolve = resolve};
    return bx_sys(syscall(SYS_openat2, dir, path, &how, sizeof how));
}

static inline int bx_open_tree(int dir, const char *path, unsigned flags)
{
    return bx_sys(syscall(SYS_open_tree, dir, path, flags | OPEN_TREE_CLOEXEC));
}

static inline int bx_setattr(int fd, unsigned flags, uint64_t set, uint64_t clear,
                             uint64_t propagation)
{
    struct mount_attr attr = {.attr_set = set, .attr_clr = clear, .propagation = propagation};
    return bx_sys(syscall(SYS_mount_setattr, fd, "", flags | AT_EMPTY_PATH, &attr, sizeof attr));
}

/* Attaches the mount behind `fd` on what `target` refers to. */
static inline int bx_attach_fd(int fd, int target)
{
    return bx_sys(syscall(SYS_move_mount, fd, "", target, "",
                          MOVE_MOUNT_F_EMPTY_PATH | MOVE_MOUNT_T_EMPTY_PATH));
}
