/* SPDX-License-Identifier: GPL-2.0-or-later */

/*
 * postern-run: the root helper that runs what a profile names.
 *
 * The broker, which faces every local user and the network's rules, never executes anything; this
 * does, and takes no orders but the name of a profile that root has written. See run-protocol.h.
 */

#include <errno.h>
#include <getopt.h>
#include <linux/magic.h>
#include <poll.h>
#include <postern/cleanup.h>
#include <postern/legacy-iptables.h>
#include <postern/profile-value.h>
#include <postern/profile.h>
#include <postern/run-certificate.h>
#include <postern/run-cgroup.h>
#include <postern/run-child.h>
#include <postern/run-protocol.h>
#include <postern/run-supervise.h>
#include <postern/run-unit.h>
#include <signal.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/vfs.h>

enum {
        EXIT_USAGE = 2,
        CGROUP_TRIES = 100,
        CGROUP_POLL_MSEC = 10,
};

typedef struct Options {
        const char *config_dir;
        unsigned profile_flags;
} Options;

typedef struct Job {
        RunVerb verb;
        Profile *profile;
        RunCommand command;
        char ports[PROFILE_PORTS_TEXT_MAX];
        RunUser *user;
        char window[RUN_NAME_MAX];
        char name[RUN_NAME_MAX]; /* of the cgroup */
        int output;
        RunCgroup cgroup;
} Job;

static void complain(const char *text) {
        fprintf(stderr, "postern-run: %s\n", text);
}

/* Once nothing lives in it. Posternd forgets the window when it hears of its end, so nobody would
 * try again after this. */
static void job_remove_cgroup(Job *job) {
        int r = run_cgroup_remove(&job->cgroup);

        for (unsigned i = 0; r < 0 && i < CGROUP_TRIES; i++) {
                (void) poll(NULL, 0, CGROUP_POLL_MSEC);
                r = run_cgroup_remove(&job->cgroup);
        }
        if (r < 0)
                fprintf(stderr,
                        "postern-run: the cgroup %s cannot be removed (%s): see what is in it, and "
                        "remove it with rmdir\n",
                        job->cgroup.path, strerror(-r));
        run_cgroup_close(&job->cgroup);
}

