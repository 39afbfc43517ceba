/* The loop over the entries of an archive. */
#include "internal.h"

#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

static int count_entry(const struct bw_tar_options *options, struct bw_reader *reader) {
    struct bw_tar_result *result = reader->result;
    if (++result->entries > options->max_entries)
        return bw_fail(result, BW_TAR_BUDGET, 0, "more entries than allowed", reader->entry.name);
    return 0;
}

static int run(const struct bw_tar_options *options, struct bw_reader *reader,
               struct bw_place *place) {
    int there;
    while ((there = bw_reader_next(reader)) > 0) {
        if (count_entry(options, reader) < 0)
            return -1;
        if (place != NULL && bw_place_entry(place) < 0)
            return -1;
    }
    if (there < 0 || (place != NULL && bw_place_finish(place) < 0))
        return -1;
    /* Who feeds the stream computes a digest of all of it. */
    return bw_reader_drain(reader);
}

static int with_reader(const struct bw_tar_options *options, struct bw_tar_result *result,
                       bool scan) {
    memset(result, 0, sizeof *result);
    /* Names of 4 KiB and tables: too large for the stack of a thread. */
    struct bw_reader *reader = calloc(1, sizeof *reader);
    struct bw_place *place = calloc(1, sizeof *place);
    bool records = !scan && options->record_fd >= 0;
    struct bw_record *record = records ? bw_record_new(options->record_fd) : NULL;
    int status = -1;
    if (reader == NULL || place == NULL || (records && record == NULL)) {
        bw_fail(result, BW_TAR_SYSTEM, 12 /* ENOMEM */, "allocate memory", "");
    } else if (bw_reader_open(reader, options, result) == 0) {
        reader->record = record;
        place->options = options;
        place->result = result;
        place->reader = reader;
        if (scan)
            status = run(options, reader, NULL);
        else if (bw_place_open(place) == 0)
            status = run(options, reader, place);
        if (!scan)
            bw_place_close(place);
    }
    if (reader != NULL)
        bw_reader_close(reader);
    if (status == 0 && record != NULL) {
        result->recorded = bw_record_finish(record, result->stream_bytes);
        result->kept = bw_record_kept(record);
    }
    bw_record_free(record);
    free(reader);
    free(place);
    return status;
}

int bw_tar_extract(const struct bw_tar_options *options, struct bw_tar_result *result) {
    return with_reader(options, result, false);
}

int bw_tar_scan(const struct bw_tar_options *options, struct bw_tar_result *result) {
    return with_reader(options, result, true);
}
