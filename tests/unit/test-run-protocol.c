/* SPDX-License-Identifier: GPL-2.0-or-later */

/* Packets over a real socketpair: what is sent arrives, what is malformed is refused, and no
 * descriptor stays behind, whatever came. */

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include <postern/run-protocol.h>

static int ours = -1, theirs = -1; /* we receive what they send */
static unsigned fds_before;

static unsigned count_fds(void) {
        unsigned n = 0;
        DIR *directory;

        directory = opendir("/proc/self/fd");
        assert_non_null(directory);
        while (readdir(directory))
                n++;
        closedir(directory);
        return n;
}

static int connect_both(void **state) {
        int sockets[2];

        fds_before = count_fds();
        if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, sockets) < 0)
                return -1;
        ours = sockets[0];
        theirs = sockets[1];
        return 0;
}

/* Of every test: nothing but the two sockets was open in the end. */
static int disconnect_both(void **state) {
        unsigned extra = count_fds() - fds_before;
        unsigned sockets = (ours >= 0) + (theirs >= 0);

        if (ours >= 0)
                close(ours);
        if (theirs >= 0)
                close(theirs);
        ours = theirs = -1;
        if (extra != sockets)
                print_error("%u descriptors stayed open\n", extra - sockets);
        return extra == sockets ? 0 : -1;
}

/* Bytes as a liar would send them, with the same descriptor so many times. */
static void send_raw(const void *data, size_t size, unsigned n_fds) {
        char control[CMSG_SPACE(64 * sizeof(int))] __attribute__((aligned(8))) = {};
        struct iovec vector = {.iov_base = (void *) data, .iov_len = size};
        struct msghdr message = {.msg_iov = &vector, .msg_iovlen = 1};
        struct cmsghdr *header = (struct cmsghdr *) control;

        assert_true(n_fds <= 64);
        if (n_fds > 0) {
                message.msg_control = control;
                message.msg_controllen = CMSG_SPACE(n_fds * sizeof(int));
                header->cmsg_level = SOL_SOCKET;
                header->cmsg_type = SCM_RIGHTS;
                header->cmsg_len = CMSG_LEN(n_fds * sizeof(int));
                for (unsigned i = 0; i < n_fds; i++)
                        memcpy(CMSG_DATA(header) + i * sizeof(int), &theirs, sizeof(int));
        }
        assert_int_equal(sendmsg(theirs, &message, MSG_NOSIGNAL), size);
}

static void assert_refused(const char *data, size_t size, int line) {
        int fd = -2;

        /* without a place for a descriptor, with one, and with a descriptor for it */
        for (unsigned i = 0; i < 3; i++) {
                RunPacket packet;
                int r;

                send_raw(data, size, i == 2);
                r = run_packet_receive(&packet, ours, i == 0 ? NULL : &fd);
                if (r != -EBADMSG)
                        fail_msg("line %d: %d", line, r);
                if (fd >= 0)
                        fail_msg("line %d: a refused packet left a descriptor", line);
        }
}

#define REFUSED(bytes) assert_refused(bytes, sizeof(bytes) - 1, __LINE__)

static void assert_accepted(const char *text) {
        RunPacket packet;

        send_raw(text, strlen(text), 0);
        if (run_packet_receive(&packet, ours, NULL) != 1)
                fail_msg("refused: %s", text);
}

static void test_round_trip(void **state) {
        RunPacket sent, got;

        run_packet_begin(&sent, "ended");
        run_packet_add(&sent, "status", "%d", 3);
        run_packet_add(&sent, "serial_before", "%s", "");
        run_packet_add(&sent, "problem", "%s", "a=b, c=d");
        assert_int_equal(run_packet_send(&sent, theirs, -1), 0);

        assert_int_equal(run_packet_receive(&got, ours, NULL), 1);
        assert_string_equal(got.word, "ended");
        assert_int_equal(got.n_fields, 3);
        assert_string_equal(run_packet_get(&got, "status"), "3");
        assert_string_equal(run_packet_get(&got, "serial_before"), "");
        assert_string_equal(run_packet_get(&got, "problem"), "a=b, c=d");
        assert_null(run_packet_get(&got, "statu"));
        assert_null(run_packet_get(&got, "status_"));

        /* nothing of the packet before */
        assert_accepted("go\n");
        run_packet_begin(&sent, "go");
        assert_int_equal(run_packet_send(&sent, theirs, -1), 0);
        assert_int_equal(run_packet_receive(&got, ours, NULL), 1);
        assert_int_equal(got.n_fields, 0);
        assert_null(run_packet_get(&got, "status"));
}

