/* Teams of threads that run side by side from the beginning. */
#pragma once

#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <stdbool.h>
#include <unistd.h>

/* A kernel that packs what wakes onto few processors (to let the others sleep) has a team of two
 * take turns on one for up to 10 ms, and again whenever one has waited. The members of a team that
 * share out their work as they go are therefore held on processors of their own while it lasts:
 * who has a busy one does less of it. */

/* Has room for `count` descriptors made in the process's table. When a table that threads share
 * grows, the kernel waits for a grace period (expand_fdtable() in fs/file.c): 10 ms in which none
 * of them opens anything. So it grows before there are any; it will at most be slower where the
 * limit is lower than that. */
static inline void bx_room_for_fds(int fd, int count)
{
    int last = fcntl(fd, F_DUPFD_CLOEXEC, count - 1);
    if (last >= 0)
        close(last);
}

/* The processor of member `number`; the caller is 0, and stays where it is. -1: there is no choice. */
static inline int bx_processor_for(unsigned number, const cpu_set_t *allowed)
{
    int count = CPU_COUNT(allowed), here = sched_getcpu(), before = 0;
    if (count < 2 || here < 0)
        return -1;
    for (int cpu = 0; cpu < CPU_SETSIZE && cpu < here; cpu++)
        before += CPU_ISSET(cpu, allowed) != 0;
    unsigned wanted = ((unsigned)before + number) % (unsigned)count;
    for (int cpu = 0; cpu < CPU_SETSIZE; cpu++)
        if (CPU_ISSET(cpu, allowed) && !wanted--)
            return cpu;
    return -1;
}

/* Holds the caller where it is, and tells where it may run otherwise. */
static inline void bx_hold(cpu_set_t *allowed)
{
    cpu_set_t one;
    int here = sched_getcpu();
    CPU_ZERO(allowed);
    if (sched_getaffinity(0, sizeof *allowed, allowed) < 0 || here < 0 || !CPU_ISSET(here, allowed))
        return;
    CPU_ZERO(&one);
    CPU_SET(here, &one);
    sched_setaffinity(0, sizeof one, &one);
}

static inline void bx_let_go(const cpu_set_t *allowed)
{
    if (CPU_COUNT(allowed))
        sched_setaffinity(0, sizeof *allowed, allowed);
}

/* pthread_create(3) for member `number`. False: there is no thread. */
static inline bool bx_thread(pthread_t *thread, unsigned number, const cpu_set_t *allowed,
                             void *(*run)(void *), void *argument)
{
    cpu_set_t one;
    pthread_attr_t attributes;
    int cpu = bx_processor_for(number, allowed);
    if (cpu < 0 || pthread_attr_init(&attributes))
        return !pthread_create(thread, NULL, run, argument);
    CPU_ZERO(&one);
    CPU_SET(cpu, &one);
    bool made = !pthread_attr_setaffinity_np(&attributes, sizeof one, &one) &&
                !pthread_create(thread, &attributes, run, argument);
    pthread_attr_destroy(&attributes);
    return made || !pthread_create(thread, NULL, run, argument);
}
