#include "spawn.h"

#include <sched.h>
#include <signal.h>
#include <stdint.h>
#include <sys/mman.h>
#include <sys/wait.h>

#include "util.h"

enum { STACK = 64 << 10, ABOVE = 200 };

struct spawn {
    int exe, null;
    char *const *argv, *const *envp;
    const int *fds;
    unsigned count;
    volatile int error;
};

/* Runs in the caller's memory while the caller waits: raw steps only, nothing allocated. The
 * descriptors are first moved out of each other's way. */
static int child(void *argument)
{
    struct spawn *what = argument;
    int moved[32], exe = fcntl(what->exe, F_DUPFD_CLOEXEC, ABOVE);
    for (unsigned i = 0; i < what->count; i++)
        moved[i] = fcntl(what->fds[i], F_DUPFD_CLOEXEC, ABOVE);
    for (int i = 0; i < 3; i++)
        if (dup2(what->null, i) < 0)
            goto failed;
    for (unsigned i = 0; i < what->count; i++)
        if (dup2(moved[i], 3 + (int)i) < 0)
            goto failed;
    if (setsid() < 0 || chdir("/") < 0)
        goto failed;
    syscall(SYS_close_range, 3u + what->count, ~0u, 4u /* CLOSE_RANGE_CLOEXEC */);
    syscall(SYS_execveat, exe, "", what->argv, what->envp, AT_EMPTY_PATH);
failed:
    what->error = errno;
    _exit(127);
}

pid_t bx_spawn(int exe, char *const argv[], char *const envp[], const int *fds, unsigned count,
               int *pidfd)
{
    sigset_t all, before;
    BX_FD null = open("/dev/null", O_RDWR | O_CLOEXEC);
    struct spawn what = {exe, null, argv, envp, fds, count, 0};
    if (null < 0)
        return -errno;
    if (count > 32)
        return -E2BIG;
    char *stack = mmap(NULL, STACK, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (stack == MAP_FAILED)
        return -errno;
    sigfillset(&all);
    pthread_sigmask(SIG_BLOCK, &all, &before);
    int flags = CLONE_VM | CLONE_VFORK | CLONE_PIDFD | SIGCHLD;
    pid_t pid = bx_sys(clone(child, stack + STACK, flags, &what, pidfd));
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    munmap(stack, STACK);
    if (pid > 0 && what.error) {
        waitpid(pid, NULL, 0);
        bx_close(pidfd);
        return -what.error;
    }
    return pid;
}