/* A value cannot add a line, whatever is in it. */
static void test_values_stay_values(void **state) {
        RunPacket sent, got;

        run_packet_begin(&sent, "failed");
        run_packet_add(&sent, "problem", "%s", "one\nstatus=0\r\t\x1b[0m\x7f\xc3\xa9~ ");
        assert_int_equal(run_packet_send(&sent, theirs, -1), 0);
        assert_int_equal(run_packet_receive(&got, ours, NULL), 1);
        assert_int_equal(got.n_fields, 1);
        assert_string_equal(run_packet_get(&got, "problem"), "one?status=0???[0m???~ ");
}

static void test_malformed(void **state) {
        /* no newline at the end */
        REFUSED("go");
        REFUSED("go\ndeadline=1");
        /* no word */
        REFUSED("\n");
        REFUSED("\ndeadline=1\n");
        REFUSED("deadline=1\n");
        /* words and keys: small letters, _ and - */
        REFUSED("Go\n");
        REFUSED("go \n");
        REFUSED(" go\n");
        REFUSED("g0\n");
        REFUSED("go\nDeadline=1\n");
        REFUSED("go\ndead line=1\n");
        REFUSED("go\ndead2=1\n");
        REFUSED("go\n=1\n");
        REFUSED("go\ndeadline\n");
        REFUSED("go\n\n");
        REFUSED("go\ndeadline=1\n\n");
        /* said twice, the same or not */
        REFUSED("go\ndeadline=1\ndeadline=1\n");
        REFUSED("go\ndeadline=1\nother=2\ndeadline=3\n");
        /* control bytes and what is not ASCII, at every place */
        REFUSED("go\0\n");
        REFUSED("\0go\n");
        REFUSED("go\n\0");
        REFUSED("go\ndeadline=1\0002\n");
        REFUSED("go\r\n");
        REFUSED("go\ndeadline=1\t\n");
        REFUSED("go\ndeadline=\x1b[2J\n");
        REFUSED("go\ndeadline=\x7f\n");
        REFUSED("go\ndeadline=\xc3\xa9\n");
        REFUSED("go\ndead\xff=1\n");
        /* more fields than there is room for */
        REFUSED("go\na=\nb=\nc=\nd=\ne=\nf=\ng=\nh=\ni=\n");

        /* and the nearest to each that are none of it */
        assert_accepted("go\n");
        assert_accepted("gate-open\nserial_before=\n");
        assert_accepted("go\ndeadline==1=\n");
        assert_accepted("go\na=\nb=\nc=\nd=\ne=\nf=\ng=\nh=\n");
}

/* A packet of this size: "go", and a key whose value fills the rest. */
static void send_of_size(size_t size) {
        char *text;

        text = malloc(size);
        assert_non_null(text);
        memset(text, 'x', size);
        memcpy(text, "go\na=", 5);
        text[size - 1] = '\n';
        send_raw(text, size, 0);
        free(text);
}

static void test_size(void **state) {
        RunPacket packet;

        send_of_size(RUN_PACKET_MAX);
        assert_int_equal(run_packet_receive(&packet, ours, NULL), 1);
        assert_int_equal(strlen(run_packet_get(&packet, "a")), RUN_PACKET_MAX - 6);

        for (size_t size = RUN_PACKET_MAX + 1; size <= 4 * RUN_PACKET_MAX; size += 4095) {
                send_of_size(size);
                assert_int_equal(run_packet_receive(&packet, ours, NULL), -EBADMSG);
        }

        /* cut at the end of a line, where what is left would do by itself */
        {
                char text[RUN_PACKET_MAX + 10];

                memset(text, 'x', sizeof(text));
                memcpy(text, "go\na=", 5);
                text[RUN_PACKET_MAX - 1] = '\n';
                memcpy(text + RUN_PACKET_MAX, "b=1234567\n", 10);
                send_raw(text, sizeof(text), 0);
                assert_int_equal(run_packet_receive(&packet, ours, NULL), -EBADMSG);
        }
}

