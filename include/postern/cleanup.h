/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once

/* Cleanup attributes for locals: what a function owns is released on every way out. */

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#define _cleanup_(function) __attribute__((cleanup(function)))

/* Defines name##_cleanup(), for _cleanup_(), from a free function that takes NULL. */
#define DEFINE_CLEANUP(type, function)                                                             \
        static inline void function##_cleanup(type **object) {                                     \
                if (*object)                                                                       \
                        function(*object);                                                         \
        }                                                                                          \
        struct cleanup_needs_a_semicolon

static inline void free_cleanup(void *pointer) {
        free(*(void **) pointer);
}

static inline void close_cleanup(int *fd) {
        if (*fd >= 0)
                close(*fd);
}

static inline void fclose_cleanup(FILE **file) {
        if (*file)
                fclose(*file);
}

#define _cleanup_free_   _cleanup_(free_cleanup)
#define _cleanup_close_  _cleanup_(close_cleanup)
#define _cleanup_fclose_ _cleanup_(fclose_cleanup)

/* Hands a value over: the local is left empty, so its cleanup does nothing. */
#define TAKE_POINTER(pointer)                                                                      \
        ({                                                                                         \
                typeof(pointer) _taken = (pointer);                                                \
                (pointer) = NULL;                                                                  \
                _taken;                                                                            \
        })
#define TAKE_FD(fd)                                                                                \
        ({                                                                                         \
                int _taken = (fd);                                                                 \
                (fd) = -1;                                                                         \
                _taken;                                                                            \
        })

#define ELEMENTS(array) (sizeof(array) / sizeof((array)[0]))
