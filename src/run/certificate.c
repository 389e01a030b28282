/* SPDX-License-Identifier: GPL-2.0-or-later */

/* GnuTLS parses; here the file is only read, and its names taken, with bounds. */

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <gnutls/gnutls.h>
#include <gnutls/x509-ext.h>
#include <gnutls/x509.h>
#include <postern/cleanup.h>
#include <postern/run-certificate.h>
#include <string.h>
#include <sys/stat.h>

enum { FILE_MAX = 64 * 1024, SERIAL_BYTES_MAX = (CERTIFICATE_SERIAL_MAX - 1) / 2 };

DEFINE_CLEANUP(struct gnutls_x509_crt_int, gnutls_x509_crt_deinit);
DEFINE_CLEANUP(struct gnutls_subject_alt_names_st, gnutls_subject_alt_names_deinit);

static ssize_t read_file(const char *path, unsigned char *buffer, size_t size) {
        _cleanup_close_ int found = -1, fd = -1;
        char again[64];
        size_t used = 0;
        struct stat st;
        ssize_t n;

        /* Looked at before it is opened, for opening a device may do something. */
        found = open(path, O_PATH | O_CLOEXEC);
        if (found < 0 || fstat(found, &st) < 0)
                return -errno;
        if (!S_ISREG(st.st_mode))
                return -EINVAL;
        snprintf(again, sizeof(again), "/proc/self/fd/%d", found);
        fd = open(again, O_RDONLY | O_CLOEXEC);
        if (fd < 0)
                return -errno;
        while (used < size && (n = read(fd, buffer + used, size - used)) != 0) {
                if (n < 0)
                        return -errno;
                used += n;
        }
        return used;
}

/* 0: this is a name, or was one of a kind that nobody connects to. */
static int take_name(gnutls_subject_alt_names_t names, unsigned i, Certificate *certificate) {
        gnutls_datum_t name;
        char address[INET6_ADDRSTRLEN];
        unsigned type;
        int r;

        r = gnutls_subject_alt_names_get(names, i, &type, &name, NULL);
        if (r < 0)
                return r;
        if (type == GNUTLS_SAN_DNSNAME)
                certificate_add_name(certificate, (const char *) name.data, name.size);
        else if (type == GNUTLS_SAN_IPADDRESS && (name.size == 4 || name.size == 16) &&
                 inet_ntop(name.size == 4 ? AF_INET : AF_INET6, name.data, address,
                           sizeof(address)))
                certificate_add_name(certificate, address, strlen(address));
        else
                certificate->names_left_out++;
        return 0;
}

static void read_names(gnutls_x509_crt_t certificate, Certificate *ret) {
        _cleanup_(gnutls_subject_alt_names_deinit_cleanup) gnutls_subject_alt_names_t names = NULL;
        gnutls_datum_t extension = {};

        if (gnutls_x509_crt_get_extension_by_oid2(certificate, GNUTLS_X509EXT_OID_SAN, 0,
                                                  &extension, NULL) < 0)
                return;
        if (gnutls_subject_alt_names_init(&names) >= 0 &&
            gnutls_x509_ext_import_subject_alt_names(&extension, names, 0) >= 0)
                for (unsigned i = 0; take_name(names, i, ret) == 0; i++)
                        continue;
        gnutls_free(extension.data);
}

static uint64_t to_usec(time_t time) {
        return time > 0 ? (uint64_t) time * 1000000 : 0;
}

void certificate_read(const char *path, Certificate *ret) {
        _cleanup_(gnutls_x509_crt_deinit_cleanup) gnutls_x509_crt_t certificate = NULL;
        unsigned char serial[SERIAL_BYTES_MAX];
        _cleanup_free_ unsigned char *data = NULL;
        size_t serial_size = sizeof(serial), first = 0;
        time_t not_after;
        ssize_t size;

        *ret = (Certificate){};
        data = malloc(FILE_MAX);
        size = data ? read_file(path, data, FILE_MAX) : -ENOMEM;
        if (size <= 0 || gnutls_x509_crt_init(&certificate) < 0)
                return;
        /* Of several certificates in a file this takes the first. */
        if (gnutls_x509_crt_import(certificate, &(gnutls_datum_t){data, size},
                                   GNUTLS_X509_FMT_PEM) < 0 ||
            gnutls_x509_crt_get_serial(certificate, serial, &serial_size) < 0)
                return;
        not_after = gnutls_x509_crt_get_expiration_time(certificate);
        if (not_after == (time_t) -1)
                return;
        /* DER puts a zero before a number whose highest bit is set; people and openssl do not. */
        while (first + 1 < serial_size && serial[first] == 0)
                first++;
        for (size_t i = first; i < serial_size; i++)
                snprintf(ret->serial + 2 * (i - first), 3, "%02x", serial[i]);
        ret->not_before = to_usec(gnutls_x509_crt_get_activation_time(certificate));
        ret->not_after = to_usec(not_after);
        read_names(certificate, ret);
}
