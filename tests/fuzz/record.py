#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""Records what the kernel answers about real rulesets and connections, as a corpus of fuzz-ruleset.

    sudo tools/lib/isolate.py record /usr/bin/python3 tests/fuzz/record.py DIRECTORY

Each file holds the messages of the dumps that posternd asks for, one after the other.
"""

import ctypes
import os
import socket
import struct
import subprocess
import sys
from pathlib import Path

CLONE_NEWNET = 0x40000000
NETLINK_NETFILTER, NETLINK_SOCK_DIAG = 12, 4
NFTABLES, CTNETLINK = 10 << 8, 1 << 8
GETTABLE, GETCHAIN, GETRULE, GETSET, GETSETELEM = (NFTABLES | n for n in (1, 4, 7, 10, 13))
CT_GET = CTNETLINK | 1
SOCK_DIAG_BY_FAMILY = 20
ACK_DUMP = 0x001 | 0x300
DONE, ERROR = 3, 2
NFPROTO_INET = 1

DEFAULT_DENY = """
table inet filter {
    chain input {
        type filter hook input priority 0; policy drop;
        ct state established,related accept
        iif lo accept
        meta l4proto { icmp, ipv6-icmp } accept
        ip saddr 203.0.113.81 tcp dport 80 accept
        ip6 saddr 2001:db8:1::81 tcp dport 80 accept
    }
}
"""

# what posternd puts up, as nft writes it, in a host's ruleset
OPEN_WINDOW = """
table inet filter {
    chain input {
        type filter hook input priority 0; policy drop;
        ct state established,related accept
        ct label 2 meta priority 1:2345 ct label set 11 counter accept comment "postern:gate"
    }
}
table inet postern {
    set w0123456789ab {
        type inet_proto . inet_service; flags timeout; timeout 10m; size 64
        elements = { tcp . 80 timeout 10m, udp . 443 timeout 10m }
    }
    chain input { type filter hook input priority -2147483648; jump windows; }
    chain windows {
        ct state new meta l4proto . th dport @w0123456789ab jump candidate
        ct label 2 meta l4proto . th dport @w0123456789ab meta priority set 1:2345
    }
    chain candidate {
        meta l4proto tcp tcp flags & (fin|syn|rst|ack) != syn return
        limit rate 200/second burst 400 packets ct label set 2
    }
    chain admitted {
        type filter hook input priority 2147483645;
        ct state new ct label 11 meta l4proto . th dport @w0123456789ab counter comment "w0123456789ab"
    }
}
table inet postern_guard {
    chain early {
        type filter hook input priority -2147483647;
        ct label 11 ct direction original meta priority != 1:2345 meta l4proto tcp reject with tcp reset
    }
    chain late {
        type filter hook input priority 2147483646;
        ct state new ct label 11 counter
        meta priority 1:2345 meta priority set 0:0
    }
}
"""

JUMPS = """
table ip6 other {
    chain input { type filter hook input priority 10; jump a; goto b; }
    chain a { tcp dport 22 accept; tcp dport 23 goto b; return; }
    chain b { limit rate 5/second log; meta l4proto tcp reject with tcp reset; reject; }
}
table inet filter {
    counter named { }
    limit slow { rate 5/second }
    quota much { over 1 mbytes }
    map verdicts { type inet_service : verdict; elements = { 80 : drop } }
    chain input {
        type filter hook input priority 0;
        iifname "wan0" jump wan
        tcp dport vmap @verdicts
        counter name named
        limit name slow drop
        quota name much reject
        ip protocol tcp reject with tcp reset
        ip6 nexthdr udp drop
        drop
    }
    chain wan { ct mark 1 accept; drop; }
    chain forward { type filter hook forward priority 0; policy drop; }
}
table inet sleeping { flags dormant; chain input { type filter hook input priority 0; policy drop; }
}
table bridge b { chain c { type filter hook input priority 0; policy drop; }
}
table arp a { chain c { type filter hook input priority 0; policy drop; }
}
"""

EARLY = """
table inet raw {
    chain prerouting { type filter hook prerouting priority -300; notrack; }
}
table netdev n {
    chain ingress { type filter hook ingress device lo priority 0; policy drop; }
}
"""

# what is asked for single elements, before the input hook and behind it
SETS = """
table inet early {
    set blocked { type ipv4_addr; flags interval; elements = { 192.0.2.0/24 } }
    set ports { type inet_proto . inet_service; elements = { tcp . 80, udp . 53 } }
    map fates { type inet_service : verdict; elements = { 80 : accept, 53 : goto wan } }
    map elsewhere { type inet_service : inet_service; elements = { 53 : 5353 } }
    chain prerouting {
        type filter hook prerouting priority -300
        ip saddr @blocked drop
        meta l4proto . th dport @ports counter
        udp dport vmap @fates
    }
    chain dstnat {
        type nat hook prerouting priority -100
        meta l4proto udp redirect to : udp dport map @elsewhere
    }
    chain wan { iifname { "wan0", "wan1" } drop; }
    chain input { type filter hook input priority 0; policy drop; tcp dport vmap @fates; }
}
"""

EARLY_DENIAL = """
table inet early { chain prerouting { type filter hook prerouting priority -300; drop; }
}
table inet i { chain ingress { type filter hook ingress device lo priority 0; tcp dport 1 drop; }
}
"""

FIREWALLD = """
table inet firewalld {
    chain filter_INPUT {
        type filter hook input priority 10;
        ct state established,related accept
        jump filter_INPUT_ZONES
        ct state invalid drop
        reject with icmpx admin-prohibited
    }
    chain filter_INPUT_ZONES { iifname "eth0" goto filter_IN_public; goto filter_IN_public; }
    chain filter_IN_public {
        jump filter_IN_public_pre
        jump filter_IN_public_deny
        meta l4proto { icmp, ipv6-icmp } accept
    }
    chain filter_IN_public_pre { }
    chain filter_IN_public_deny { }
}
"""

IPTABLES = """
*filter
:INPUT DROP [0:0]
:ufw-before-input - [0:0]
:ufw-user-input - [0:0]
-A INPUT -j ufw-before-input
-A INPUT -j ufw-user-input
-A ufw-before-input -i lo -j ACCEPT
-A ufw-before-input -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT
-A ufw-before-input -p udp --sport 67 --dport 68 -j ACCEPT
-A ufw-user-input -p tcp -m limit --limit 3/min -j LOG --log-prefix "[UFW LIMIT BLOCK] "
-A ufw-user-input -p tcp -j REJECT --reject-with tcp-reset
-A ufw-user-input -m connlabel --label 9 -j ACCEPT
-A ufw-user-input -j REJECT --reject-with icmp-port-unreachable
COMMIT
*nat
:PREROUTING ACCEPT [0:0]
:DOCKER - [0:0]
-A PREROUTING -m addrtype --dst-type LOCAL -j DOCKER
-A DOCKER -p tcp --dport 8080 -j DNAT --to-destination 172.17.0.2:80
COMMIT
"""

# and what iptables-restore makes of a ruleset that was saved during a window
UFW = """
*filter
:INPUT DROP [0:0]
:ufw-before-input - [0:0]
:ufw-not-local - [0:0]
:ufw-user-input - [0:0]
-A INPUT -j ufw-before-input
-A INPUT -m comment --comment "what is left" -j NFQUEUE
-A ufw-before-input -j ufw-not-local
-A ufw-before-input -j ufw-user-input
-A ufw-not-local -m addrtype --dst-type LOCAL -j RETURN
-A ufw-not-local -m hashlimit --hashlimit-name n --hashlimit-above 3/min -j DROP
-A ufw-not-local -j DROP
-A ufw-user-input -s 192.0.2.7 -j DROP
-A ufw-user-input -m connlabel --label 3 -m connlabel --label 4 --set -m comment --comment "postern:gate" -j ACCEPT
COMMIT
*raw
-A PREROUTING -p udp -j CT --notrack
COMMIT
"""

SETS_OF = {
    "open-window": [("postern", "w0123456789ab")],
    "jumps": [("filter", "verdicts")],
    "sets": [("early", name) for name in ("blocked", "ports", "fates", "elsewhere")],
}

# connections that a window let in: established, half closed, over both families
CONNECTIONS = """
table inet t {
    chain input { type filter hook input priority -10; ct label set 11; }
}
"""


def dump(request: int, family: int = 0, payload: bytes = b"", protocol: int = NETLINK_NETFILTER) -> bytes:
    """The messages of one dump, without what ends it."""
    body = payload or struct.pack("=BBH", family, 0, 0)
    answer = b""
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, protocol) as sock:
        sock.bind((0, 0))
        sock.send(struct.pack("=IHHII", 16 + len(body), request, ACK_DUMP, 1, 0) + body)
        while True:
            data = sock.recv(1 << 17)
            while data:
                length, kind = struct.unpack_from("=IH", data)
                if kind in (DONE, ERROR):
                    return answer
                answer += data[:length].ljust((length + 3) & ~3, b"\0")
                data = data[(length + 3) & ~3 :]


def attribute(kind: int, value: bytes) -> bytes:
    return (struct.pack("=HH", 4 + len(value), kind) + value).ljust((4 + len(value) + 3) & ~3, b"\0")


def ruleset() -> bytes:
    return b"".join(dump(kind) for kind in (GETTABLE, GETCHAIN, GETRULE, GETSET))


def dump_elements(table: str, name: str) -> bytes:
    names = attribute(1, table.encode() + b"\0") + attribute(2, name.encode() + b"\0")
    return dump(GETSETELEM, payload=struct.pack("=BBH", NFPROTO_INET, 0, 0) + names)


def run(*command: str, text: str) -> None:
    subprocess.run(command, input=text, text=True, check=True)


def connections() -> bytes:
    sockets = []
    for family, host in ((socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1")):
        server = socket.create_server((host, 8000 + family), family=family)
        sockets += [server, socket.create_connection((host, 8000 + family))]
        udp = socket.socket(family, socket.SOCK_DGRAM)
        udp.sendto(b"x", (host, 9000))
        sockets.append(udp)
    # struct inet_diag_req_v2: of TCP, every state, no address
    request = struct.pack("=BBBBI", socket.AF_INET, socket.IPPROTO_TCP, 0, 0, 0xFFFFFFFF) + bytes(48)
    answer = dump(CT_GET) + dump(SOCK_DIAG_BY_FAMILY, payload=request, protocol=NETLINK_SOCK_DIAG)
    for each in sockets:
        each.close()
    return answer


def main() -> None:
    directory = Path(sys.argv[1])
    libc = ctypes.CDLL(None, use_errno=True)
    rulesets = {
        "default-deny": DEFAULT_DENY,
        "open-window": OPEN_WINDOW,
        "jumps": JUMPS,
        "notrack": EARLY,
        "denied-early": EARLY_DENIAL,
        "sets": SETS,
        "firewalld": FIREWALLD,
    }
    for name, text in rulesets.items():
        assert libc.unshare(CLONE_NEWNET) == 0, os.strerror(ctypes.get_errno())
        run("nft", "-f", "-", text=text)
        elements = b"".join(dump_elements(*where) for where in SETS_OF.get(name, ()))
        (directory / name).write_bytes(ruleset() + elements)

    for name, text in {"iptables-nft": IPTABLES, "ufw": UFW}.items():
        assert libc.unshare(CLONE_NEWNET) == 0
        run("iptables-nft-restore", text=text)
        (directory / name).write_bytes(ruleset())

    assert libc.unshare(CLONE_NEWNET) == 0
    run("ip", "link", "set", "lo", "up", text="")
    run("nft", "-f", "-", text=CONNECTIONS)
    (directory / "connections").write_bytes(connections())


if __name__ == "__main__":
    main()
