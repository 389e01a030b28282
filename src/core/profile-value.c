/* SPDX-License-Identifier: GPL-2.0-or-later */

/*
 * Each syntax is read by hand, in ASCII, without the locale: strtoul() and its kin take signs,
 * blanks and hexadecimal that nobody who wrote a profile can have meant.
 */

#include <errno.h>
#include <postern/cleanup.h>
#include <postern/profile-value.h>
#include <string.h>

#define BLANKS " \t\r\n"

#define USEC_PER_MSEC ((uint64_t) 1000)
#define USEC_PER_SEC  (1000 * USEC_PER_MSEC)
#define USEC_PER_MIN  (60 * USEC_PER_SEC)
#define USEC_PER_HOUR (60 * USEC_PER_MIN)
#define USEC_PER_DAY  (24 * USEC_PER_HOUR)

static bool is_digit(char c) {
        return c >= '0' && c <= '9';
}

static bool is_letter(char c) {
        return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
}

static const char *skip_blanks(const char *text) {
        return text + strspn(text, BLANKS);
}

/* Moves *text behind the digits it points at; there may be none. False: too large. */
static bool read_digits(const char **text, uint64_t *ret) {
        uint64_t number = 0;

        for (; is_digit(**text); (*text)++)
                if (__builtin_mul_overflow(number, 10, &number) ||
                    __builtin_add_overflow(number, (uint64_t) (**text - '0'), &number))
                        return false;
        *ret = number;
        return true;
}

/* What systemd 252 takes. */
static const struct {
        const char *name;
        uint64_t usec;
} units[] = {
        {"usec", 1},
        {"us", 1},
        {"\xc2\xb5s", 1}, /* U+00B5 MICRO SIGN */
        {"\xce\xbcs", 1}, /* U+03BC GREEK SMALL LETTER MU */
        {"msec", USEC_PER_MSEC},
        {"ms", USEC_PER_MSEC},
        {"seconds", USEC_PER_SEC},
        {"second", USEC_PER_SEC},
        {"sec", USEC_PER_SEC},
        {"s", USEC_PER_SEC},
        {"", USEC_PER_SEC},
        {"minutes", USEC_PER_MIN},
        {"minute", USEC_PER_MIN},
        {"min", USEC_PER_MIN},
        {"m", USEC_PER_MIN},
        {"hours", USEC_PER_HOUR},
        {"hour", USEC_PER_HOUR},
        {"hr", USEC_PER_HOUR},
        {"h", USEC_PER_HOUR},
        {"days", USEC_PER_DAY},
        {"day", USEC_PER_DAY},
        {"d", USEC_PER_DAY},
        {"weeks", 7 * USEC_PER_DAY},
        {"week", 7 * USEC_PER_DAY},
        {"w", 7 * USEC_PER_DAY},
        {"months", 2629800 * USEC_PER_SEC},
        {"month", 2629800 * USEC_PER_SEC},
        {"M", 2629800 * USEC_PER_SEC},
        {"years", 31557600 * USEC_PER_SEC},
        {"year", 31557600 * USEC_PER_SEC},
        {"y", 31557600 * USEC_PER_SEC},
};

/* Moves *text behind the unit after a number, or leaves it where none is. 0: no such unit. */
static uint64_t read_unit(const char **text) {
        const char *start = skip_blanks(*text);
        size_t length = 0;

        while (is_letter(start[length]) || (unsigned char) start[length] >= 0x80)
                length++;
        /* "1.2.3" and "1,5" have something else there; "1 2" is 1 s and 2 s, as in systemd */
        if (length == 0 && **text && start == *text)
                return 0;

        for (size_t i = 0; i < ELEMENTS(units); i++)
                if (strlen(units[i].name) == length && strncmp(start, units[i].name, length) == 0) {
                        *text = start + length;
                        return units[i].usec;
                }
        return 0;
}

int value_parse_timespan(const char *text, uint64_t *ret_usec) {
        const char *p = skip_blanks(text);
        uint64_t total = 0;

        if (!*p)
                return -EINVAL;
        if (strncmp(p, "infinity", 8) == 0)
                return *skip_blanks(p + 8) ? -EINVAL : -ERANGE;

        for (; *p; p = skip_blanks(p)) {
                const char *fraction = NULL;
                uint64_t number, unit, scale;

                if (*p == '-' && is_digit(p[1]))
                        return -ERANGE;
                if (!is_digit(*p) && !(*p == '.' && is_digit(p[1])))
                        return -EINVAL;
                if (!read_digits(&p, &number))
                        return -ERANGE;
                if (*p == '.') {
                        fraction = ++p;
                        if (!is_digit(*p))
                                return -EINVAL;
                        while (is_digit(*p))
                                p++;
                }
                unit = read_unit(&p);
                if (unit == 0)
                        return -EINVAL;

                if (__builtin_mul_overflow(number, unit, &number) ||
                    __builtin_add_overflow(total, number, &total))
                        return -ERANGE;
                scale = unit / 10;
                for (; fraction && is_digit(*fraction); fraction++, scale /= 10)
                        if (__builtin_add_overflow(total, (uint64_t) (*fraction - '0') * scale,
                                                   &total))
                                return -ERANGE;
        }

        *ret_usec = total;
        return 0;
}

