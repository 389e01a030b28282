/* SPDX-License-Identifier: GPL-2.0-or-later */

/*
 * One Peer per watched unique name, however many requests and windows hold it. Its match rule is
 * sent before the question for its uid, so a caller that leaves in between is found out by either.
 */

#include <errno.h>
#include <postern/cleanup.h>
#include <postern/peer.h>
#include <string.h>

#define DRIVER_NAME      "org.freedesktop.DBus"
#define DRIVER_PATH      "/org/freedesktop/DBus"
#define DRIVER_INTERFACE "org.freedesktop.DBus"

typedef struct Peer Peer;

struct Peer {
        Peers *peers;
        Peer *next;
        unsigned n_holds;
        uid_t uid;
        bool ask_again; /* another sign while the driver was being asked */
        sd_bus_slot *match;
        sd_bus_slot *uid_question;
        sd_bus_slot *owner_question;
        char name[];
};

struct Peers {
        sd_bus *bus;
        PeerCallback callback;
        void *userdata;
        Peer *first;
        unsigned n_peers;
};

static int peer_ask_owner(Peer *peer);

static Peer *peer_find(Peers *peers, const char *name) {
        for (Peer *peer = peers->first; peer; peer = peer->next)
                if (strcmp(peer->name, name) == 0)
                        return peer;
        return NULL;
}

static Peer *peer_free(Peer *peer) {
        sd_bus_slot_unref(peer->match);
        sd_bus_slot_unref(peer->uid_question);
        sd_bus_slot_unref(peer->owner_question);
        free(peer);
        return NULL;
}

/* Held meanwhile: who is told may let go of it. */
static void peer_tell(Peer *peer, PeerNews news) {
        Peers *peers = peer->peers;

        peer->n_holds++;
        peers->callback(peer->name, news, peers->userdata);
        peer_release(peers, peer->name);
}

/* Only a plain yes is one: whom the driver cannot be asked about is as good as gone. */
static int peer_on_owner(sd_bus_message *reply, void *userdata, sd_bus_error *error) {
        Peer *peer = userdata;

        peer->owner_question = sd_bus_slot_unref(peer->owner_question);

        if (sd_bus_message_is_method_error(reply, NULL))
                peer_tell(peer, PEER_GONE);
        else if (!peer->ask_again)
                peer_tell(peer, PEER_STAYS);
        else if (peer_ask_owner(peer) < 0) /* this answer may be older than the last sign */
                peer_tell(peer, PEER_GONE);
        return 0;
}

static int peer_ask_owner(Peer *peer) {
        if (peer->owner_question) {
                peer->ask_again = true;
                return 0;
        }

        peer->ask_again = false;
        return sd_bus_call_method_async(peer->peers->bus, &peer->owner_question, DRIVER_NAME,
                                        DRIVER_PATH, DRIVER_INTERFACE, "GetNameOwner",
                                        peer_on_owner, peer, "s", peer->name);
}

static int peer_on_owner_changed(sd_bus_message *message, void *userdata, sd_bus_error *error) {
        Peer *peer = userdata;
        const char *sender = sd_bus_message_get_sender(message), *name, *new_owner;

        if (!sender || strcmp(sender, DRIVER_NAME) != 0)
                return 0;
        if (sd_bus_message_read(message, "sss", &name, NULL, &new_owner) < 0)
                return 0;
        if (strcmp(name, peer->name) != 0 || *new_owner)
                return 0;

        /* without memory to ask, the signal itself must do: its sender has been looked at */
        if (peer_ask_owner(peer) < 0)
                peer_tell(peer, PEER_GONE);
        return 0;
}

static int peer_on_match(sd_bus_message *reply, void *userdata, sd_bus_error *error) {
        Peer *peer = userdata;

        /* not watched: a holder whose leaving nobody would notice is worse than none */
        if (sd_bus_message_is_method_error(reply, NULL))
                peer_tell(peer, PEER_UNKNOWN);
        return 0;
}

