/* Judges programs under the sanitizers: on stdin u32 length, bytes, and again; on stdout one
 * character for each, 1: accepted. */

#include <stdio.h>
#include <stdlib.h>

#include "launch.h"

int main(void)
{
    uint32_t size;
    while (fread(&size, sizeof size, 1, stdin) == 1) {
        /* Exactly as large as it is, so that one byte too far is found. */
        unsigned char *program = malloc(size ? size : 1);
        if (!program || fread(program, 1, size, stdin) != size)
            return 2;
        putchar(bx_program_check(program, size, BXP_MAX_SLOTS) ? '0' : '1');
        free(program);
    }
    return 0;
}
