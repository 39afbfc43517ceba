/* The last operations: where the payload runs, what it is, and its start. */

#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/stat.h>

#include "child.h"

static const char *variables[BXP_MAX_LIST + 1], *arguments[BXP_MAX_LIST + 1];
static char found[PATH_MAX];

/* getcwd answers "(unreachable)..." for a directory that is outside of the root: one that a
 * leaked descriptor led to (CVE-2024-21626). The raw call: glibc would walk the tree instead. */
static int inside_root(void)
{
    char path[PATH_MAX];
    if (syscall(SYS_getcwd, path, sizeof path) < 0)
        return -errno;
    return path[0] == '/' ? 0 : -EXDEV;
}

BX_OP(cwd)
{
    int root = bx_root(child);
    struct bx_make make = {.kind = BX_DIRECTORY,
                           .mode = 0755,
                           .uid = (uid_t)BX_NUM(2),
                           .gid = (gid_t)BX_NUM(3)};
    if (root < 0)
        return root;
    BX_FD fd = BX_NUM(1) ? bx_make_beneath(root, BX_STR(0), &make, NULL)
                         : bx_open_beneath(root, BX_STR(0), O_PATH | O_DIRECTORY, 0);
    if (fd < 0)
        return fd;
    if (fchdir(fd) < 0)
        return -errno;
    return inside_root();
}

BX_OP(env)
{
    int count = bx_list_fill(&op->args[0], variables, BXP_MAX_LIST + 1);
    return count < 0 ? count : 0;
}

static const char *search_path(void)
{
    for (const char **variable = variables; *variable; variable++)
        if (!strncmp(*variable, "PATH=", 5))
            return *variable + 5;
    return "";
}

static int executable(const char *path)
{
    struct stat st;
    if (stat(path, &st) < 0)
        return -errno;
    if (S_ISDIR(st.st_mode))
        return -EISDIR;
    if (!(st.st_mode & 0111))
        return -EACCES;
    return syscall(SYS_faccessat2, AT_FDCWD, path, X_OK, AT_EACCESS) < 0 ? -errno : 0;
}

/* Only absolute folders count, so that nothing is run from the working directory by accident. */
static int look_up(const char *name)
{
    for (const char *folder = search_path(); *folder;) {
        size_t length = strcspn(folder, ":");
        int size = snprintf(found, sizeof found, "%.*s/%s", (int)length, folder, name);
        if (*folder == '/' && size > 0 && (size_t)size < sizeof found && !executable(found))
            return 0;
        folder += length + (folder[length] == ':');
    }
    return -ENOENT;
}

BX_OP(command)
{
    int count = bx_list_fill(&op->args[0], arguments, BXP_MAX_LIST + 1);
    if (count < 0)
        return count;
    if (!count)
        return -EINVAL;
    bx_object(child, arguments[0], NULL);
    /* Not an error where a filter forbids it: the engine finds a container without a shim, too. */
    prctl(PR_SET_PDEATHSIG, child->pdeath, 0, 0, 0);
    child->path = strchr(arguments[0], '/') ? arguments[0] : found;
    return child->path == found ? look_up(arguments[0]) : executable(child->path);
}

/* Handlers were cleared by the clone, ignored signals and the mask are still the shim's. */
static void reset_signals(void)
{
    sigset_t none;
    struct sigaction plain = {.sa_handler = SIG_DFL};
    for (int number = 1; number < 65; number++)
        sigaction(number, &plain, NULL); /* KILL, STOP and libc's own two refuse: nothing to do */
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
}

/* close_range here and not before: whatever an operation opened goes too. A filter may forbid
 * it; every descriptor of ours is close-on-exec by itself, this is the second lock. */
BX_OP(exec)
{
    if (!child->path)
        return -EINVAL;
    bx_object(child, arguments[0], NULL);
    umask(child->umask);
    reset_signals();
    syscall(SYS_close_range, 3u, ~0u, 4u /* CLOSE_RANGE_CLOEXEC */);
    execve(child->path, (char *const *)(uintptr_t)arguments, (char *const *)(uintptr_t)variables);
    return -errno;
}
