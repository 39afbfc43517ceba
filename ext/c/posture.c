/* Operations on credentials. Raw system calls: glibc's wrappers signal every thread that it
 * believes to exist, and in a copy of a threaded process those are gone. */

#include <grp.h>
#include <linux/capability.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stdio.h>
#include <sys/prctl.h>

#include "child.h"

BX_OP(groups)
{
    if (op->args[0].length % sizeof(gid_t))
        return -EINVAL;
    return bx_sys(syscall(SYS_setgroups, op->args[0].length / sizeof(gid_t), op->args[0].data));
}

/* 2^32 - 1 means "leave it" to the system call, so it is refused (CVE-2024-40635's class). */
static int check_id(struct bx_child *child, uint64_t id)
{
    char text[24];
    snprintf(text, sizeof text, "%llu", (unsigned long long)id);
    bx_object(child, text, NULL);
    return id >= UINT32_MAX ? -EINVAL : 0;
}

BX_OP(gid)
{
    uint64_t id = BX_NUM(0);
    int status = check_id(child, id);
    return status < 0 ? status : bx_sys(syscall(SYS_setresgid, (gid_t)id, (gid_t)id, (gid_t)id));
}

BX_OP(uid)
{
    uint64_t id = BX_NUM(0);
    int status = check_id(child, id);
    if (status < 0)
        return status;
    if (BX_NUM(1) && prctl(PR_SET_KEEPCAPS, 1, 0, 0, 0) < 0)
        return -errno;
    return bx_sys(syscall(SYS_setresuid, (uid_t)id, (uid_t)id, (uid_t)id));
}

/* PR_CAPBSET_READ answers EINVAL past the last capability of this kernel. */
BX_OP(bounding)
{
    char text[24];
    for (int cap = 0; cap < 64; cap++) {
        int there = prctl(PR_CAPBSET_READ, cap, 0, 0, 0);
        if (there < 0)
            break;
        snprintf(text, sizeof text, "%d", cap);
        bx_object(child, text, NULL);
        if (there && !(BX_NUM(0) >> cap & 1) && prctl(PR_CAPBSET_DROP, cap, 0, 0, 0) < 0)
            return -errno;
    }
    return 0;
}

static int raise_ambient(uint64_t mask)
{
    if (prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0) < 0)
        return -errno;
    for (int cap = 0; cap < 64; cap++)
        if (mask >> cap & 1 && prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, cap, 0, 0) < 0)
            return -errno;
    return 0;
}

BX_OP(capabilities)
{
    struct __user_cap_header_struct head = {.version = _LINUX_CAPABILITY_VERSION_3};
    struct __user_cap_data_struct data[2];
    if (syscall(SYS_capget, &head, data) < 0)
        return -errno;
    uint64_t have = data[0].permitted | (uint64_t)data[1].permitted << 32;
    uint64_t permitted = BX_NUM(1) & have, effective = BX_NUM(0) & permitted;
    uint64_t inheritable = BX_NUM(2) & permitted;
    for (int i = 0; i < 2; i++) {
        data[i].effective = (uint32_t)(effective >> 32 * i);
        data[i].permitted = (uint32_t)(permitted >> 32 * i);
        data[i].inheritable = (uint32_t)(inheritable >> 32 * i);
    }
    if (syscall(SYS_capset, &head, data) < 0)
        return -errno;
    return raise_ambient(BX_NUM(3) & inheritable);
}

BX_OP(no_new_privileges)
{
    return bx_sys(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0));
}

BX_OP(seccomp)
{
    size_t count = op->args[0].length / sizeof(struct sock_filter);
    bx_object(child, "filter", NULL);
    if (op->args[0].length % sizeof(struct sock_filter) || !count || count > BXP_MAX_FILTER)
        return -EINVAL;
    struct sock_fprog program = {.len = (unsigned short)count,
                                 .filter = (struct sock_filter *)(uintptr_t)op->args[0].data};
    int status = bx_sys(syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, (unsigned)BX_NUM(1), &program));
    return status > 0 ? -ESRCH : status; /* TSYNC: the thread that could not follow */
}
