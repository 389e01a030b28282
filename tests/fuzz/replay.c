/* SPDX-License-Identifier: GPL-2.0-or-later */

/* Runs a fuzzer over the files of a directory, each once, without libFuzzer. */

#include "fuzz.h"

#include <dirent.h>
#include <limits.h>
#include <postern/cleanup.h>

static void replay(const char *path) {
        _cleanup_fclose_ FILE *file = fopen(path, "re");
        _cleanup_free_ uint8_t *data = NULL;
        size_t size = 0, n = 0;

        require(file);
        do {
                size += n;
                data = realloc(data, size + 4096);
                require(data);
                n = fread(data + size, 1, 4096, file);
        } while (n > 0);
        require(feof(file));
        /* no larger than it is, so that reading past its end is seen */
        data = realloc(data, size ? size : 1);
        require(data);

        /* the last line of a log names the file that failed */
        fprintf(stderr, "%s\n", path);
        (void) LLVMFuzzerTestOneInput(data, size);
}

int main(int argc, char **argv) {
        struct dirent **entries;
        int n, n_files = 0;

        require(argc == 2);
        n = scandir(argv[1], &entries, NULL, alphasort);
        require(n >= 0);
        for (int i = 0; i < n; i++) {
                char path[PATH_MAX];

                if (entries[i]->d_name[0] != '.') {
                        require(snprintf(path, sizeof(path), "%s/%s", argv[1], entries[i]->d_name) <
                                (int) sizeof(path));
                        replay(path);
                        n_files++;
                }
                free(entries[i]);
        }
        free(entries);
        printf("%d files\n", n_files);
        return n_files > 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
