/* Attacks and questions that a shell cannot make: probe NAME [ARG]. Prints "ok" or the errno. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <unistd.h>

static int report(long result)
{
    if (result < 0) {
        printf("%d %s\n", errno, strerror(errno));
        return 1;
    }
    puts("ok");
    return 0;
}

/* Keep a descriptor of our own executable, let go of it, then write through the descriptor. */
static int overwrite(const char *path)
{
    char again[64];
    int fd = open(path, O_PATH | O_CLOEXEC);
    if (fd < 0)
        return report(fd);
    snprintf(again, sizeof again, "/proc/self/fd/%d", fd);
    return report(open(again, O_WRONLY));
}

int main(int argc, char **argv)
{
    const char *what = argc > 1 ? argv[1] : "", *arg = argc > 2 ? argv[2] : "";
    setvbuf(stdout, NULL, _IOLBF, 0);
    if (!strcmp(what, "family"))
        return report(socket(atoi(arg), atoi(argv[3]), 0));
    if (!strcmp(what, "unshare"))
        return report(unshare((int)strtol(arg, NULL, 0)));
    if (!strcmp(what, "mount"))
        return report(mount("none", arg, "tmpfs", 0, NULL));
    if (!strcmp(what, "umount"))
        return report(umount2(arg, MNT_DETACH));
    if (!strcmp(what, "syscall"))
        return report(syscall(atol(arg), 0, 0, 0, 0, 0, 0));
    if (!strcmp(what, "clone3"))
        return report(syscall(SYS_clone3, NULL, 0));
    if (!strcmp(what, "open"))
        return report(open(arg, O_RDONLY | O_NONBLOCK));
    if (!strcmp(what, "write"))
        return report(open(arg, O_WRONLY | O_NONBLOCK));
    if (!strcmp(what, "mknod"))
        return report(mknod(arg, S_IFBLK | 0600, makedev(atoi(argv[3]), atoi(argv[4]))));
    if (!strcmp(what, "mknodc"))
        return report(mknod(arg, S_IFCHR | 0600, makedev(atoi(argv[3]), atoi(argv[4]))));
    if (!strcmp(what, "overwrite"))
        return overwrite(arg);
    if (!strcmp(what, "setgroups"))
        return report(setgroups(0, NULL));
    if (!strcmp(what, "hog")) {
        for (size_t size = 0; size < (size_t)atoi(arg) << 20; size += 1 << 20)
            memset(malloc(1 << 20), 1, 1 << 20);
        return report(0);
    }
    if (!strcmp(what, "forks")) {
        int made = 0;
        for (int i = 0; i < atoi(arg); i++) {
            pid_t pid = fork();
            if (pid < 0)
                break;
            if (pid == 0) {
                pause();
                _exit(0);
            }
            made++;
        }
        printf("%d\n", made);
        return 0;
    }
    fprintf(stderr, "probe: %s?\n", what);
    return 2;
}
