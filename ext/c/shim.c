/* boxwood-shim: see shim.h. Called as docker-init it is the init of --init (init.c).
 *
 * Started with one end of a SOCK_SEQPACKET pair as descriptor 3. A shim that nobody has configured
 * ends when that is closed; a configured one lives until its container is over and told of. */

#include <elf.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/auxv.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include "shim.h"

enum { CONTROL_FD = 3, EVENTS = 32 };

struct shim shim = {.epoll = -1, .signals = -1, .directory = -1, .root = -1};

int64_t now_ms(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec * 1000LL + now.tv_nsec / 1000000;
}

/* The generation tells an event of a place that was used anew meanwhile. */
int watch(int fd, int kind, unsigned place, uint32_t generation, unsigned events, int operation)
{
    struct epoll_event event = {.events = events,
                                .data.u64 = (uint64_t)generation << 32 | (unsigned)kind << 16 |
                                            place};
    return bx_sys(epoll_ctl(shim.epoll, operation, fd, &event));
}

/* A child that is being launched still has a copy: closing alone would leave the registration, and
 * epoll would report what nobody can read any more. */
void watched_close(int *fd)
{
    if (*fd >= 0)
        epoll_ctl(shim.epoll, EPOLL_CTL_DEL, *fd, NULL);
    bx_close(fd);
}

static void reap(void)
{
    siginfo_t info;
    struct signalfd_siginfo drained;
    while (read(shim.signals, &drained, sizeof drained) > 0)
        ;
    for (;;) {
        info.si_pid = 0;
        if (waitid(P_ALL, 0, &info, WEXITED | WNOHANG) < 0 || !info.si_pid)
            return;
        int exited = info.si_code == CLD_EXITED;
        task_reaped(info.si_pid, exited ? info.si_status : 0, exited ? 0 : info.si_status);
    }
}

/* An input that nobody can read any more reports it for as long as it is registered, whatever is
 * asked: it is closed. */
static void on_task_event(struct task *task, int kind, unsigned events)
{
    if (kind == ON_REPORT)
        task_report(task);
    else if (kind == ON_IN && events & (EPOLLERR | EPOLLHUP))
        stream_close_in(task);
    else if (kind == ON_IN)
        stream_writable(task);
    else if (task->out[kind - ON_OUT] >= 0)
        stream_output(task, kind - ON_OUT);
}

static void dispatch(const struct epoll_event *event)
{
    int kind = (int)(event->data.u64 >> 16 & 0xffff);
    unsigned place = event->data.u64 & 0xffff;
    uint32_t generation = (uint32_t)(event->data.u64 >> 32);
    if (kind == ON_CONTROL)
        control_event(event->events);
    else if (kind == ON_LISTEN)
        control_accept();
    else if (kind == ON_SIGNAL)
        reap();
    else if (kind == ON_CLIENT) {
        struct client *client = &shim.clients[place];
        if (is_open(client) && client->generation == generation)
            client_event(client, event->events);
    } else if (kind == ON_HOLD) {
        struct client *client = &shim.clients[place];
        if (is_open(client) && client->generation == generation)
            client_release(client);
    } else {
        struct task *task = shim.tasks[place];
        if (task && task->generation == generation)
            on_task_event(task, kind, event->events);
    }
}

static int64_t earlier(int64_t one, int64_t other)
{
    return !other || (one && one < other) ? one : other;
}

/* The earliest deadline, 0: none. A task that is paced by its terminal's end waits with none. */
static int64_t next_deadline(void)
{
    int64_t next = shim.listen_again;
    for (unsigned i = 0; i < BXM_MAX_TASKS; i++) {
        const struct task *task = shim.tasks[i];
        if (task && task->state == BXM_TASK_EXITED && !task->over)
            next = earlier(next, task->told ? task->acknowledge + 1 : task->drain);
    }
    for (unsigned i = 0; i < BXM_MAX_CLIENTS; i++)
        if (is_open(&shim.clients[i]))
            next = earlier(next, shim.clients[i].deadline);
    return next;
}

static int has_clients(void)
{
    for (unsigned i = 0; i < BXM_MAX_CLIENTS; i++)
        if (is_open(&shim.clients[i]))
            return 1;
    return 0;
}