static void assert_overflows(size_t value_size, bool fits) {
        char *value;
        RunPacket sent, got;

        value = malloc(value_size + 1);
        assert_non_null(value);
        memset(value, 'v', value_size);
        value[value_size] = 0;

        run_packet_begin(&sent, "failed");
        run_packet_add(&sent, "problem", "%s", value);
        if (!fits) {
                /* what comes later does not make it look whole */
                run_packet_add(&sent, "status", "%d", 1);
                assert_int_equal(run_packet_send(&sent, theirs, -1), -ENOBUFS);
                assert_int_equal(run_packet_receive(&got, ours, NULL), -EAGAIN);
        } else {
                assert_int_equal(run_packet_send(&sent, theirs, -1), 0);
                assert_int_equal(run_packet_receive(&got, ours, NULL), 1);
                assert_int_equal(strlen(run_packet_get(&got, "problem")), value_size);
        }
        free(value);
}

static void test_overflow(void **state) {
        RunPacket packet;
        char key[RUN_PACKET_MAX + 1];

        assert_overflows(1, true);
        assert_overflows(RUN_PACKET_MAX - 64, true);
        for (size_t size = RUN_PACKET_MAX; size < RUN_PACKET_MAX + 32; size++)
                assert_overflows(size, false);
        assert_overflows(100000, false);

        /* a key that does not fit; one more field than fits, when each does */
        memset(key, 'k', sizeof(key) - 1);
        key[sizeof(key) - 1] = 0;
        run_packet_begin(&packet, "go");
        run_packet_add(&packet, key, "%d", 1);
        assert_int_equal(run_packet_send(&packet, theirs, -1), -ENOBUFS);
        run_packet_begin(&packet, "go");
        for (unsigned i = 0; i < RUN_PACKET_MAX; i++)
                run_packet_add(&packet, "a", "%s", "");
        assert_int_equal(run_packet_send(&packet, theirs, -1), -ENOBUFS);

        /* beginning anew is as good as new */
        run_packet_begin(&packet, "go");
        assert_int_equal(run_packet_send(&packet, theirs, -1), 0);
        assert_int_equal(run_packet_receive(&packet, ours, NULL), 1);
}

/* Every length up to and beyond the end: never a packet that the other side would refuse. */
static void test_edge(void **state) {
        char value[RUN_PACKET_MAX + 1];
        unsigned sent_last = 0;

        memset(value, 'v', sizeof(value));
        for (unsigned size = RUN_PACKET_MAX - 32; size < RUN_PACKET_MAX; size++) {
                RunPacket sent, got;
                int r;

                run_packet_begin(&sent, "go");
                run_packet_add(&sent, "a", "%.*s", (int) size, value);
                r = run_packet_send(&sent, theirs, -1);
                if (r == -ENOBUFS)
                        continue;
                assert_int_equal(r, 0);
                assert_int_equal(run_packet_receive(&got, ours, NULL), 1);
                assert_int_equal(strlen(run_packet_get(&got, "a")), size);
                sent_last = size;
        }
        assert_true(sent_last >= RUN_PACKET_MAX - 16 && sent_last < RUN_PACKET_MAX - 5);
}

static void test_descriptor(void **state) {
        struct stat sent_stat, got_stat;
        RunPacket packet;
        int pipes[2], fd = -2;

        assert_int_equal(pipe2(pipes, O_CLOEXEC), 0);
        run_packet_begin(&packet, "renew");
        assert_int_equal(run_packet_send(&packet, theirs, pipes[1]), 0);
        assert_int_equal(run_packet_receive(&packet, ours, &fd), 1);
        assert_true(fd >= 0);
        assert_int_equal(fcntl(fd, F_GETFD), FD_CLOEXEC);
        assert_int_equal(fstat(pipes[1], &sent_stat), 0);
        assert_int_equal(fstat(fd, &got_stat), 0);
        assert_int_equal(sent_stat.st_ino, got_stat.st_ino);
        close(fd);

        /* none came: -1, not what was there before */
        fd = 1000;
        send_raw("renew\n", 6, 0);
        assert_int_equal(run_packet_receive(&packet, ours, &fd), 1);
        assert_int_equal(fd, -1);
        close(pipes[0]);
        close(pipes[1]);
}