static int peer_on_uid(sd_bus_message *reply, void *userdata, sd_bus_error *error) {
        Peer *peer = userdata;
        const sd_bus_error *failure = sd_bus_message_get_error(reply);
        uint32_t uid;

        peer->uid_question = sd_bus_slot_unref(peer->uid_question);

        if (failure && sd_bus_error_has_name(failure, SD_BUS_ERROR_NAME_HAS_NO_OWNER))
                peer_tell(peer, PEER_GONE);
        else if (failure || sd_bus_message_read(reply, "u", &uid) < 0 || uid == UID_NOBODY_KNOWN)
                peer_tell(peer, PEER_UNKNOWN);
        else {
                peer->uid = uid;
                peer_tell(peer, PEER_KNOWN);
        }
        return 0;
}

static int peer_watch(Peer *peer) {
        _cleanup_free_ char *rule = NULL;
        int r;

        if (asprintf(&rule,
                     "type='signal',sender='" DRIVER_NAME "',path='" DRIVER_PATH
                     "',interface='" DRIVER_INTERFACE "',member='NameOwnerChanged',arg0='%s'",
                     peer->name) < 0) {
                rule = NULL;
                return -ENOMEM;
        }

        r = sd_bus_add_match_async(peer->peers->bus, &peer->match, rule, peer_on_owner_changed,
                                   peer_on_match, peer);
        if (r < 0)
                return r;

        return sd_bus_call_method_async(peer->peers->bus, &peer->uid_question, DRIVER_NAME,
                                        DRIVER_PATH, DRIVER_INTERFACE, "GetConnectionUnixUser",
                                        peer_on_uid, peer, "s", peer->name);
}

int peer_hold(Peers *peers, const char *name) {
        Peer *peer = peer_find(peers, name);
        size_t size = strlen(name) + 1;
        int r;

        if (peer) {
                peer->n_holds++;
                return 0;
        }
        if (peers->n_peers >= PEERS_MAX)
                return -EUSERS;

        peer = calloc(1, sizeof(*peer) + size);
        if (!peer)
                return -ENOMEM;
        peer->peers = peers;
        peer->n_holds = 1;
        peer->uid = UID_NOBODY_KNOWN;
        memcpy(peer->name, name, size);

        r = peer_watch(peer);
        if (r < 0) {
                peer_free(peer);
                return r;
        }

        peer->next = peers->first;
        peers->first = peer;
        peers->n_peers++;
        return 0;
}

void peer_release(Peers *peers, const char *name) {
        for (Peer **link = &peers->first; *link; link = &(*link)->next) {
                Peer *peer = *link;

                if (strcmp(peer->name, name) != 0)
                        continue;
                if (--peer->n_holds > 0)
                        return;
                *link = peer->next;
                peers->n_peers--;
                peer_free(peer);
                return;
        }
}

uid_t peer_get_uid(Peers *peers, const char *name) {
        Peer *peer = peer_find(peers, name);

        return peer ? peer->uid : UID_NOBODY_KNOWN;
}

bool peer_is_in_doubt(Peers *peers, const char *name) {
        Peer *peer = peer_find(peers, name);

        return !peer || peer->owner_question;
}

int peers_new(Peers **ret, sd_bus *bus, PeerCallback callback, void *userdata) {
        Peers *peers = calloc(1, sizeof(*peers));

        if (!peers)
                return -ENOMEM;
        peers->bus = sd_bus_ref(bus);
        peers->callback = callback;
        peers->userdata = userdata;
        *ret = peers;
        return 0;
}

Peers *peers_free(Peers *peers) {
        if (!peers)
                return NULL;
        while (peers->first) {
                Peer *peer = peers->first;

                peers->first = peer->next;
                peer_free(peer);
        }
        sd_bus_unref(peers->bus);
        free(peers);
        return NULL;
}
