/* The life of a task: its pipes, its launch, its end. */

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <termios.h>

#include "shim.h"

unsigned task_place(const struct task *task)
{
    unsigned place = 0;
    while (place < BXM_MAX_TASKS - 1 && shim.tasks[place] != task)
        place++;
    return place;
}

struct task *task_find(const char *name)
{
    for (unsigned i = 0; i < BXM_MAX_TASKS; i++)
        if (shim.tasks[i] && !strcmp(shim.tasks[i]->name, name))
            return shim.tasks[i];
    return NULL;
}

static int watch_ours(struct task *task, int fd, int kind, unsigned events)
{
    return watch(fd, kind, task_place(task), task->generation, events, EPOLL_CTL_ADD);
}

/* One pipe; `ours` is the non-blocking end. */
static int make_pipe(int *ours, int *childs, int we_read)
{
    int ends[2];
    if (pipe2(ends, O_CLOEXEC) < 0)
        return -errno;
    *ours = ends[we_read ? 0 : 1];
    *childs = ends[we_read ? 1 : 0];
    return bx_sys(fcntl(*ours, F_SETFL, O_NONBLOCK));
}

static int make_pipes(struct task *task)
{
    for (int stream = 0; stream < 2; stream++)
        if (make_pipe(&task->out[stream], &task->childs[1 + stream], 1) < 0 ||
            watch_ours(task, task->out[stream], ON_OUT + stream, EPOLLIN) < 0)
            return -1;
    if (!task->open_stdin)
        return 0;
    if (make_pipe(&task->in, &task->childs[0], 0) < 0)
        return -1;
    return watch_ours(task, task->in, ON_IN, 0);
}

struct task *task_new(const char *name, int tty, int open_stdin, int stdin_once)
{
    unsigned place = 0;
    while (place < BXM_MAX_TASKS && shim.tasks[place])
        place++;
    struct task *task = place < BXM_MAX_TASKS ? calloc(1, sizeof *task) : NULL;
    if (!task)
        return NULL;
    shim.tasks[place] = task;
    snprintf(task->name, sizeof task->name, "%s", name);
    task->generation = ++shim.generation;
    task->tty = tty;
    task->open_stdin = open_stdin;
    task->stdin_once = stdin_once;
    task->pidfd = task->report = task->in = -1;
    task->out[0] = task->out[1] = -1;
    task->childs[0] = task->childs[1] = task->childs[2] = -1;
    if (!tty && make_pipes(task) < 0) {
        task_free(task);
        return NULL;
    }
    return task;
}

static void close_childs(struct task *task)
{
    for (int i = 0; i < 3; i++)
        bx_close(&task->childs[i]);
}

static void forget_at(struct task *task)
{
    if (task->at)
        munmap(task->at, sizeof *task->at);
    task->at = NULL;
}

void task_free(struct task *task)
{
    for (unsigned i = 0; i < BXM_MAX_CLIENTS; i++)
        if (shim.clients[i].task == task)
            shim.clients[i].task = NULL;
    close_childs(task);
    forget_at(task);
    watched_close(&task->out[0]);
    watched_close(&task->out[1]);
    watched_close(&task->in);
    watched_close(&task->report);
    bx_close(&task->pidfd);
    free(task->pending);
    shim.tasks[task_place(task)] = NULL;
    free(task);
}

/* Its clients get what is queued, then the end. */
void task_let_go(struct task *task)
{
    for (unsigned i = 0; i < BXM_MAX_CLIENTS; i++)
        if (is_open(&shim.clients[i]) && shim.clients[i].task == task)
            client_finish(&shim.clients[i]);
}

/* Their connections are still the daemon's too, which has more to say on them. */
void task_drop_clients(struct task *task)
{
    for (unsigned i = 0; i < BXM_MAX_CLIENTS; i++)
        if (is_open(&shim.clients[i]) && shim.clients[i].task == task)
            client_drop(&shim.clients[i]);
}

static void refuse(uint64_t request, const struct bx_report *report)
{
    control_reply(request, report->error, bx_op_name(report->code), report->object, 0);
}

