/* What the broker may not do: anything but speak over the sockets that it has. */

#include <sys/mman.h>

#include "broker.h"
#include "confined.h"

static struct sock_filter filter[] = {
    FIELD(arch),
    BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, ARCH, 1, 0),
    BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_KILL_PROCESS),
    FIELD(nr),
#ifdef SYS_epoll_wait
    MAY(epoll_wait),
#endif
    MAY(epoll_pwait), MAY(epoll_ctl), MAY(recvfrom), MAY(recvmsg), MAY(sendto), MAY(sendmsg),
    MAY(close), MAY(accept4), MAY(getsockopt), MAY(setsockopt), MAY(getrandom), MAY(brk),
    MAY(munmap), MAY(mremap), MAY(madvise), MAY(rt_sigreturn), MAY(rt_sigprocmask),
    MAY(restart_syscall), MAY(exit), MAY(exit_group),
    MAY_WITH(mmap, 2, PROT_READ | PROT_WRITE, PROT_NONE),
    MAY_WITH(mprotect, 2, PROT_READ | PROT_WRITE, PROT_NONE),
    REFUSE,
};

int broker_confine(void)
{
    if (bx_drop_root(1u << CAP_NET_ADMIN) < 0)
        return -1;
    return bx_filter(filter, sizeof filter / sizeof *filter);
}
