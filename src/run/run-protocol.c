/* SPDX-License-Identifier: GPL-2.0-or-later */

/* Packets of text, written with bounds and parsed without trust. */

#include <ctype.h>
#include <errno.h>
#include <inttypes.h>
#include <postern/cleanup.h>
#include <postern/cursor.h>
#include <postern/run-protocol.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>

static const char *const verbs[] = {
        [RUN_RENEW] = "renew",
        [RUN_GATE_OPEN] = "gate-open",
        [RUN_GATE_CLOSE] = "gate-close",
};

const char *run_verb_to_string(RunVerb verb) {
        return verbs[verb];
}

int run_verb_from_string(const char *word, RunVerb *ret) {
        for (size_t i = 0; i < ELEMENTS(verbs); i++)
                if (strcmp(verbs[i], word) == 0) {
                        *ret = (RunVerb) i;
                        return 0;
                }
        return -EINVAL;
}

int run_name(RunVerb verb, const char *window, char ret[RUN_NAME_MAX]) {
        static const char *const suffixes[] = {
                [RUN_RENEW] = "",
                [RUN_GATE_OPEN] = "open",
                [RUN_GATE_CLOSE] = "close",
        };
        size_t length = strspn(window, "abcdefghijklmnopqrstuvwxyz0123456789");

        if (length == 0 || window[length] || length + strlen(suffixes[verb]) >= RUN_NAME_MAX)
                return -EINVAL;
        (void) snprintf(ret, RUN_NAME_MAX, "%s%s", window, suffixes[verb]);
        return 0;
}

static bool is_word(const char *text) {
        if (!*text)
                return false;
        for (; *text; text++)
                if (!islower((unsigned char) *text) && *text != '_' && *text != '-')
                        return false;
        return true;
}

void run_packet_begin(RunPacket *packet, const char *word) {
        size_t n = snprintf(packet->buffer, sizeof(packet->buffer), "%s\n", word);

        /* one as large as the buffer has been cut: its 0 takes the place of the newline */
        packet->size = n < sizeof(packet->buffer) ? n : sizeof(packet->buffer) + 1;
        packet->n_fields = 0;
        packet->word = NULL;
}

void run_packet_add(RunPacket *packet, const char *key, const char *format, ...) {
        size_t room = sizeof(packet->buffer) - packet->size, begin;
        va_list arguments;
        int n;

        if (packet->size > sizeof(packet->buffer))
                return; /* full already */
        n = snprintf(packet->buffer + packet->size, room, "%s=", key);
        if (n < 0 || (size_t) n >= room)
                goto full;
        begin = packet->size + n;
        room -= n;
        va_start(arguments, format);
        n = vsnprintf(packet->buffer + begin, room, format, arguments);
        va_end(arguments);
        if (n < 0 || (size_t) n + 1 >= room)
                goto full;
        for (size_t i = begin; i < begin + n; i++)
                if (!isprint((unsigned char) packet->buffer[i]))
                        packet->buffer[i] = '?';
        packet->buffer[begin + n] = '\n';
        packet->size = begin + n + 1;
        return;

full:
        packet->size = sizeof(packet->buffer) + 1; /* seen when it is sent */
}

int run_packet_send(const RunPacket *packet, int socket_fd, int fd) {
        union {
                struct cmsghdr header;
                char space[CMSG_SPACE(sizeof(int))];
        } control = {};
        struct iovec data = {
                .iov_base = (void *) packet->buffer,
                .iov_len = packet->size,
        };
        struct msghdr message = {
                .msg_iov = &data,
                .msg_iovlen = 1,
        };
        ssize_t n;

        if (packet->size > sizeof(packet->buffer))
                return -ENOBUFS;
        if (fd >= 0) {
                message.msg_control = &control;
                message.msg_controllen = sizeof(control);
                control.header = (struct cmsghdr){
                        .cmsg_level = SOL_SOCKET,
                        .cmsg_type = SCM_RIGHTS,
                        .cmsg_len = CMSG_LEN(sizeof(int)),
                };
                memcpy(CMSG_DATA(&control.header), &fd, sizeof(fd));
        }
        do
                n = sendmsg(socket_fd, &message, MSG_NOSIGNAL);
        while (n < 0 && errno == EINTR);
        return n < 0 ? -errno : 0;
}

/* Cuts "word\nkey=value\n..." in place. */
static int parse(RunPacket *packet) {
        char *line = packet->buffer, *end = packet->buffer + packet->size, *newline, *equals;

        packet->n_fields = 0;
        packet->word = NULL;
        for (char *c = line; c < end; c++)
                if (*c != '\n' && !isprint((unsigned char) *c))
                        return -EBADMSG;
        for (; line < end; line = newline + 1) {
                newline = memchr(line, '\n', end - line);
                if (!newline)
                        return -EBADMSG;
                *newline = 0;
                if (!packet->word) {
                        if (!is_word(line))
                                return -EBADMSG;
                        packet->word = line;
                        continue;
                }
                equals = strchr(line, '=');
                if (!equals || packet->n_fields == RUN_FIELDS_MAX)
                        return -EBADMSG;
                *equals = 0;
                if (!is_word(line) || run_packet_get(packet, line))
                        return -EBADMSG;
                packet->fields[packet->n_fields].key = line;
                packet->fields[packet->n_fields].value = equals + 1;
                packet->n_fields++;
        }
        return packet->word ? 0 : -EBADMSG;
}

