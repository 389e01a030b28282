/* SPDX-License-Identifier: GPL-2.0-or-later */

/* Packets over a real socket: what is said is what is heard, and nothing else is. */

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <errno.h>
#include <fcntl.h>
#include <postern/cleanup.h>
#include <postern/run-protocol.h>
#include <string.h>
#include <sys/socket.h>

typedef struct Fixture {
        int sockets[2];
        int n_open; /* descriptors, to see that none leaks */
} Fixture;

static int count_open(void) {
        int n = 0;

        for (int fd = 0; fd < 256; fd++)
                n += fcntl(fd, F_GETFD) >= 0;
        return n;
}

static int setup(void **state) {
        Fixture *fixture = calloc(1, sizeof(*fixture));

        assert_non_null(fixture);
        assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0,
                                    fixture->sockets),
                         0);
        fixture->n_open = count_open();
        *state = fixture;
        return 0;
}

static int teardown(void **state) {
        Fixture *fixture = *state;
        int n_open = count_open();

        for (int i = 0; i < 2; i++)
                if (fixture->sockets[i] >= 0)
                        close(fixture->sockets[i]);
                else
                        n_open++;
        assert_int_equal(n_open, fixture->n_open);
        free(fixture);
        return 0;
}

static void send_bytes(const Fixture *fixture, const void *data, size_t size, const int *fds,
                       size_t n_fds) {
        union {
                struct cmsghdr header;
                char space[CMSG_SPACE(32 * sizeof(int))];
        } control = {};
        struct iovec iov = {.iov_base = (void *) data, .iov_len = size};
        struct msghdr message = {.msg_iov = &iov, .msg_iovlen = 1};

        if (n_fds > 0) {
                message.msg_control = &control;
                message.msg_controllen = CMSG_SPACE(n_fds * sizeof(int));
                control.header.cmsg_level = SOL_SOCKET;
                control.header.cmsg_type = SCM_RIGHTS;
                control.header.cmsg_len = CMSG_LEN(n_fds * sizeof(int));
                memcpy(CMSG_DATA(&control.header), fds, n_fds * sizeof(int));
        }
        assert_int_equal(sendmsg(fixture->sockets[0], &message, 0), size);
}

static void round_trip(void **state) {
        Fixture *fixture = *state;
        RunPacket packet, received;
        int fd = -1;

        run_packet_begin(&packet, "renew");
        run_packet_add(&packet, "profile", "%s", "web");
        run_packet_add(&packet, "not_after", "%d", 42);
        run_packet_add(&packet, "equation", "a=b=c");
        run_packet_add(&packet, "empty", "%s", "");
        assert_int_equal(run_packet_send(&packet, fixture->sockets[0], fixture->sockets[1]), 0);

        assert_int_equal(run_packet_receive(&received, fixture->sockets[1], &fd), 1);
        assert_string_equal(received.word, "renew");
        assert_int_equal(received.n_fields, 4);
        assert_string_equal(run_packet_get(&received, "profile"), "web");
        assert_string_equal(run_packet_get(&received, "not_after"), "42");
        assert_string_equal(run_packet_get(&received, "equation"), "a=b=c");
        assert_string_equal(run_packet_get(&received, "empty"), "");
        assert_null(run_packet_get(&received, "prof"));
        assert_null(run_packet_get(&received, "profiles"));
        assert_null(run_packet_get(&received, "renew"));
        assert_true(fd >= 0);
        assert_true(fcntl(fd, F_GETFD) & FD_CLOEXEC);
        close(fd);
}

/* No value can make a second field, or a second packet. */
static void values_are_made_harmless(void **state) {
        Fixture *fixture = *state;
        RunPacket packet, received;
        int fd = 0;

        run_packet_begin(&packet, "refused");
        run_packet_add(&packet, "problem", "%s", "a\nstatus=0\n\x1b[2J\x7f\xc3\xa9");
        assert_int_equal(run_packet_send(&packet, fixture->sockets[0], -1), 0);
        assert_int_equal(run_packet_receive(&received, fixture->sockets[1], &fd), 1);
        assert_int_equal(fd, -1);
        assert_int_equal(received.n_fields, 1);
        assert_string_equal(run_packet_get(&received, "problem"), "a?status=0??[2J???");
}

static void full(void **state) {
        Fixture *fixture = *state;
        static char text[RUN_PACKET_MAX + 1];
        const size_t overhead = strlen("go\nk=\n");
        RunPacket packet, received;

        memset(text, 'x', sizeof(text) - 1);
        /* vsnprintf() wants room for its 0, which goes on to be the newline */
        for (size_t length = RUN_PACKET_MAX - overhead - 2; length <= RUN_PACKET_MAX; length++) {
                int r;

                run_packet_begin(&packet, "go");
                run_packet_add(&packet, "k", "%.*s", (int) length, text);
                r = run_packet_send(&packet, fixture->sockets[0], -1);
                if (length < RUN_PACKET_MAX - overhead) {
                        assert_int_equal(r, 0);
                        assert_int_equal(run_packet_receive(&received, fixture->sockets[1], NULL),
                                         1);
                        assert_int_equal(strlen(run_packet_get(&received, "k")), length);
                } else if (length > RUN_PACKET_MAX - overhead) {
                        assert_int_equal(r, -ENOBUFS);
                        /* and stays full, however little comes next */
                        run_packet_add(&packet, "l", "1");
                        assert_int_equal(run_packet_send(&packet, fixture->sockets[0], -1),
                                         -ENOBUFS);
                } else if (r == 0)
                        assert_int_equal(run_packet_receive(&received, fixture->sockets[1], NULL),
                                         1);
        }
}

