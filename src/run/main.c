/* SPDX-License-Identifier: GPL-2.0-or-later */

/*
 * postern-run: the root helper that runs what a profile names.
 *
 * The broker, which faces every local user and the network's rules, never executes anything; this
 * does, and takes no orders but the name of a profile that root has written. See run-protocol.h.
 */

#include <errno.h>
#include <getopt.h>
#include <inttypes.h>
#include <linux/magic.h>
#include <postern/cleanup.h>
#include <postern/legacy-iptables.h>
#include <postern/profile.h>
#include <postern/run-certificate.h>
#include <postern/run-cgroup.h>
#include <postern/run-child.h>
#include <postern/run-protocol.h>
#include <postern/run-supervise.h>
#include <signal.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/vfs.h>

enum { EXIT_USAGE = 2 };

typedef struct Options {
        const char *config_dir;
        unsigned profile_flags;
} Options;

typedef struct Job {
        Profile *profile;
        RunUser *user;
        char window[64];
        int output;
        RunCgroup cgroup;
} Job;

static void job_deinit(Job *job) {
        run_cgroup_remove(&job->cgroup);
        if (job->output >= 0)
                close(job->output);
        run_user_free(job->user);
        profile_free(job->profile);
}

static void complain(const char *text) {
        fprintf(stderr, "postern-run: %s\n", text);
}

static int answer(const RunPacket *packet) {
        int r = run_packet_send(packet, STDIN_FILENO, -1);

        return r == -EPIPE || r == -ECONNRESET ? 0 : r; /* nobody is there to hear it */
}

/* Tells the broker why nothing will be run. */
static int answer_problem(const char *word, const char *problem) {
        RunPacket packet;

        run_packet_begin(&packet, word);
        run_packet_add(&packet, "problem", "%.*s", RUN_PROBLEM_MAX, problem);
        complain(problem);
        return answer(&packet);
}

static bool window_is_valid(const char *window) {
        size_t length = strlen(window);

        return length > 0 && length < 32 &&
               strspn(window, "abcdefghijklmnopqrstuvwxyz0123456789") == length;
}

/* Not a fifo with a name, which is somebody's file: it is going to change its owner. */
static bool is_pipe(int fd) {
        struct statfs st;

        return fstatfs(fd, &st) == 0 && st.f_type == PIPEFS_MAGIC;
}

/* 0: accepted; a positive value: refused and said so; negative: the connection is of no use. */
static int job_accept(const Options *options, const RunPacket *request, Job *job) {
        const char *name = run_packet_get(request, "profile");
        const char *version = run_packet_get(request, "version");
        const char *window = run_packet_get(request, "window");
        _cleanup_free_ char *problem = NULL;
        char reason[RUN_PROBLEM_MAX];
        struct ucred broker = {.uid = (uid_t) -1};
        socklen_t size = sizeof(broker);
        int r;

        if (strcmp(request->word, "gate-open") == 0 || strcmp(request->word, "gate-close") == 0)
                return answer_problem(
                               "refused",
                               "gate commands are not available in this version: use another "
                               "Type= in [Gate]")
                               ?: 1;
        if (strcmp(request->word, "renew") != 0 || !name || !version || !window ||
            request->n_fields != 3 || !window_is_valid(window))
                return -EBADMSG;
        if (job->output < 0 || !is_pipe(job->output))
                return -EBADMSG;
        if (getsockopt(STDIN_FILENO, SOL_SOCKET, SO_PEERCRED, &broker, &size) < 0)
                return -errno;

        r = profile_load(options->config_dir, name, options->profile_flags, &job->profile,
                         &problem);
        if (r < 0) {
                snprintf(reason, sizeof(reason), "the profile could not be read: %s", strerror(-r));
                return answer_problem("refused", reason) ?: 1;
        }
        if (r > 0)
                return answer_problem("refused", problem ? problem : "there is no such profile")
                               ?: 1;
        if (strcmp(job->profile->version, version) != 0)
                return answer_problem(
                               "refused",
                               "the profile was changed after the window was authorised: ask "
                               "again")
                               ?: 1;
        r = run_user_find(job->profile, broker.uid, &job->user, reason, sizeof(reason));
        if (r < 0)
                return answer_problem("refused", r == -ENOMEM ? "memory ran out" : reason) ?: 1;
        snprintf(job->window, sizeof(job->window), "%s", window);
        return 0;
}

static int answer_ready(const Job *job) {
        char legacy[LEGACY_IPTABLES_MAX];
        RunPacket packet;

        if (legacy_iptables_read(legacy, sizeof(legacy)) < 0)
                complain("cannot see whether legacy iptables is loaded");
        run_packet_begin(&packet, "ready");
        run_packet_add(&packet, "cgroup", "%s", job->cgroup.path);
        run_packet_add(&packet, "legacy", "%s", legacy);
        return answer(&packet);
}

static int answer_ended(int status, const Certificate *before, const Certificate *after) {
        RunPacket packet;

        run_packet_begin(&packet, "ended");
        run_packet_add(&packet, "status", "%d", status);
        run_packet_add(&packet, "serial_before", "%s", before->serial);
        run_packet_add(&packet, "not_after_before", "%" PRIu64, before->not_after);
        run_packet_add(&packet, "serial_after", "%s", after->serial);
        run_packet_add(&packet, "not_after_after", "%" PRIu64, after->not_after);
        return answer(&packet);
}

