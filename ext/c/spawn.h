/* Starting a small program from a large, threaded one (Python): clone(VM|VFORK), whose price does
 * not depend on the caller's size. */
#pragma once

#include <sys/types.h>

/* Executes what `exe` refers to in a new session, with /dev/null as 0..2 and fds[] as 3, 4, ...
 * Everything else is closed. Blocks until the program runs; needs no lock of the caller's.
 * The pid and *pidfd (close-on-exec), or a negative errno. */
pid_t bx_spawn(int exe, char *const argv[], char *const envp[], const int *fds, unsigned count,
               int *pidfd);
