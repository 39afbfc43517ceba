#include "userns.h"

#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>

#include "util.h"

enum { STACK = 16 << 10 };

/* Only there to be what /proc/PID stands for. It shares the caller's memory and touches none of it. */
static int waits(void *argument)
{
    unsigned long long mask = ~0ull;
    (void)argument;
    for (;;)
        syscall(SYS_rt_sigsuspend, &mask, sizeof mask);
    return 0;
}

static int put(pid_t pid, const char *name, const char *map)
{
    char path[64];
    snprintf(path, sizeof path, "/proc/%d/%s", pid, name);
    BX_FD fd = open(path, O_WRONLY | O_CLOEXEC);
    if (fd < 0)
        return -errno;
    ssize_t size = (ssize_t)strlen(map), done = bx_sys(write(fd, map, (size_t)size));
    if (done < 0)
        return (int)done;
    return done == size ? 0 : -EIO;
}

int bx_userns(const char *uid_map, const char *gid_map)
{
    char *stack = mmap(NULL, STACK, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (stack == MAP_FAILED)
        return -errno;
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_BLOCK, &all, &before);
    /* No exit signal: a parent that counts its children's deaths is not to see this one. */
    pid_t pid = bx_sys(clone(waits, stack + STACK, CLONE_VM | CLONE_NEWUSER, NULL));
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    int fd = pid;
    if (pid > 0) {
        fd = put(pid, "uid_map", uid_map);
        if (fd == 0)
            fd = put(pid, "gid_map", gid_map);
        if (fd == 0) {
            char path[64];
            snprintf(path, sizeof path, "/proc/%d/ns/user", pid);
            fd = bx_sys(open(path, O_RDONLY | O_CLOEXEC));
        }
        kill(pid, SIGKILL);
        while (waitpid(pid, NULL, __WALL) < 0 && errno == EINTR)
            ;
    }
    munmap(stack, STACK);
    return fd;
}