static int launch(struct task *task, int program, const int *slots, unsigned count,
                  struct bx_report *failure)
{
    struct stat st;
    struct bx_started started;
    memset(failure, 0, sizeof *failure);
    if (fstat(program, &st) < 0)
        return failure->error = errno, -1;
    size_t size = (size_t)st.st_size;
    if (!size || size > BXP_MAX_SIZE)
        return failure->error = EPROTO, -1;
    void *copy = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (copy == MAP_FAILED)
        return failure->error = errno, -1;
    int status = pread(program, copy, size, 0) == (ssize_t)size ? 0 : -EPROTO;
    void *at = mmap(NULL, sizeof *task->at, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1,
                    0);
    task->at = at == MAP_FAILED ? NULL : at;
    struct bx_launch what = {.program = copy,
                             .size = size,
                             .slots = slots,
                             .count = count,
                             .death = SIGKILL,
                             .rows = task->rows,
                             .columns = task->columns,
                             .at = task->at};
    memcpy(what.stdio, task->childs, sizeof what.stdio);
    if (status < 0)
        failure->error = -status;
    else
        status = bx_launch_begin(&what, &started, failure);
    munmap(copy, size);
    if (status < 0) {
        forget_at(task);
        return status;
    }
    task->pid = started.pid;
    task->pidfd = started.pidfd;
    task->report = started.report;
    return 0;
}

/* Whoever lets go of an overlay last pays for its unmount, which writes its whole file system out:
 * hundreds of milliseconds where somebody else has written much. Not the container, whose end would
 * wait for it, nor the daemon, but we, when there is nothing left to be told. Only a container's
 * program has its root in the first slot; holding anything else would do no harm. */
static void keep_root(const struct task *task, int fd)
{
    if (!task->name[0] && shim.root < 0)
        shim.root = fcntl(fd, F_DUPFD_CLOEXEC, 3);
}

/* The descriptors are the caller's to close. */
void task_start(struct task *task, uint64_t request, int *fds, unsigned count)
{
    struct bx_report failure;
    if (launch(task, fds[0], fds + 1, count - 1, &failure) < 0) {
        refuse(request, &failure);
        return;
    }
    if (count > 1)
        keep_root(task, fds[1]);
    close_childs(task);
    task->request = request;
    task->state = BXM_TASK_STARTING;
    watch_ours(task, task->report, ON_REPORT, EPOLLIN);
}

int task_resize(struct task *task)
{
    struct winsize size = {.ws_row = task->rows, .ws_col = task->columns};
    if (task->out[0] < 0)
        return 0; /* comes with the terminal */
    return ioctl(task->out[0], TIOCSWINSZ, &size) < 0 ? -errno : 0;
}

static void take_terminal(struct task *task, int fd)
{
    if (!task->tty || task->out[0] >= 0 || fd < 0) {
        bx_close(&fd);
        return;
    }
    fcntl(fd, F_SETFL, O_RDWR | O_NONBLOCK);
    task->out[0] = fd;
    watch_ours(task, fd, ON_OUT, EPOLLIN);
    if (task->rows || task->columns)
        task_resize(task);
    if (!task->open_stdin)
        return;
    task->in = fcntl(fd, F_DUPFD_CLOEXEC, 3);
    watch_ours(task, task->in, ON_IN, 0);
    stream_writable(task);
}

static void launched(struct task *task)
{
    watched_close(&task->report);
    forget_at(task);
    task->state = BXM_TASK_RUNNING;
    control_reply(task->request, 0, "", "", (uint64_t)task->pid);
    stream_pace(task);
    if (!task->name[0])
        forget_text();
}

/* It never ran: whoever asked is told, and says what its clients are to read (`finish`). */
static void failed(struct task *task, const struct bx_report *report)
{
    watched_close(&task->report);
    forget_at(task);
    bx_close(&task->pidfd);
    task->pid = 0; /* reaped like any stray child */
    task->state = BXM_TASK_CREATED;
    refuse(task->request, report);
}

/* Killed before it ran: what it was at is what it hung in. One that waits for a file system in the
 * kernel does not even die, so the answer does not wait for its end. */
