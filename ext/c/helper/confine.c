/* What the helper may not do any more, from its first packet on: be root, gain anything by
 * executing, open a file, make a process, or any system call that is not in the list. */

#include <sys/mman.h>

#include "confined.h"
#include "helper.h"

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

int confine(void)
{
    return bx_drop_root(0) < 0 ? -1 : bx_filter(filter, sizeof filter / sizeof *filter);
}