static int parse_port(const char *text, size_t length, Port *ret) {
        const char *p = text;
        uint64_t number;
        bool fits;
        Port port;

        fits = read_digits(&p, &number);
        if (!fits) /* it stopped within the number */
                while (is_digit(*p))
                        p++;
        if (p == text || (*text == '0' && p > text + 1))
                return -EINVAL;
        if (length != (size_t) (p - text) + strlen("/tcp"))
                return -EINVAL;
        if (strncmp(p, "/tcp", 4) == 0)
                port.protocol = PROTOCOL_TCP;
        else if (strncmp(p, "/udp", 4) == 0)
                port.protocol = PROTOCOL_UDP;
        else
                return -EINVAL;
        if (!fits || number < 1 || number > UINT16_MAX)
                return -ERANGE;

        port.number = (uint16_t) number;
        *ret = port;
        return 0;
}

int value_parse_ports(const char *text, Port ret[PROFILE_PORTS_MAX], size_t *ret_n) {
        static const char separators[] = BLANKS ",";
        Port ports[PROFILE_PORTS_MAX];
        const char *p = skip_blanks(text);
        size_t n = 0;
        int r;

        if (strncmp(p, "none", 4) == 0 && !*skip_blanks(p + 4)) {
                *ret_n = 0;
                return 0;
        }

        for (size_t length; *p; p += strspn(p, separators)) {
                size_t at = n;
                Port port;

                length = strcspn(p, separators);
                r = parse_port(p, length, &port);
                if (r < 0)
                        return r;
                p += length;

                while (at > 0 && port_compare(&port, &ports[at - 1]) < 0)
                        at--;
                if (at > 0 && port_compare(&port, &ports[at - 1]) == 0)
                        return -EEXIST;
                if (n == PROFILE_PORTS_MAX)
                        return -E2BIG;
                memmove(&ports[at + 1], &ports[at], (n - at) * sizeof(Port));
                ports[at] = port;
                n++;
        }
        if (n == 0)
                return -EINVAL;

        memcpy(ret, ports, n * sizeof(Port));
        *ret_n = n;
        return 0;
}

int value_parse_rate_limit(const char *text, unsigned *ret_count, uint64_t *ret_interval_usec) {
        const char *p = skip_blanks(text);
        uint64_t count, interval;
        int r;

        if (!is_digit(*p))
                return -EINVAL;
        if (!read_digits(&p, &count))
                return -ERANGE;
        if (*p != '/')
                return -EINVAL;
        r = value_parse_timespan(p + 1, &interval);
        if (r < 0)
                return r;
        if (count < 1 || count > 100 || interval < USEC_PER_SEC || interval > USEC_PER_DAY)
                return -ERANGE;

        *ret_count = (unsigned) count;
        *ret_interval_usec = interval;
        return 0;
}

bool value_is_user(const char *text) {
        const char *p = text;

        if (is_digit(*p)) {
                uint64_t uid;

                /* the last one is (uid_t) -1, which chown() and setresuid() take as "no change" */
                return read_digits(&p, &uid) && !*p && uid < UINT32_MAX &&
                       !(*text == '0' && p > text + 1);
        }

        if (!(*p >= 'a' && *p <= 'z') && *p != '_')
                return false;
        while ((*p >= 'a' && *p <= 'z') || is_digit(*p) || *p == '_' || *p == '-')
                p++;
        return !*p && p - text <= 32;
}

bool value_is_service(const char *text) {
        static const char suffix[] = ".service";
        size_t length = strlen(text), stem = strcspn(text, "@");

        if (length > PROFILE_UNIT_MAX || length < sizeof(suffix) ||
            strcmp(text + length - strlen(suffix), suffix) != 0)
                return false;
        for (size_t i = 0; i < length; i++)
                if (!is_letter(text[i]) && !is_digit(text[i]) && !strchr(":-_.\\@", text[i]))
                        return false;
        /* "@.service" ends a template's name */
        return stem > 0 && strcmp(text + stem, "@.service") != 0;
}

static bool is_nft_name(const char *text, size_t length) {
        if (length == 0 || length > 255) /* NFT_NAME_MAXLEN with its 0 */
                return false;
        if (!is_letter(*text) && *text != '_' && *text != '.')
                return false;
        for (size_t i = 0; i < length; i++)
                if (!is_letter(text[i]) && !is_digit(text[i]) && !strchr("_./-", text[i]))
                        return false;
        return true;
}

int value_parse_chain(const char *text, char **ret) {
        static const char *const families[] = {"inet", "ip", "ip6"};
        char chain[sizeof("inet  ") + 255 + 255 + 1] = "";
        const char *p = skip_blanks(text);
        size_t words = 0, used = 0;
        bool known = false;
        char *copy;

        for (; *p; p = skip_blanks(p), words++) {
                size_t length = strcspn(p, BLANKS);

                if (words == 0)
                        for (size_t i = 0; i < ELEMENTS(families); i++)
                                known |= strlen(families[i]) == length &&
                                         strncmp(p, families[i], length) == 0;
                if (!known || words > 2 || !is_nft_name(p, length))
                        return -EINVAL;

                if (words > 0)
                        chain[used++] = ' ';
                memcpy(chain + used, p, length);
                used += length;
                p += length;
        }
        if (words != 3)
                return -EINVAL;

        copy = strdup(chain);
        if (!copy)
                return -ENOMEM;
        *ret = copy;
        return 0;
}
