/* boxwood-helper: see helper.h. Started with its listening control socket as descriptor 3 and the
 * name of its build as first argument. It ends when it holds nothing and nobody is connected. */

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/random.h>
#include <sys/resource.h>
#include <time.h>

#include "helper.h"

enum { LISTENER_FD = 3, EVENTS = 64, FIRST_WAIT = 10000 /* ms for the first daemon */ };

/* Milliseconds. A server is asked for as long as Docker asks it; a TCP connection between two
 * questions lives as long as dig and glibc could want; a UDP flow as long as Docker's proxy
 * keeps one. Without a free descriptor nothing is accepted for a moment. */
#ifndef REFRESH_TURN
#define REFRESH_TURN 5000
#endif
static const int64_t spans[LANES] = {4000, 10000, 90000, 100, REFRESH_TURN};
static struct due lanes[LANES];
static int epoll = -1;
static struct due pause_due;
static void **garbage;
static size_t garbage_count, garbage_room;

uint64_t counters[BXH_MAX_COUNTERS + BXH_BUCKETS];
int leaving;

int64_t now_us(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec * 1000000LL + now.tv_nsec / 1000;
}

int64_t now_ms(void)
{
    return now_us() / 1000;
}

void due_clear(struct due *due)
{
    if (!due->after)
        return;
    due->before->after = due->after;
    due->after->before = due->before;
    due->before = due->after = NULL;
}

void due_set(struct due *due, int lane, void (*over)(struct due *due))
{
    struct due *head = &lanes[lane];
    due_clear(due);
    due->at = now_ms() + spans[lane];
    due->over = over;
    due->before = head->before;
    due->after = head;
    head->before->after = due;
    head->before = due;
}

/* Milliseconds until the next deadline, -1: there is none. */
static int next_due(void)
{
    int64_t next = INT64_MAX;
    for (int i = 0; i < LANES; i++)
        if (lanes[i].after != &lanes[i] && lanes[i].after->at < next)
            next = lanes[i].after->at;
    if (next == INT64_MAX)
        return -1;
    next -= now_ms();
    return next < 0 ? 0 : (int)next;
}

static void run_due(void)
{
    int64_t now = now_ms();
    for (int i = 0; i < LANES; i++)
        while (lanes[i].after != &lanes[i] && lanes[i].after->at <= now) {
            struct due *due = lanes[i].after;
            due_clear(due);
            due->over(due);
        }
}

int watch(struct source *source, int fd, uint32_t events,
          void (*event)(struct source *source, uint32_t events))
{
    struct epoll_event what = {.events = events, .data.ptr = source};
    source->fd = fd;
    source->event = event;
    return bx_sys(epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &what));
}

int watch_again(struct source *source, uint32_t events)
{
    struct epoll_event what = {.events = events, .data.ptr = source};
    return bx_sys(epoll_ctl(epoll, EPOLL_CTL_MOD, source->fd, &what));
}

void unwatch(struct source *source)
{
    if (source->event && source->fd >= 0)
        epoll_ctl(epoll, EPOLL_CTL_DEL, source->fd, NULL);
    source->event = NULL;
}

/* Others may have the same open file (a daemon that sent it): closing alone would leave it. */
void close_source(struct source *source)
{
    unwatch(source);
    bx_close(&source->fd);
}

void free_later(void *memory)
{
    if (garbage_count == garbage_room) {
        size_t room = garbage_room ? 2 * garbage_room : 64;
        void **more = realloc(garbage, room * sizeof *more);
        if (!more)
            return; /* lost, not freed too early */
        garbage = more;
        garbage_room = room;
    }
    garbage[garbage_count++] = memory;
}

static void free_garbage(void)
{
    while (garbage_count)
        free(garbage[--garbage_count]);
    if (garbage_room > 4096) {
        free(garbage);
        garbage = NULL;
        garbage_room = 0;
    }
}

uint32_t random_u32(void)
{
    static uint32_t pool[64];
    static unsigned left;
    if (!left) {
        if (getrandom(pool, sizeof pool, 0) != sizeof pool)
            abort(); /* numbers that can be guessed are worse than none */
        left = sizeof pool / sizeof *pool;
    }
    return pool[--left];
}

int loop_paused(void)
{
    return pause_due.after != NULL;
}

static void pause_over(BX_UNUSED struct due *due)
{
    control_resume();
    for (struct port *port = ports; port; port = port->next)
        port_resume(port);
    for (struct sandbox *sandbox = sandboxes; sandbox; sandbox = sandbox->next)
        if (sandbox->listener.event)
            watch_again(&sandbox->listener, EPOLLIN);
}

/* Who waits is reported without end: not to be asked for before there may be room. */
void loop_exhausted(void)
{
    if (!loop_paused())
        due_set(&pause_due, LANE_PAUSE, pause_over);
}

static int is_over(int64_t patience)
{
    if (leaving)
        return !all_in_flight && !all_streams && !all_pairs && !all_flows;
    return !control_connected() && !sandboxes && !ports && !all_pairs && now_ms() > patience;
}

static void prepare(void)
{
    struct sigaction ignore = {.sa_handler = SIG_IGN};
    const int ignored[] = {SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGPIPE, SIGUSR1, SIGUSR2};
    struct rlimit files;
    for (size_t i = 0; i < sizeof ignored / sizeof *ignored; i++)
        sigaction(ignored[i], &ignore, NULL);
    prctl(PR_SET_NAME, "boxwood-helper");
    if (!getrlimit(RLIMIT_NOFILE, &files)) {
        files.rlim_cur = files.rlim_max;
        setrlimit(RLIMIT_NOFILE, &files);
    }
    for (int i = 0; i < LANES; i++)
        lanes[i].before = lanes[i].after = &lanes[i];
    epoll = epoll_create1(EPOLL_CLOEXEC);
}

static void loop(void)
{
    struct epoll_event events[EVENTS];
    int64_t patience = now_ms() + FIRST_WAIT;
    while (!is_over(patience)) {
        int wait = next_due();
        if (!control_connected() && !sandboxes && !ports && (wait < 0 || wait > 1000))
            wait = 1000;
        if (control_connected())
            patience = 0;
        int count = epoll_wait(epoll, events, EVENTS, wait);
        for (int i = 0; i < count; i++) {
            struct source *source = events[i].data.ptr;
            if (source->event)
                source->event(source, events[i].events);
        }
        run_due();
        free_garbage();
    }
}

int main(int argc, char **argv)
{
    if (argc < 2 || fcntl(LISTENER_FD, F_SETFD, FD_CLOEXEC) < 0) {
        fputs("boxwood-helper: started by the engine, not by hand\n", stderr);
        return 2;
    }
    prepare();
    control_begin(LISTENER_FD, argv[1]);
    if (epoll < 0 || confine() < 0)
        return 1;
    loop();
    return 0;
}
