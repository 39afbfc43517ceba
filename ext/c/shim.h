/* The shim: supervises one container's process and its execs, for as long as they live.
 *
 * One thread, one epoll loop. Everything that waits is non-blocking or has a deadline; the daemon
 * may come and go. What each file owns:
 *   shim.c          the loop, signals, deadlines, the end
 *   shim_control.c  the daemon's connection: messages in and out (protocol.py)
 *   shim_task.c     a task's life: pipes, launch, exit status
 *   shim_stream.c   output to log and clients, input from clients
 *   shim_client.c   one client's connection: its queue, spill and end
 *   shim_log.c      the json-file log and its rotation
 */
#pragma once

#include <stdint.h>
#include <sys/types.h>
#include <time.h>

#include "launch.h"
#include "shim_messages.h"
#include "util.h"

enum {
    CHUNK = 32 << 10,           /* bytes of one read; half of a pipe */
    QUEUE_LIMIT = 256 << 10,    /* bytes of a client's queue in memory, then the file */
    QUEUE_RESUME = 64 << 10,    /* a paused pipe is read again below this */
    NAME_LIMIT = 80,            /* bytes of a task's name with its NUL */
    KEYS_LIMIT = 16,
};
/* Bytes of a client's queue on disk: a client that is behind by more is cut off. */
#define SPILL_LIMIT ((off_t)1 << 30)

/* Milliseconds. An exec whose main process has ended is over when its pipes are silent: a process
 * that it left behind may hold them for ever (GHSA class of containerd's exec leaks). 250 ms is
 * far more than the scheduler needs to let a pipeline's last writer finish. The container's own
 * pipes end when its PID namespace dies; with --pid host they may not. */
enum {
    EXEC_DRAIN = 250,
    TASK_DRAIN = 2000,
    ACKNOWLEDGE = 2000,
    LINGER = 10000,        /* after our end of a client's connection is shut */
    SLOW_CLIENT = 300000,  /* for what is queued at the end */
    LISTEN_PAUSE = 100,    /* before a daemon that found no descriptor free is asked in again */
};

struct client {
    int fd;
    uint32_t generation;   /* 0: this place was never used; untouched memory costs nothing */
    struct task *task;
    unsigned flags;
    unsigned watched;      /* epoll events it is registered for */
    int half;              /* its writing side is done */
    int closing;           /* shut when the queue is out */
    int shut;              /* shut: waiting for it to go */
    int64_t deadline;
    unsigned char keys[KEYS_LIMIT];
    unsigned keys_count, keys_matched;
    char *queue;           /* queue[start, start + length), room bytes allocated */
    size_t start, length, room;
    int hold;              /* nothing is sent before this can be read; -1: not held */
    int spill;             /* unlinked file, -1: none */
    off_t spill_read, spill_write;
};

struct task {
    char name[NAME_LIMIT]; /* "": the container */
    uint32_t generation;
    int state;             /* BXM_TASK_* */
    int tty, open_stdin, stdin_once;
    pid_t pid;
    int pidfd, report;
    struct bx_at *at;      /* how far the launch is, NULL: none under way */
    int childs[3];         /* the payload's ends of the pipes, until it is started */
    int out[2], in;        /* ours; of a terminal out[0] and in are its other side */
    int out_paused, in_done;
    uint64_t request;      /* of the start that is under way */
    unsigned short rows, columns;
    int code, signal;
    int64_t finished;      /* ns since the epoch */
    int64_t drain, acknowledge; /* deadlines, ms, monotonic */
    int told, over;        /* the daemon was told; its clients were let go */
    char *pending;         /* input the payload has not taken yet */
    size_t pending_start, pending_length;
};

struct shim {
    int epoll, signals;
    int configured, quitting;
    char id[NAME_LIMIT];
    int directory;         /* of the exit file, O_DIRECTORY */
    int root;              /* the container's, held to its end or ours: see keep_root */
    char exit_path[1024], exit_name[256];
    int durable;
    int has_log;
    struct task *tasks[BXM_MAX_TASKS];
    struct client clients[BXM_MAX_CLIENTS];
    uint32_t generation;
    int64_t listen_again;  /* deadline, ms, 0: we listen */
};

extern struct shim shim;

static inline int is_open(const struct client *client)
{
    return client->generation && client->fd >= 0;
}

/* What an epoll event belongs to: kind, generation, place. */
enum { ON_CONTROL, ON_LISTEN, ON_SIGNAL, ON_REPORT, ON_OUT, ON_ERR, ON_IN, ON_CLIENT, ON_HOLD };
int watch(int fd, int kind, unsigned place, uint32_t generation, unsigned events, int operation);
void watched_close(int *fd);
void forget_text(void);
int64_t now_ms(void);

/* shim_control.c */
void control_begin(int fd);
void control_listen(const char *directory);
void control_end(void); /* removes the socket */
void control_accept(void);
void control_step(void); /* what is due */
void control_event(unsigned events);
int control_connected(void);
void control_reply(uint64_t request, int error, const char *operation, const char *object,
                   uint64_t value);
void control_exited(struct task *task);
void control_detached(const struct task *task);

/* shim_task.c */
struct task *task_new(const char *name, int tty, int open_stdin, int stdin_once);
struct task *task_find(const char *name);
unsigned task_place(const struct task *task);
void task_start(struct task *task, uint64_t request, int *fds, unsigned count);
void task_report(struct task *task);
void task_reaped(pid_t pid, int code, int signal);
void task_step(struct task *task);
int task_resize(struct task *task);
int task_signal(struct task *task, int number); /* SIGKILL also ends a launch that hangs */
void task_free(struct task *task);
void task_let_go(struct task *task);
void task_drop_clients(struct task *task);

/* shim_stream.c */
void stream_output(struct task *task, int stream);
int stream_drain(struct task *task);
void stream_pace(struct task *task);
void stream_writable(struct task *task);
void stream_from_client(struct client *client);
void stream_preread(struct client *client, const char *data, size_t size);
void stream_close_out(struct task *task, int stream);
void stream_close_in(struct task *task);
void stream_resume_clients(struct task *task);

/* shim_client.c */
struct client *client_new(int fd, struct task *task, unsigned flags);
void client_put(struct client *client, int stream, const char *data, size_t size);
void client_event(struct client *client, unsigned events);
void client_watch(struct client *client);
void client_finish(struct client *client);
int client_hold(struct client *client, int fd); /* takes the descriptor */
void client_release(struct client *client);
void client_drop(struct client *client);
void client_step(struct client *client);
size_t client_queued(const struct client *client);

/* shim_log.c */
int log_open(const char *path, const struct bx_arg *attributes, uint64_t max_size,
             uint64_t max_files);
void log_write(int stream, const char *data, size_t size);
void log_flush(void);
void log_end(void);
size_t log_begun(int stream, const char **text); /* of the line that is not written yet */

/* init.c */
int init_main(int argc, char **argv);