/* Waits for `go`: 1 and the deadline, 0 when the broker hung up or SIGTERM came, negative for
 * anything else. */
static int receive_go(int signal_fd, uint64_t *ret_deadline) {
        RunPacket packet;
        const char *text;
        char *end;
        int r;

        r = run_supervise_wait(STDIN_FILENO, signal_fd);
        if (r > 0)
                r = run_packet_receive(&packet, STDIN_FILENO, NULL);
        if (r <= 0)
                return r;
        text = run_packet_get(&packet, "deadline");
        if (strcmp(packet.word, "go") != 0 || packet.n_fields != 1 || !text || !*text ||
            strspn(text, "0123456789") != strlen(text))
                return -EBADMSG;
        errno = 0;
        *ret_deadline = strtoull(text, &end, 10);
        return errno ? -errno : 1;
}

static int job_run(Job *job) {
        Certificate before = {}, after = {};
        char problem[RUN_PROBLEM_MAX];
        int signal_fd, status, r;
        uint64_t deadline = 0;
        RunChild child;

        signal_fd = run_supervise_prepare();
        if (signal_fd < 0)
                return signal_fd;
        r = run_cgroup_make(&job->cgroup, job->window);
        if (r == 0 && run_cgroup_populated(&job->cgroup))
                run_cgroup_signal(&job->cgroup, SIGKILL); /* of a helper that was killed */
        r = answer_ready(job);
        if (r == 0)
                r = receive_go(signal_fd, &deadline);
        if (r <= 0)
                return r;

        if (job->profile->certificate)
                certificate_read(job->profile->certificate, &before);
        r = run_child_start(job->profile, job->user, &job->cgroup, job->window, deadline,
                            job->output, &child, problem, sizeof(problem));
        if (r < 0)
                return answer_problem("failed", problem);
        /* The broker sees the end of the output when the renewal's copies are gone. */
        close(TAKE_FD(job->output));
        status = run_supervise(&child, &job->cgroup, STDIN_FILENO, signal_fd);
        run_cgroup_remove(&job->cgroup);
        if (job->profile->certificate)
                certificate_read(job->profile->certificate, &after);
        return answer_ended(status, &before, &after);
}

static int serve(const Options *options) {
        _cleanup_(job_deinit) Job job = {.output = -1, .cgroup = {.fd = -1, .parent_fd = -1}};
        RunPacket request;
        int r;

        r = run_packet_receive(&request, STDIN_FILENO, &job.output);
        if (r <= 0)
                return r;
        r = job_accept(options, &request, &job);
        if (r != 0)
                return r < 0 ? r : 0;
        return job_run(&job);
}

static void print_help(void) {
        printf("postern-run [--config-dir=DIR]\n"
               "\n"
               "Runs the renewal that a profile names. posternd starts it, with a socket as "
               "standard\n"
               "input; it is not for people. To renew: busctl --timeout=infinity call\n"
               "org.postern.Renewal1 /org/postern/Renewal1 org.postern.Renewal1.Manager Renew stt\n"
               "PROFILE 0 0\n"
               "\n"
               "  --config-dir=DIR   where profiles/ is (default " POSTERN_CONFIG_DIR ")\n"
               "  --version          print the version\n"
               "  --help             print this\n");
}

int main(int argc, char **argv) {
        static const struct option long_options[] = {
                {"config-dir", required_argument, NULL, 'c'},
                {"allow-sticky-parents", no_argument, NULL, 's'}, /* for tests */
                {"version", no_argument, NULL, 'v'},
                {"help", no_argument, NULL, 'h'},
                {},
        };
        Options options = {.config_dir = POSTERN_CONFIG_DIR};
        socklen_t size = sizeof(int);
        int type = 0, option, r;

        while ((option = getopt_long(argc, argv, "", long_options, NULL)) >= 0)
                switch (option) {
                case 'c':
                        options.config_dir = optarg;
                        break;
                case 's':
                        options.profile_flags |= PROFILE_ALLOW_STICKY_PARENTS;
                        break;
                case 'v':
                        puts("postern-run " POSTERN_VERSION);
                        return EXIT_SUCCESS;
                case 'h':
                        print_help();
                        return EXIT_SUCCESS;
                default:
                        return EXIT_USAGE;
                }
        if (optind < argc) {
                complain("no arguments are taken: see --help");
                return EXIT_USAGE;
        }
        if (getsockopt(STDIN_FILENO, SOL_SOCKET, SO_TYPE, &type, &size) < 0 ||
            type != SOCK_SEQPACKET) {
                complain("standard input is not posternd's socket: posternd starts this program");
                return EXIT_USAGE;
        }
        /* Standard error may be a pipe that nobody reads any more: no reason to leave a tree. */
        (void) signal(SIGPIPE, SIG_IGN);
        r = serve(&options);
        if (r < 0) {
                fprintf(stderr, "postern-run: %s\n",
                        r == -EBADMSG ? "posternd said something that this version does not know"
                                      : strerror(-r));
                return EXIT_FAILURE;
        }
        return EXIT_SUCCESS;
}
