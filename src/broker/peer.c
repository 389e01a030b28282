/* SPDX-License-Identifier: GPL-2.0-or-later */

/*
 * One Peer per watched unique name, however many requests and windows hold it. One match rule,
 * which is older than any of them, tells of everybody who leaves: a bus grants a connection only so
 * many rules, and one for each caller could be used up by those who come and go.
 */

#include <errno.h>
#include <postern/cleanup.h>
#include <postern/log.h>
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
        sd_bus_slot *uid_question;
        sd_bus_slot *owner_question;
        char name[];
};

struct Peers {
        sd_bus *bus;
        PeerCallback callback;
        void *userdata;
        sd_bus_slot *match;
        bool is_blind; /* the bus did not take the rule */
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

static int peers_on_owner_changed(sd_bus_message *message, void *userdata, sd_bus_error *error) {
        const char *sender = sd_bus_message_get_sender(message), *name, *new_owner;
        Peers *peers = userdata;
        Peer *peer;

        if (!sender || strcmp(sender, DRIVER_NAME) != 0)
                return 0;
        if (sd_bus_message_read(message, "sss", &name, NULL, &new_owner) < 0 || *new_owner)
                return 0;
        peer = peer_find(peers, name);
        if (!peer)
                return 0;

        /* without memory to ask, the signal itself must do: its sender has been looked at */
        if (peer_ask_owner(peer) < 0)
                peer_tell(peer, PEER_GONE);
        return 0;
}

static int peers_on_match(sd_bus_message *reply, void *userdata, sd_bus_error *error) {
        Peers *peers = userdata;
        Peer *next;

        if (!sd_bus_message_is_method_error(reply, NULL))
                return 0;
        log_error("The bus does not tell who leaves, so nobody is served: %s",
                  sd_bus_message_get_error(reply)->name);
        peers->is_blind = true;
        for (Peer *peer = peers->first; peer; peer = next) {
                next = peer->next;
                peer_tell(peer, PEER_UNKNOWN);
        }
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

int peer_hold(Peers *peers, const char *name) {
        Peer *peer = peer_find(peers, name);
        size_t size = strlen(name) + 1;
        int r;

        if (peer) {
                peer->n_holds++;
                return 0;
        }
        if (peers->is_blind)
                return -ENOTCONN;
        if (peers->n_peers >= PEERS_MAX)
                return -EUSERS;

        peer = calloc(1, sizeof(*peer) + size);
        if (!peer)
                return -ENOMEM;
        peer->peers = peers;
        peer->n_holds = 1;
        peer->uid = UID_NOBODY_KNOWN;
        memcpy(peer->name, name, size);

        r = sd_bus_call_method_async(peers->bus, &peer->uid_question, DRIVER_NAME, DRIVER_PATH,
                                     DRIVER_INTERFACE, "GetConnectionUnixUser", peer_on_uid, peer,
                                     "s", peer->name);
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
        int r;

        if (!peers)
                return -ENOMEM;
        peers->bus = sd_bus_ref(bus);
        peers->callback = callback;
        peers->userdata = userdata;
        r = sd_bus_add_match_async(bus, &peers->match,
                                   "type='signal',sender='" DRIVER_NAME "',path='" DRIVER_PATH
                                   "',interface='" DRIVER_INTERFACE
                                   "',member='NameOwnerChanged',arg2=''",
                                   peers_on_owner_changed, peers_on_match, peers);
        if (r < 0) {
                peers_free(peers);
                return r;
        }
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
        sd_bus_slot_unref(peers->match);
        sd_bus_unref(peers->bus);
        free(peers);
        return NULL;
}
