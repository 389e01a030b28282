/* SPDX-License-Identifier: GPL-2.0-or-later */

/* GnuTLS parses; here the file is only read with bounds. */

#include <errno.h>
#include <fcntl.h>
#include <gnutls/gnutls.h>
#include <gnutls/x509.h>
#include <postern/cleanup.h>
#include <postern/run-certificate.h>
#include <string.h>
#include <sys/stat.h>

enum { FILE_MAX = 64 * 1024, SERIAL_BYTES_MAX = (CERTIFICATE_SERIAL_MAX - 1) / 2 };

DEFINE_CLEANUP(struct gnutls_x509_crt_int, gnutls_x509_crt_deinit);

static ssize_t read_file(const char *path, unsigned char *buffer, size_t size) {
        _cleanup_close_ int fd = -1;
        size_t used = 0;
        struct stat st;
        ssize_t n;

        fd = open(path, O_RDONLY | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
        if (fd < 0 || fstat(fd, &st) < 0)
                return -errno;
        if (!S_ISREG(st.st_mode))
                return -EINVAL;
        while (used < size && (n = read(fd, buffer + used, size - used)) != 0) {
                if (n < 0)
                        return -errno;
                used += n;
        }
        return used;
}

void certificate_read(const char *path, Certificate *ret) {
        _cleanup_(gnutls_x509_crt_deinit_cleanup) gnutls_x509_crt_t certificate = NULL;
        unsigned char serial[SERIAL_BYTES_MAX];
        _cleanup_free_ unsigned char *data = NULL;
        size_t serial_size = sizeof(serial);
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
        for (size_t i = 0; i < serial_size; i++)
                snprintf(ret->serial + 2 * i, 3, "%02x", serial[i]);
        ret->not_after = not_after;
}
