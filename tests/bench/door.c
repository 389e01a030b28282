/* SPDX-License-Identifier: GPL-2.0-or-later */

/*
 * door: opens and shuts a window's door N times in the network namespace it runs in, and prints how
 * long each part took: from the call to the kernel's last acknowledgement of the transaction that
 * opens or shuts, that transaction alone, and the whole call, read back and tidied up.
 *
 *     bench-door N|- RUNTIME_DIR [NFT]
 *
 * With N "-" it waits for a line on standard input before each round, and ends with that: whoever
 * sends it can do something else in between, to compare.
 *
 * With NFT, the path of nft, each round also lets NFT add and delete the one rule that would do
 * the same by hand, so that what the machine does meanwhile falls on both alike.
 *
 * One line per round, nanoseconds, in this order:
 *
 *     open: acknowledged, transaction, call; shut: acknowledged, transaction, call; NFT: add,
 * delete
 */

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <postern/cleanup.h>
#include <postern/door.h>
#include <postern/netlink.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>

enum { OUTPUT_MAX = 64 * 1024 };

extern char **environ;

/* The first transaction since it was set to zero is the one that opens or shuts. */
static struct {
        uint64_t begun;
        uint64_t acknowledged;
} transaction;

static uint64_t now_nsec(clockid_t clock) {
        struct timespec now;

        clock_gettime(clock, &now);
        return (uint64_t) now.tv_sec * 1000000000 + now.tv_nsec;
}

/* The linker puts this between the door and batch_commit(). */
int __wrap_batch_commit(Batch *batch, Netlink *netlink, BatchFailure *ret_failure);
int __real_batch_commit(Batch *batch, Netlink *netlink, BatchFailure *ret_failure);

int __wrap_batch_commit(Batch *batch, Netlink *netlink, BatchFailure *ret_failure) {
        uint64_t begun = now_nsec(CLOCK_MONOTONIC);
        int r;

        r = __real_batch_commit(batch, netlink, ret_failure);
        if (transaction.begun == 0) {
                transaction.begun = begun;
                transaction.acknowledged = now_nsec(CLOCK_MONOTONIC);
        }
        /* Nobody else changes the ruleset here, so a second try would be a fault of the bench. */
        if (r != BATCH_COMMITTED)
                fprintf(stderr, "a transaction was not committed: %d\n", r);
        return r;
}

static void print_call(uint64_t begun, uint64_t ended) {
        printf("%" PRIu64 " %" PRIu64 " %" PRIu64 " ", transaction.acknowledged - begun,
               transaction.acknowledged - transaction.begun, ended - begun);
        memset(&transaction, 0, sizeof(transaction));
}

/* Runs a program to its end. output: OUTPUT_MAX bytes for what it prints, or NULL. */
static int run(const char *const *arguments, char *output, uint64_t *ret_nsec) {
        posix_spawn_file_actions_t actions;
        uint64_t begun;
        int pipe_fds[2] = {-1, -1}, status, r;
        size_t used = 0;
        ssize_t n;
        pid_t pid;

        if (output && pipe2(pipe_fds, O_CLOEXEC) < 0)
                return -errno;
        posix_spawn_file_actions_init(&actions);
        if (output)
                posix_spawn_file_actions_adddup2(&actions, pipe_fds[1], STDOUT_FILENO);
        begun = now_nsec(CLOCK_MONOTONIC);
        r = posix_spawn(&pid, arguments[0], &actions, NULL, (char *const *) arguments, environ);
        posix_spawn_file_actions_destroy(&actions);
        if (output) {
                close(pipe_fds[1]);
                while (r == 0 && used < OUTPUT_MAX - 1 &&
                       (n = read(pipe_fds[0], output + used, OUTPUT_MAX - 1 - used)) > 0)
                        used += n;
                output[used] = '\0';
                close(pipe_fds[0]);
        }
        if (r != 0)
                return -r;
        if (waitpid(pid, &status, 0) < 0)
                return -errno;
        if (ret_nsec)
                *ret_nsec = now_nsec(CLOCK_MONOTONIC) - begun;
        return status == 0 ? 0 : -ECHILD;
}

