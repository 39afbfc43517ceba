/* The launch program's interpreter: what design.md section 4 calls the launch.
 *
 * bx_launch_begin() makes the process and returns at once; what becomes of it comes over the
 * report socket, which the caller polls: a failed operation (BX_FAILED), the other side of a
 * terminal (BX_CONSOLE, with the descriptor), and its end when the payload runs. The child is a
 * copy of the caller (no shared memory), not dumpable until it executes the payload.
 */
#pragma once

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "launch_ops.h"

enum { BX_FAILED = 1, BX_CONSOLE = 2 };

/* Where the child is; shared with it, for who waits to name what hangs. Code 0: not begun. */
struct bx_at {
    volatile uint32_t code;
    char object[240]; /* as in bx_report */
};

/* What a failed operation says of itself; index and code 0 before the first was reached. */
struct bx_report {
    uint32_t kind;
    uint32_t index;
    uint32_t code;
    int32_t error;        /* positive errno */
    char object[240];     /* NUL-terminated: a path, a limit, a variable */
};

struct bx_arg {
    uint32_t kind;
    uint32_t length;
    const unsigned char *data; /* in the program; a string ends with a NUL there */
    uint64_t number;
};

struct bx_op {
    uint16_t code;
    uint16_t count;
    struct bx_arg args[BXP_MAX_ARGS];
};

struct bx_cursor {
    const unsigned char *at, *end;
    uint32_t left;  /* operations still to come */
    uint32_t index; /* of the last one read */
};

/* One row of a table that wire.py generated. */
struct bx_row {
    const char *name;
    uint8_t count, parent;
    uint8_t kinds[BXP_MAX_ARGS];
};
#define BX_ROW(code, name, count, parent, ...) [code] = {name, count, parent, {__VA_ARGS__}},

/* decode.c: strict reading. The buffer must be aligned to 8 and outlive the cursor. */
int bx_program_open(struct bx_cursor *cursor, const void *program, size_t size);
int bx_program_next(struct bx_cursor *cursor, struct bx_op *op); /* 1, 0 at the end, -EPROTO */
int bx_program_check(const void *program, size_t size, unsigned slots);
int bx_item(struct bx_cursor *cursor, const struct bx_row *rows, unsigned limit, struct bx_op *op);
int bx_list_count(const struct bx_arg *list);
int bx_list_fill(const struct bx_arg *list, const char **out, size_t room);
const char *bx_op_name(unsigned code);
int bx_op_is_parents(unsigned code);

struct bx_launch {
    const void *program;
    size_t size;
    const int *slots;
    unsigned count;
    int stdio[3]; /* -1: the container's /dev/null */
    int death; /* signal when the caller dies, 0: none (until a parent_death operation) */
    unsigned short rows, columns; /* of the terminal, 0: as the program says */
    struct bx_at *at; /* shared memory (MAP_SHARED) that the child keeps up to date, or NULL */
};

struct bx_started {
    pid_t pid;
    int pidfd;
    int report;
};

int bx_launch_begin(const struct bx_launch *launch, struct bx_started *out,
                    struct bx_report *failure);
/* 1: a message (with *fd the terminal's, or -1), 0: the payload runs, -EAGAIN: not yet. */
int bx_launch_read(int report, struct bx_report *out, int *fd);