static void interrupted(struct task *task)
{
    struct bx_report report = {.kind = BX_FAILED, .code = task->at->code, .error = EINTR};
    memcpy(report.object, task->at->object, sizeof report.object);
    report.object[sizeof report.object - 1] = 0;
    failed(task, &report);
}

int task_signal(struct task *task, int number)
{
    if (task->pidfd < 0)
        return -ESRCH;
    int status = bx_sys(syscall(SYS_pidfd_send_signal, task->pidfd, number, NULL, 0));
    if (number == SIGKILL && task->state == BXM_TASK_STARTING && task->at)
        interrupted(task);
    return status;
}

void task_report(struct task *task)
{
    struct bx_report report;
    int fd = -1, status = 1;
    while (task->report >= 0 && (status = bx_launch_read(task->report, &report, &fd)) > 0) {
        if (report.kind == BX_CONSOLE)
            take_terminal(task, fd);
        else
            failed(task, &report);
    }
    if (task->report < 0 || status == -EAGAIN || status == -EINTR)
        return;
    if (task->at && task->at->code != BXP_OP_EXEC)
        interrupted(task);
    else
        launched(task);
}

/* tmp, fdatasync, rename: the status is on disk before anybody is told. */
static void record_exit(const struct task *task)
{
    char text[80];
    int length = snprintf(text, sizeof text, "%d %d %lld\n", task->code, task->signal,
                          (long long)task->finished);
    BX_FD fd = openat(shim.directory, ".exit.new", O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    if (fd < 0)
        return; /* a full disk: the daemon is told all the same */
    if (write(fd, text, (size_t)length) != length || (shim.durable && fdatasync(fd) < 0)) {
        unlinkat(shim.directory, ".exit.new", 0);
        return;
    }
    renameat(shim.directory, ".exit.new", shim.directory, shim.exit_name);
}

/* The container is over: its execs go with it, also those of a shared PID namespace. */
static void end_execs(void)
{
    for (unsigned i = 0; i < BXM_MAX_TASKS; i++) {
        struct task *task = shim.tasks[i];
        if (task && task->name[0] && task->pidfd >= 0 && task->state != BXM_TASK_EXITED)
            syscall(SYS_pidfd_send_signal, task->pidfd, SIGKILL, NULL, 0);
    }
}

void task_reaped(pid_t pid, int code, int signal)
{
    struct task *task = NULL;
    struct timespec now;
    for (unsigned i = 0; i < BXM_MAX_TASKS && !task; i++)
        if (shim.tasks[i] && shim.tasks[i]->pid == pid)
            task = shim.tasks[i];
    if (!task)
        return;
    if (task->state == BXM_TASK_STARTING)
        task_report(task); /* its last words come before its end */
    if (task->pid != pid)
        return;
    clock_gettime(CLOCK_REALTIME, &now);
    task->finished = now.tv_sec * 1000000000LL + now.tv_nsec;
    task->code = signal ? 128 + signal : code;
    task->signal = signal;
    task->state = BXM_TASK_EXITED;
    bx_close(&task->pidfd);
    task->drain = now_ms() + (task->name[0] ? EXEC_DRAIN : TASK_DRAIN);
    stream_close_in(task);
    stream_pace(task);
    if (!task->name[0]) {
        record_exit(task);
        end_execs();
    }
}

static void tell(struct task *task)
{
    watched_close(&task->out[0]);
    watched_close(&task->out[1]);
    if (!task->name[0])
        log_end();
    task->told = 1;
    task->acknowledge = now_ms() + (control_connected() ? ACKNOWLEDGE : 0);
    if (control_connected())
        control_exited(task);
}

/* What is due: called once per turn for a task that has ended. */
void task_step(struct task *task)
{
    if (task->state != BXM_TASK_EXITED)
        return;
    if (!task->told && (stream_drain(task) || now_ms() >= task->drain))
        tell(task);
    if (task->told && !task->over && now_ms() >= task->acknowledge) {
        task->over = 1;
        task_let_go(task);
    }
}