static void job_deinit(Job *job) {
        job_remove_cgroup(job);
        if (job->output >= 0)
                close(job->output);
        run_user_free(job->user);
        profile_free(job->profile);
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

/* Not a fifo with a name, which is somebody's file: it is going to change its owner. */
static bool is_pipe(int fd) {
        struct statfs st;

        return fstatfs(fd, &st) == 0 && st.f_type == PIPEFS_MAGIC;
}

/* Those of a gate command; they may be of a profile that has been changed since. */
static int job_take_ports(const RunPacket *request, Job *job) {
        const char *text = run_packet_get(request, "ports");
        Port ports[PROFILE_PORTS_MAX];
        size_t n_ports = 0;

        if (job->verb == RUN_RENEW)
                return request->n_fields == 3 ? 0 : -EBADMSG;
        if (!text || request->n_fields != 4 || value_parse_ports(text, ports, &n_ports) < 0 ||
            n_ports == 0)
                return -EBADMSG;
        ports_format(ports, n_ports, job->ports, sizeof(job->ports));
        return 0;
}

static bool job_find_command(Job *job) {
        switch (job->verb) {
        case RUN_RENEW:
                job->command = (RunCommand){"Exec=", job->profile->exec, NULL};
                break;
        case RUN_GATE_OPEN:
                job->command = (RunCommand){"OpenCommand=", job->profile->open_command, job->ports};
                break;
        case RUN_GATE_CLOSE:
                job->command =
                        (RunCommand){"CloseCommand=", job->profile->close_command, job->ports};
                break;
        }
        return job->command.argv || (job->verb == RUN_RENEW && job->profile->unit);
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

        if (run_verb_from_string(request->word, &job->verb) < 0 || !name || !version || !window ||
            run_name(job->verb, window, job->name) < 0)
                return -EBADMSG;
        r = job_take_ports(request, job);
        if (r < 0)
                return r;
        if (job->output < 0 || !is_pipe(job->output))
                return -EBADMSG;
        if (getsockopt(STDIN_FILENO, SOL_SOCKET, SO_PEERCRED, &broker, &size) < 0)
                return -errno;

        r = profile_load(options->config_dir, name, options->profile_flags, &job->profile,
                         &problem);
        if (r < 0) {
                snprintf(reason, sizeof(reason),
                         "the profile could not be read (%s): see what is wrong with the file or "
                         "the disk, and ask again",
                         strerror(-r));
                return answer_problem("refused", reason) ?: 1;
        }
        if (r > 0)
                return answer_problem("refused", problem ? problem
                                                         : "there is no such profile: ListProfiles "
                                                           "says which there are")
                               ?: 1;
        if (strcmp(job->profile->version, version) != 0)
                return answer_problem(
                               "refused",
                               "the profile was changed after the window was authorised: ask "
                               "again")
                               ?: 1;
        if (!job_find_command(job))
                return answer_problem("refused",
                                      "the profile names no gate commands any more: write "
                                      "Type=command, OpenCommand= and CloseCommand= in [Gate]")
                               ?: 1;
        r = run_user_find(job->profile, broker.uid, &job->user, reason, sizeof(reason));
        if (r < 0)
                return answer_problem("refused", r == -ENOMEM
                                                         ? "memory ran out: free some and ask again"
                                                         : reason)
                               ?: 1;
        snprintf(job->window, sizeof(job->window), "%s", window);
        return 0;
}

static int answer_ready(const Job *job) {
        char legacy[LEGACY_IPTABLES_MAX];
        RunPacket packet;

        if (legacy_iptables_read(legacy, sizeof(legacy)) < 0)
                complain("cannot see whether legacy iptables is loaded: see that /proc is mounted "
                         "and can be read");
        run_packet_begin(&packet, "ready");
        run_packet_add(&packet, "cgroup", "%s", job->cgroup.path);
        run_packet_add(&packet, "legacy", "%s", legacy);
        return answer(&packet);
}

static int answer_ended(int status, const Certificate *before, const Certificate *after) {
        RunPacket packet;

        run_packet_begin(&packet, "ended");
        run_packet_add(&packet, "status", "%d", status);
        run_packet_add_certificates(&packet, before, after);
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

/* Of what the profile names: its end. 1, and that was answered: it was not run. */
static int job_run_command(Job *job, uint64_t deadline, int signal_fd, int *ret_status) {
        char problem[RUN_PROBLEM_MAX];
        RunChild child;
        int r;

        if (!job->command.argv) {
                r = run_unit(job->profile->unit, STDIN_FILENO, signal_fd, job->output, ret_status,
                             problem, sizeof(problem));
                close(TAKE_FD(job->output));
                return r < 0 ? answer_problem("failed", problem) ?: 1 : 0;
        }
        r = run_child_start(job->profile, &job->command, job->user, &job->cgroup, job->window,
                            deadline, job->output, &child, problem, sizeof(problem));
        if (r < 0)
                return answer_problem("failed", problem) ?: 1;
        /* The broker sees the end of the output when the renewal's copies are gone. */
        close(TAKE_FD(job->output));
        *ret_status = run_supervise(&child, &job->cgroup, STDIN_FILENO, signal_fd);
        return 0;
}

static int job_run(Job *job) {
        const char *certificate = job->verb == RUN_RENEW ? job->profile->certificate : NULL;
        Certificate before = {}, after = {};
        int signal_fd, status = 0, r;
        uint64_t deadline = 0;

        signal_fd = run_supervise_prepare();
        if (signal_fd < 0)
                return signal_fd;
        r = run_cgroup_make(&job->cgroup, job->name);
        if (r == 0 && run_cgroup_populated(&job->cgroup))
                run_cgroup_signal(&job->cgroup, SIGKILL); /* of a helper that was killed */
        r = answer_ready(job);
        if (r == 0)
                r = receive_go(signal_fd, &deadline);
        if (r <= 0)
                return r;

        if (certificate)
                certificate_read(certificate, &before);
        r = job_run_command(job, deadline, signal_fd, &status);
        if (r != 0)
                return r < 0 ? r : 0;
        job_remove_cgroup(job);
        if (certificate)
                certificate_read(certificate, &after);
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
               "  --end-unit         stop the Unit= of a helper that was killed\n"
               "  --config-dir=DIR   where profiles/ is (default " POSTERN_CONFIG_DIR ")\n"
               "  --version          print the version\n"
               "  --help             print this\n");
}

int main(int argc, char **argv) {
        static const struct option long_options[] = {
                {"config-dir", required_argument, NULL, 'c'},
                {"allow-sticky-parents", no_argument, NULL, 's'}, /* for tests */
                {"end-unit", no_argument, NULL, 'e'},
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
                case 'e':
                        return run_unit_end_left() < 0 ? EXIT_FAILURE : EXIT_SUCCESS;
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
                complain("standard input is not posternd's socket: posternd starts this program, "
                         "and postern renews");
                return EXIT_USAGE;
        }
        /* Standard error may be a pipe that nobody reads any more: no reason to leave a tree. */
        (void) signal(SIGPIPE, SIG_IGN);
        r = serve(&options);
        if (r < 0) {
                if (r == -EBADMSG)
                        fputs("postern-run: posternd said something that this version does not "
                              "know: restart posternd\n",
                              stderr);
                else
                        fprintf(stderr,
                                "postern-run: the run could not be seen to (%s): see posternd's "
                                "log, and ask again\n",
                                strerror(-r));
                return EXIT_FAILURE;
        }
        return EXIT_SUCCESS;
}