/* Takes the descriptors out; those that nobody wants are closed. */
static int take_descriptors(struct msghdr *message, int *ret_fd, unsigned *ret_count) {
        struct cmsghdr *header;

        *ret_count = 0;
        for (header = CMSG_FIRSTHDR(message); header; header = CMSG_NXTHDR(message, header)) {
                if (header->cmsg_level != SOL_SOCKET || header->cmsg_type != SCM_RIGHTS)
                        continue;
                for (size_t i = 0; i < (header->cmsg_len - CMSG_LEN(0)) / sizeof(int); i++) {
                        int fd;

                        memcpy(&fd, CMSG_DATA(header) + i * sizeof(int), sizeof(fd));
                        if ((*ret_count)++ == 0)
                                *ret_fd = fd;
                        else
                                close(fd);
                }
        }
        return message->msg_flags & (MSG_TRUNC | MSG_CTRUNC) ? -EBADMSG : 0;
}

int run_packet_receive(RunPacket *packet, int socket_fd, int *ret_fd) {
        union {
                struct cmsghdr header;
                char space[CMSG_SPACE(8 * sizeof(int))];
        } control = {};
        struct iovec data = {
                .iov_base = packet->buffer,
                .iov_len = sizeof(packet->buffer),
        };
        struct msghdr message = {
                .msg_iov = &data,
                .msg_iovlen = 1,
                .msg_control = &control,
                .msg_controllen = sizeof(control),
        };
        _cleanup_close_ int fd = -1;
        unsigned n_fds;
        ssize_t n;
        int r;

        /* The other side left without having read everything: the kernel says so once, ahead of
         * what that side may have said before. */
        do
                n = recvmsg(socket_fd, &message, MSG_CMSG_CLOEXEC);
        while (n < 0 && (errno == EINTR || errno == ECONNRESET));
        if (n < 0)
                return -errno;
        r = take_descriptors(&message, &fd, &n_fds);
        if (r < 0 || n_fds > 1 || (n_fds > 0 && !ret_fd))
                return -EBADMSG;
        if (n == 0)
                return 0;
        packet->size = n;
        r = parse(packet);
        if (r < 0)
                return r;
        if (ret_fd)
                *ret_fd = TAKE_FD(fd);
        return 1;
}

const char *run_packet_get(const RunPacket *packet, const char *key) {
        for (size_t i = 0; i < packet->n_fields; i++)
                if (strcmp(packet->fields[i].key, key) == 0)
                        return packet->fields[i].value;
        return NULL;
}

static void add_seconds(RunPacket *packet, const char *key, uint64_t usec) {
        run_packet_add(packet, key, "%" PRIu64, usec / 1000000);
}

void run_packet_add_certificates(RunPacket *packet, const Certificate *before,
                                 const Certificate *after) {
        run_packet_add(packet, "serial_before", "%s", before->serial);
        add_seconds(packet, "not_after_before", before->not_after);
        run_packet_add(packet, "serial_after", "%s", after->serial);
        add_seconds(packet, "not_after_after", after->not_after);
        add_seconds(packet, "not_before", after->not_before);
        run_packet_add(packet, "names", "%s", after->names);
        run_packet_add(packet, "names_left_out", "%" PRIu32, after->names_left_out);
}

uint64_t run_packet_get_number(const RunPacket *packet, const char *key, uint64_t max) {
        const char *text = run_packet_get(packet, key);
        Cursor cursor;
        uint64_t value;

        if (!text)
                return 0;
        cursor = (Cursor){text, text + strlen(text)};
        return cursor_take_number(&cursor, &value) && cursor.at == cursor.end && value <= max
                       ? value
                       : 0;
}

static uint64_t get_seconds(const RunPacket *packet, const char *key) {
        return run_packet_get_number(packet, key, CURSOR_NUMBER_MAX / 1000000) * 1000000;
}

static void get_serial(const RunPacket *packet, const char *key, char ret[CERTIFICATE_SERIAL_MAX]) {
        const char *serial = run_packet_get(packet, key);

        if (serial && certificate_serial_is_valid(serial))
                memcpy(ret, serial, strlen(serial) + 1);
}

void run_packet_get_certificates(const RunPacket *packet, Certificate *ret_before,
                                 Certificate *ret_after) {
        const char *names = run_packet_get(packet, "names");

        *ret_before = *ret_after = (Certificate){};
        get_serial(packet, "serial_before", ret_before->serial);
        ret_before->not_after = get_seconds(packet, "not_after_before");
        get_serial(packet, "serial_after", ret_after->serial);
        ret_after->not_after = get_seconds(packet, "not_after_after");
        ret_after->not_before = get_seconds(packet, "not_before");
        if (names && certificate_names_are_valid(names))
                memcpy(ret_after->names, names, strlen(names) + 1);
        ret_after->names_left_out =
                (uint32_t) run_packet_get_number(packet, "names_left_out", UINT32_MAX);
}
