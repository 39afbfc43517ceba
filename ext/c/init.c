/* The init of --init: bound read-only on /sbin/docker-init, called `docker-init -- COMMAND`.
 * It starts the command, passes every signal on to it, reaps what is left to it, and ends as the
 * command ends. */

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/wait.h>

#include "shim.h"

static pid_t start(char **argv, const sigset_t *before)
{
    pid_t pid = fork();
    if (pid)
        return pid;
    setpgid(0, 0);
    /* With a terminal the command's group must be in front; SIGTTOU is blocked here. */
    if (tcsetpgrp(0, getpid()) < 0 && errno != ENOTTY && errno != ENXIO && errno != EBADF)
        fprintf(stderr, "docker-init: terminal: %s\n", strerror(errno));
    sigprocmask(SIG_SETMASK, before, NULL);
    execvp(argv[0], argv);
    int error = errno;
    fprintf(stderr, "docker-init: exec: %s: %s\n", argv[0], strerror(error));
    _exit(error == ENOENT ? 127 : 126);
}

/* Reaps all that has ended; the command's own status, or -1 while it runs. */
static int reap(pid_t command)
{
    int status, code = -1;
    pid_t pid;
    while ((pid = waitpid(-1, &status, WNOHANG)) > 0)
        if (pid == command)
            code = WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status);
    return code;
}

int init_main(int argc, char **argv)
{
    int first = argc > 1 && !strcmp(argv[1], "--") ? 2 : 1, code = -1;
    sigset_t all, before;
    if (first >= argc) {
        fputs("docker-init: docker-init [--] COMMAND...\n", stderr);
        return 1;
    }
    if (getpid() != 1)
        prctl(PR_SET_CHILD_SUBREAPER, 1);
    sigfillset(&all);
    sigprocmask(SIG_BLOCK, &all, &before);
    pid_t command = start(argv + first, &before);
    if (command < 0) {
        fprintf(stderr, "docker-init: fork: %s\n", strerror(errno));
        return 1;
    }
    while (code < 0) {
        siginfo_t info;
        int number = sigwaitinfo(&all, &info);
        if (number == SIGCHLD)
            code = reap(command);
        else if (number > 0)
            kill(command, number);
    }
    return code;
}