/* disconnect_both() counts what stays open. */
static void test_descriptors_refused(void **state) {
        static const unsigned counts[] = {2, 3, 8, 9, 64};
        RunPacket packet;
        int fd = -2;

        send_raw("go\n", 3, 1);
        assert_int_equal(run_packet_receive(&packet, ours, NULL), -EBADMSG);
        for (size_t i = 0; i < sizeof(counts) / sizeof(counts[0]); i++) {
                send_raw("renew\n", 6, counts[i]);
                assert_int_equal(run_packet_receive(&packet, ours, &fd), -EBADMSG);
                assert_int_equal(fd, -2);
                send_raw("renew\n", 6, counts[i]);
                assert_int_equal(run_packet_receive(&packet, ours, NULL), -EBADMSG);
        }
        /* a malformed packet's only descriptor, and one whose text was cut */
        send_raw("renew", 5, 1);
        assert_int_equal(run_packet_receive(&packet, ours, &fd), -EBADMSG);
        assert_int_equal(fd, -2);
        {
                char text[RUN_PACKET_MAX + 1];

                memset(text, '\n', sizeof(text));
                send_raw(text, sizeof(text), 1);
                assert_int_equal(run_packet_receive(&packet, ours, &fd), -EBADMSG);
                assert_int_equal(fd, -2);
        }
        /* an empty packet that carries one */
        send_raw("", 0, 1);
        assert_true(run_packet_receive(&packet, ours, &fd) <= 0);
        assert_int_equal(fd, -2);
}

static void test_hang_up(void **state) {
        RunPacket packet;

        assert_int_equal(run_packet_receive(&packet, ours, NULL), -EAGAIN);
        /* the last words are heard, then nothing */
        send_raw("ended\nstatus=0\n", 15, 0);
        close(theirs);
        theirs = -1;
        assert_int_equal(run_packet_receive(&packet, ours, NULL), 1);
        assert_int_equal(run_packet_receive(&packet, ours, NULL), 0);
        assert_int_equal(run_packet_receive(&packet, ours, NULL), 0);
        /* and nobody is told: an error, not a signal */
        run_packet_begin(&packet, "go");
        assert_int_equal(run_packet_send(&packet, ours, -1), -EPIPE);
}

static void test_half_hang_up(void **state) {
        RunPacket packet;

        assert_int_equal(shutdown(theirs, SHUT_WR), 0);
        assert_int_equal(run_packet_receive(&packet, ours, NULL), 0);
        run_packet_begin(&packet, "ended");
        assert_int_equal(run_packet_send(&packet, ours, -1), 0);
        assert_int_equal(run_packet_receive(&packet, theirs, NULL), 1);
}

/* The other side closed with something unread: a reset, which is a hang-up like any other, after
 * the last words. */
static void test_reset(void **state) {
        RunPacket packet;

        send_raw("ended\nstatus=0\n", 15, 0);
        run_packet_begin(&packet, "go");
        assert_int_equal(run_packet_send(&packet, ours, -1), 0);
        close(theirs);
        theirs = -1;
        assert_int_equal(run_packet_receive(&packet, ours, NULL), 1);
        assert_string_equal(packet.word, "ended");
        assert_int_equal(run_packet_receive(&packet, ours, NULL), 0);
}

int main(void) {
#define CASE(name) cmocka_unit_test_setup_teardown(name, connect_both, disconnect_both)
        const struct CMUnitTest tests[] = {
                CASE(test_round_trip), CASE(test_values_stay_values),
                CASE(test_malformed),  CASE(test_size),
                CASE(test_overflow),   CASE(test_edge),
                CASE(test_descriptor), CASE(test_descriptors_refused),
                CASE(test_hang_up),    CASE(test_half_hang_up),
                CASE(test_reset),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
