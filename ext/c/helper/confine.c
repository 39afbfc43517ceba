/* What the helper may not do any more, from its first packet on: be root, gain anything by
 * executing, open a file, make a process, or any system call that is not in the list. */

#include <linux/audit.h>
#include <linux/capability.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <grp.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/prctl.h>

#include "helper.h"

enum { NOBODY = 65534 };

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

static struct sock_filter filter[] = {
    FIELD(arch),
    BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, ARCH, 1, 0),
    BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_KILL_PROCESS),
    FIELD(nr),
#ifdef SYS_epoll_wait
    MAY(epoll_wait),
#endif
    MAY(epoll_pwait), MAY(epoll_ctl), MAY(recvfrom), MAY(recvmsg), MAY(sendto), MAY(sendmsg),
    MAY(splice), MAY(read), MAY(write), MAY(close), MAY(shutdown), MAY(connect), MAY(accept4),
    MAY(getsockopt), MAY(setsockopt), MAY(getsockname), MAY(pipe2), MAY(getrandom),
    MAY(clock_gettime), MAY(brk), MAY(munmap), MAY(mremap), MAY(madvise), MAY(rt_sigreturn),
    MAY(rt_sigprocmask), MAY(restart_syscall), MAY(exit), MAY(exit_group),
    MAY_WITH(socket, 0, AF_INET, AF_INET6),
    MAY_WITH(mmap, 2, PROT_READ | PROT_WRITE, PROT_NONE),
    MAY_WITH(mprotect, 2, PROT_READ | PROT_WRITE, PROT_NONE),
    REFUSE,
};

static int drop_root(void)
{
    struct __user_cap_header_struct head = {.version = _LINUX_CAPABILITY_VERSION_3};
    struct __user_cap_data_struct none[2] = {{0}};
    if (geteuid() == 0) {
        for (int capability = 0; prctl(PR_CAPBSET_READ, capability, 0, 0, 0) >= 0; capability++)
            prctl(PR_CAPBSET_DROP, capability, 0, 0, 0);
        if (setgroups(0, NULL) < 0 || setresgid(NOBODY, NOBODY, NOBODY) < 0 ||
            setresuid(NOBODY, NOBODY, NOBODY) < 0)
            return -1;
    }
    prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0);
    return (int)syscall(SYS_capset, &head, none);
}

int confine(void)
{
    struct sock_fprog program = {.len = sizeof filter / sizeof *filter, .filter = filter};
    /* In a user namespace there may be no such user: it is no root outside then. */
    if (drop_root() < 0 && geteuid() == 0)
        return -1;
    if (prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) < 0 || prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0)
        return -1;
#ifdef BX_NO_FILTER /* a test's: the sanitizers open files to write what they found */
    return 0;
#endif
    return prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program, 0, 0);
}
