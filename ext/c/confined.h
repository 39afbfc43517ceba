/* Shutting a program that runs beside containers: no root, no capability but those named, nothing to
 * gain by executing, and only the system calls of a filter. */
#pragma once

#include <grp.h>
#include <linux/audit.h>
#include <linux/capability.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sys/prctl.h>

#include "util.h"

enum { BX_NOBODY = 65534 };

#if defined(__x86_64__)
#define ARCH AUDIT_ARCH_X86_64
#elif defined(__aarch64__)
#define ARCH AUDIT_ARCH_AARCH64
#else
#error "name this machine's audit architecture"
#endif

#define FIELD(name) \
    BPF_STMT(BPF_LD | BPF_W | BPF_ABS, (unsigned)offsetof(struct seccomp_data, name))
#define ALLOW BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW)
#define REFUSE BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EPERM)
#define MAY(call) BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_##call, 0, 1), ALLOW
/* The call, if its argument (the lower half) is one of two values. */
#define MAY_WITH(call, argument, one, other)                                         \
    BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_##call, 0, 5), FIELD(args[argument]),     \
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, one, 1, 0),                               \
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, other, 0, 1), ALLOW, REFUSE

/* Become nobody, with the capabilities of `keep` (a mask) and no others. 0 or -1. */
static inline int bx_drop_root(uint32_t keep)
{
    struct __user_cap_header_struct head = {.version = _LINUX_CAPABILITY_VERSION_3};
    struct __user_cap_data_struct sets[2] = {{.effective = keep, .permitted = keep}};
    if (geteuid() == 0) {
        for (int capability = 0; prctl(PR_CAPBSET_READ, capability, 0, 0, 0) >= 0; capability++)
            prctl(PR_CAPBSET_DROP, capability, 0, 0, 0);
        prctl(PR_SET_KEEPCAPS, keep != 0, 0, 0, 0);
        if (setgroups(0, NULL) < 0 || setresgid(BX_NOBODY, BX_NOBODY, BX_NOBODY) < 0 ||
            setresuid(BX_NOBODY, BX_NOBODY, BX_NOBODY) < 0)
            return -1;
    }
    prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0);
    return (int)syscall(SYS_capset, &head, sets);
}

static inline int bx_filter(struct sock_filter *filter, unsigned count)
{
    struct sock_fprog program = {.len = (unsigned short)count, .filter = filter};
    if (prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) < 0 || prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0)
        return -1;
#ifdef BX_NO_FILTER /* a test's: the sanitizers open files to write what they found */
    return 0;
#endif
    return prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program, 0, 0);
}
