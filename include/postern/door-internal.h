/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once

/* door-internal: what the files of door share and nobody else sees. */

#include <postern/door.h>
#include <postern/installation.h>

Installation *door_installation(Door *door);