static void malformed(void **state) {
        Fixture *fixture = *state;
        static const struct {
                const char *data;
                size_t size;
        } table[] = {
#define PACKET(text) {text, sizeof(text) - 1}
                PACKET("\n"),
                PACKET("go"),
                PACKET("Go\n"),
                PACKET("g o\n"),
                PACKET("go1\n"),
                PACKET("go\n\n"),
                PACKET("go\nk\n"),
                PACKET("go\nk=1"),
                PACKET("go\n=1\n"),
                PACKET("go\nK=1\n"),
                PACKET("go\nk =1\n"),
                PACKET("go\nk=1\nk=2\n"),
                PACKET("go\nk=\t\n"),
                PACKET("go\nk=\x80\n"),
                PACKET("go\nk=\0\n"),
                PACKET("go\0\n"),
                PACKET("\0"),
                PACKET("go\r\n"),
                PACKET("go\na=\nb=\nc=\nd=\ne=\nf=\ng=\nh=\ni=\n"),
        };

        for (size_t i = 0; i < ELEMENTS(table); i++) {
                RunPacket received;

                send_bytes(fixture, table[i].data, table[i].size, NULL, 0);
                if (run_packet_receive(&received, fixture->sockets[1], NULL) != -EBADMSG)
                        fail_msg("\"%s\" (%zu)", table[i].data, i);
        }
}

static void as_large_as_can_be(void **state) {
        Fixture *fixture = *state;
        static char text[RUN_PACKET_MAX + 1] = "go\nk=";
        RunPacket received;

        memset(text + 5, 'x', sizeof(text) - 5);
        text[RUN_PACKET_MAX - 1] = '\n';
        send_bytes(fixture, text, RUN_PACKET_MAX, NULL, 0);
        assert_int_equal(run_packet_receive(&received, fixture->sockets[1], NULL), 1);
        assert_int_equal(strlen(run_packet_get(&received, "k")), RUN_PACKET_MAX - 6);
        /* cut off it would be a good packet */
        send_bytes(fixture, text, RUN_PACKET_MAX + 1, NULL, 0);
        assert_int_equal(run_packet_receive(&received, fixture->sockets[1], NULL), -EBADMSG);
}

/* None that comes unasked stays open; teardown() counts. */
static void descriptors(void **state) {
        Fixture *fixture = *state;
        RunPacket received;
        int fds[32], fd = -1;

        for (size_t i = 0; i < ELEMENTS(fds); i++)
                fds[i] = fixture->sockets[0];
        send_bytes(fixture, "go\n", 3, fds, 1);
        assert_int_equal(run_packet_receive(&received, fixture->sockets[1], NULL), -EBADMSG);
        for (size_t n = 2; n <= ELEMENTS(fds); n++) {
                send_bytes(fixture, "go\n", 3, fds, n);
                assert_int_equal(run_packet_receive(&received, fixture->sockets[1], &fd), -EBADMSG);
                assert_int_equal(fd, -1);
        }
        /* a good descriptor with a bad packet */
        send_bytes(fixture, "GO\n", 3, fds, 1);
        assert_int_equal(run_packet_receive(&received, fixture->sockets[1], &fd), -EBADMSG);
        assert_int_equal(fd, -1);
}

static void ends(void **state) {
        Fixture *fixture = *state;
        RunPacket packet, received;

        assert_int_equal(run_packet_receive(&received, fixture->sockets[1], NULL), -EAGAIN);
        run_packet_begin(&packet, "go");
        assert_int_equal(run_packet_send(&packet, fixture->sockets[0], -1), 0);
        close(TAKE_FD(fixture->sockets[0]));
        assert_int_equal(run_packet_receive(&received, fixture->sockets[1], NULL), 1);
        assert_int_equal(run_packet_receive(&received, fixture->sockets[1], NULL), 0);
        assert_int_equal(run_packet_send(&packet, fixture->sockets[1], -1), -EPIPE);
}

/* The other side left without having read: no less an end, and its last words count. */
static void abrupt_end(void **state) {
        Fixture *fixture = *state;
        RunPacket packet, received;

        run_packet_begin(&packet, "go");
        assert_int_equal(run_packet_send(&packet, fixture->sockets[1], -1), 0);
        run_packet_begin(&packet, "ended");
        assert_int_equal(run_packet_send(&packet, fixture->sockets[0], -1), 0);
        close(TAKE_FD(fixture->sockets[0]));
        assert_int_equal(run_packet_receive(&received, fixture->sockets[1], NULL), 1);
        assert_string_equal(received.word, "ended");
        assert_int_equal(run_packet_receive(&received, fixture->sockets[1], NULL), 0);
}

int main(void) {
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
        const struct CMUnitTest tests[] = {
                TEST(round_trip),  TEST(values_are_made_harmless), TEST(full), TEST(malformed),
                TEST(descriptors), TEST(as_large_as_can_be),       TEST(ends), TEST(abrupt_end),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