/* What is due in tasks and clients; an exec that is over leaves. */
static void turn(void)
{
    for (unsigned i = 0; i < BXM_MAX_TASKS; i++) {
        struct task *task = shim.tasks[i];
        if (!task)
            continue;
        task_step(task);
        /* Not held for a slow client's sake: a later start mounts the same upper directory. */
        if (task->over && !task->name[0] && has_clients())
            bx_close(&shim.root);
        if (task->over && task->name[0] && control_connected())
            task_free(task);
    }
    for (unsigned i = 0; i < BXM_MAX_CLIENTS; i++)
        if (is_open(&shim.clients[i]))
            client_step(&shim.clients[i]);
    control_step();
    log_flush();
}

static int is_over(void)
{
    const struct task *container = shim.configured ? task_find("") : NULL;
    if (!shim.configured)
        return !control_connected() || shim.quitting;
    /* Configured, not started, and the daemon is gone: nobody will start it any more. */
    if (container && container->state == BXM_TASK_CREATED && !control_connected())
        return 1;
    if (!shim.quitting && container && !container->over)
        return 0;
    return !has_clients();
}

/* The program's text is a memfd's, mapped in pieces of 64 KiB around each page that was touched:
 * a start touches nearly all of it, the loop little. Lets go of the mappings (not of the pages, all
 * shims share them): 900 KiB of a lone shim's PSS become 400. */
void forget_text(void)
{
    const Elf64_Phdr *header = (const Elf64_Phdr *)getauxval(AT_PHDR);
    uintptr_t base = 0;
    for (unsigned long i = getauxval(AT_PHNUM); i--; header++) {
        if (header->p_type == PT_PHDR)
            base = (uintptr_t)header - header->p_vaddr;
        if (header->p_type != PT_LOAD || header->p_flags & PF_W)
            continue;
        uintptr_t first = (base + header->p_vaddr) & ~(uintptr_t)4095;
        madvise((void *)first, base + header->p_vaddr + header->p_memsz - first, MADV_DONTNEED);
    }
}

static void prepare(void)
{
    sigset_t mask;
    struct sigaction ignore = {.sa_handler = SIG_IGN};
    const int ignored[] = {SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGPIPE, SIGUSR1, SIGUSR2};
    for (size_t i = 0; i < sizeof ignored / sizeof *ignored; i++)
        sigaction(ignored[i], &ignore, NULL);
    sigemptyset(&mask);
    sigaddset(&mask, SIGCHLD);
    sigprocmask(SIG_SETMASK, &mask, NULL);
    prctl(PR_SET_NAME, "boxwood-shim");
    prctl(PR_SET_CHILD_SUBREAPER, 1);
    umask(0077);
    shim.signals = signalfd(-1, &mask, SFD_CLOEXEC | SFD_NONBLOCK);
    shim.epoll = epoll_create1(EPOLL_CLOEXEC);
    if (shim.signals < 0 || shim.epoll < 0)
        exit(1);
    watch(shim.signals, ON_SIGNAL, 0, 0, EPOLLIN, EPOLL_CTL_ADD);
}

static void loop(void)
{
    struct epoll_event events[EVENTS];
    while (!is_over()) {
        int64_t deadline = next_deadline();
        int64_t left = deadline ? deadline - now_ms() : -1;
        int timeout = !deadline ? -1 : left < 0 ? 0 : left > 60000 ? 60000 : (int)left;
        int count = epoll_wait(shim.epoll, events, EVENTS, timeout);
        for (int i = 0; i < count; i++)
            dispatch(&events[i]);
        turn();
    }
}

int main(int argc, char **argv)
{
    const char *slash = argc ? strrchr(argv[0], '/') : NULL;
    if (argc && !strcmp(slash ? slash + 1 : argv[0], "docker-init"))
        return init_main(argc, argv);
    if (fcntl(CONTROL_FD, F_SETFD, FD_CLOEXEC) < 0) {
        fputs("boxwood-shim: started by the engine, not by hand\n", stderr);
        return 2;
    }
    prepare();
    control_begin(CONTROL_FD);
    forget_text();
    loop();
    control_end();
    return 0;
}
