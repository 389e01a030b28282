/* SPDX-License-Identifier: GPL-2.0-or-later */

/* Runs a fuzzer over the files of some directories, each once, without libFuzzer. */

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

static int replay_all(const char *directory) {
        struct dirent **entries;
        int n = scandir(directory, &entries, NULL, alphasort), n_files = 0;

        require(n >= 0);
        for (int i = 0; i < n; i++) {
                char path[PATH_MAX];

                if (entries[i]->d_type != DT_DIR) {
                        require(snprintf(path, sizeof(path), "%s/%s", directory,
                                         entries[i]->d_name) < (int) sizeof(path));
                        replay(path);
                        n_files++;
                }
                free(entries[i]);
        }
        free(entries);
        return n_files;
}

int main(int argc, char **argv) {
        require(argc > 1);
        for (int i = 1; i < argc; i++) {
                int n_files = replay_all(argv[i]);

                printf("%s: %d files\n", argv[i], n_files);
                require(n_files > 0);
        }
        return EXIT_SUCCESS;
}