/* The rule's handle is looked up between the two: that is not part of what is compared. */
static int bench_nft(const char *nft, char *output) {
        const char *const add[] = {nft,   "add",   "rule", "inet",   "filter", "input",
                                   "tcp", "dport", "80",   "accept", NULL};
        const char *const list[] = {nft, "-a", "list", "chain", "inet", "filter", "input", NULL};
        const char *delete[] = {nft,     "delete", "rule", "inet", "filter",
                                "input", "handle", NULL,   NULL};
        char *handle, *rule;
        uint64_t added, deleted;
        int r;

        r = run(add, NULL, &added);
        if (r == 0)
                r = run(list, output, NULL);
        if (r < 0)
                return r;
        rule = strstr(output, "\ttcp dport 80 accept");
        handle = rule ? strstr(rule, "# handle ") : NULL;
        if (!handle)
                return -ENOENT;
        delete[7] = strtok(handle + strlen("# handle "), "\n");
        r = run(delete, NULL, &deleted);
        if (r == 0)
                printf("%" PRIu64 " %" PRIu64, added, deleted);
        return r;
}

static int bench_door(Door *door, const char *id) {
        const Profile profile = {
                .n_ports = 1,
                .ports = {{.protocol = PROTOCOL_TCP, .number = 80}},
        };
        _cleanup_free_ char *gate = NULL, *problem = NULL;
        uint64_t begun, ended;
        int r;

        memset(&transaction, 0, sizeof(transaction));
        begun = now_nsec(CLOCK_MONOTONIC);
        r = door_open(door, id, &profile, now_nsec(CLOCK_BOOTTIME) / 1000 + 120 * 1000000, "", NULL,
                      NULL, &gate, &problem);
        ended = now_nsec(CLOCK_MONOTONIC);
        if (r == DOOR_REFUSED) {
                fprintf(stderr, "%s\n", problem);
                return -EACCES;
        }
        if (r < 0)
                return r;
        if (transaction.begun == 0) {
                fprintf(stderr, "nothing denies here, so there is nothing to open: %s\n", gate);
                return -ENOENT;
        }
        print_call(begun, ended);

        begun = now_nsec(CLOCK_MONOTONIC);
        door_shut(door, id);
        ended = now_nsec(CLOCK_MONOTONIC);
        print_call(begun, ended);
        return 0;
}

/* What was deleted is freed by the kernel after a grace period, and whoever closes a netlink socket
 * meanwhile waits for it: 10 ms that would fall on the other side. */
static int settle(void) {
        Netlink netlink;
        int r;

        r = netlink_open(&netlink, NETLINK_NETFILTER);
        if (r == 0)
                netlink_close(&netlink);
        return r;
}

/* As in the daemon, where the loop runs between two requests. */
static int dispatch(sd_event *event) {
        int r;

        do
                r = sd_event_run(event, 0);
        while (r > 0);
        return r;
}

static void on_news(const char *window_id, DoorNews news, const char *why, void *userdata) {
        fprintf(stderr, "%s: %s\n", window_id, why);
}

/* Is there to be another round? */
static bool goes_on(const char *count, long done) {
        char line[16];

        if (strcmp(count, "-") != 0)
                return done < atol(count);
        return fgets(line, sizeof(line), stdin);
}

int main(int argc, char **argv) {
        static char output[OUTPUT_MAX];
        sd_event *event = NULL;
        Door *door = NULL;
        int r;

        if (argc != 3 && argc != 4) {
                fprintf(stderr, "usage: %s N|- RUNTIME_DIR [NFT]\n", argv[0]);
                return 2;
        }
        r = sd_event_default(&event);
        if (r >= 0)
                r = door_new(&door, event, argv[2], on_news, NULL);
        for (long i = 0; r >= 0 && goes_on(argv[1], i); i++) {
                char id[32];

                /* no window has the id of another */
                snprintf(id, sizeof(id), "w%012lx", i);
                r = bench_door(door, id);
                if (r >= 0)
                        r = settle();
                if (r >= 0 && argc == 4)
                        r = bench_nft(argv[3], output);
                if (r >= 0)
                        r = dispatch(event);
                printf("\n");
                fflush(stdout);
        }
        if (r < 0)
                fprintf(stderr, "%s: %s\n", argv[0], strerror(-r));
        door_free(door);
        sd_event_unref(event);
        return r < 0 ? EXIT_FAILURE : EXIT_SUCCESS;
}
