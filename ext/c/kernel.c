/* Operations on what the kernel keeps for a process or a namespace: none touches the tree. */

#include <linux/keyctl.h>
#include <net/if.h>
#include <sched.h>
#include <stdio.h>
#include <sys/ioctl.h>
#include <sys/personality.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/vfs.h>

#include "child.h"

#define PROC_SUPER_MAGIC 0x9fa0

/* The PID namespace was joined by the parent, before the clone. */
BX_OP(join)
{
    uint64_t flags = BX_NUM(1) & ~(uint64_t)BXP_CLONE_NEWPID;
    int fd = bx_slot(child, BX_NUM(0));
    if (fd < 0)
        return fd;
    if (!flags)
        return 0;
    int status = bx_sys(syscall(SYS_setns, fd, (int)flags));
    if (status < 0 || !(flags & BXP_CLONE_NEWNS))
        return status;
    bx_close(&child->root);
    return bx_root(child) < 0 ? -errno : 0;
}

BX_OP(cgroup_tasks)
{
    int fd = bx_slot(child, BX_NUM(0));
    if (fd < 0)
        return fd;
    return write(fd, "0", 1) < 0 ? -errno : 0;
}

/* Nothing may be bound out of another mount namespace, but a detached copy made there may. */
BX_OP(visit)
{
    int fd = bx_slot(child, BX_NUM(0));
    if (fd < 0)
        return fd;
    bx_close(&child->root);
    return bx_sys(syscall(SYS_setns, fd, (int)BXP_CLONE_NEWNS));
}

BX_OP(unshare)
{
    return bx_sys(syscall(SYS_unshare, (int)BX_NUM(0)));
}

BX_OP(parent_death)
{
    child->pdeath = (int)BX_NUM(0);
    return bx_sys(prctl(PR_SET_PDEATHSIG, child->pdeath, 0, 0, 0));
}

BX_OP(setsid)
{
    return setsid() < 0 ? -errno : 0;
}

/* A procfs of the child's own PID namespace that nothing is mounted over and no path leads to:
 * what is written there arrives where it should (CVE-2025-52881 and its older kin). */
static int private_proc(struct bx_child *child)
{
    if (child->proc >= 0)
        return child->proc;
    BX_FD context = bx_sys(syscall(SYS_fsopen, "proc", 1));
    if (context < 0)
        return context;
    if (syscall(SYS_fsconfig, context, 6, NULL, NULL, 0) < 0)
        return -errno;
    unsigned attributes = BXP_ATTR_NOSUID | BXP_ATTR_NODEV | BXP_ATTR_NOEXEC;
    child->proc = bx_sys(syscall(SYS_fsmount, context, 1, attributes));
    return child->proc;
}

static int write_proc(struct bx_child *child, const char *path, const char *value, uint64_t resolve)
{
    struct statfs fs;
    int proc = private_proc(child);
    if (proc < 0)
        return proc;
    resolve |= RESOLVE_BENEATH | RESOLVE_NO_XDEV | RESOLVE_NO_MAGICLINKS;
    BX_FD fd = bx_openat2(proc, path, O_WRONLY, 0, resolve);
    if (fd < 0)
        return fd;
    if (fstatfs(fd, &fs) < 0)
        return -errno;
    if (fs.f_type != PROC_SUPER_MAGIC)
        return -ENODEV;
    return write(fd, value, strlen(value)) < 0 ? -errno : 0;
}

BX_OP(sysctl)
{
    char path[512];
    const char *name = BX_STR(0);
    int length = snprintf(path, sizeof path, "sys/%s", name);
    if (length < 0 || (size_t)length >= sizeof path)
        return -ENAMETOOLONG;
    if (strstr(name, ".."))
        return -EINVAL;
    if (!strchr(name, '/'))
        for (char *dot = path; (dot = strchr(dot, '.'));)
            *dot = '/';
    return write_proc(child, path, BX_STR(1), RESOLVE_NO_SYMLINKS);
}

BX_OP(oom_score_adj)
{
    char value[24];
    snprintf(value, sizeof value, "%lld", (long long)BX_NUM(0));
    bx_object(child, value, NULL);
    return write_proc(child, "self/oom_score_adj", value, 0);
}

BX_OP(hostname)
{
    return bx_sys(sethostname(BX_STR(0), op->args[0].length));
}

BX_OP(domainname)
{
    return bx_sys(setdomainname(BX_STR(0), op->args[0].length));
}

BX_OP(loopback)
{
    struct ifreq request = {.ifr_name = "lo"};
    bx_object(child, "lo", NULL);
    BX_FD fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    if (fd < 0 || ioctl(fd, SIOCGIFFLAGS, &request) < 0)
        return -errno;
    request.ifr_flags |= IFF_UP;
    return bx_sys(ioctl(fd, SIOCSIFFLAGS, &request));
}

BX_OP(rlimit)
{
    char text[64];
    struct rlimit64 limit = {.rlim_cur = BX_NUM(1), .rlim_max = BX_NUM(2)};
    snprintf(text, sizeof text, "%llu", (unsigned long long)BX_NUM(0));
    bx_object(child, text, NULL);
    return bx_sys(syscall(SYS_prlimit64, 0, (int)BX_NUM(0), &limit, NULL));
}

BX_OP(keyring)
{
    int status = bx_sys(syscall(SYS_keyctl, KEYCTL_JOIN_SESSION_KEYRING, BX_STR(0)));
    return status == -ENOSYS || status > 0 ? 0 : status;
}

/* Kept for the end: what operations make until then has the mode they were asked for. */
BX_OP(umask)
{
    child->umask = (mode_t)BX_NUM(0) & 0777;
    return 0;
}

BX_OP(personality)
{
    return personality((unsigned long)BX_NUM(0)) < 0 ? -errno : 0;
}
