# SPDX-License-Identifier: GPL-2.0-or-later
# shellcheck shell=bash disable=SC2034
# What tools/demo and tools/test share: the packages, and how to build. Sourced, with the current
# directory at the root of the checkout.

# to build the programs
build_packages=(
    gcc libc6-dev meson ninja-build pkg-config
    libsystemd-dev libmnl-dev libnftnl-dev libgnutls28-dev libjansson-dev
)
# where systemd says which directories are its own, from Debian 13 on
[[ $(. /etc/os-release && echo "${VERSION_ID:-}") == 12 ]] || build_packages+=(systemd-dev)
# to run them on a host of their own: firewall, bus, polkit, certificate authority, client
run_packages=(
    nftables netbase conntrack iproute2 util-linux procps
    dbus-daemon systemd polkitd
    certbot pebble openssl
    python3 python3-jeepney
)
# to test them
test_packages=(
    clang libcmocka-dev valgrind python3-pytest
    dbus # what dbus-daemon starts services with
    libclang-rt-dev llvm # for the fuzzers: what they are linked with, and names in their reports
    lego uacme dehydrated acme-tiny # ACME clients, each with an example of its own
    nginx-light # redirects an authority to HTTPS, as on many hosts
    python3-gi gir1.2-glib-2.0 # the example programs of docs/bus.md
    iptables ufw firewalld # what keeps a host shut, besides nftables itself
    bash-completion # loads postern's own
    man-db groff-base mandoc # render the manual pages, and complain about them
)

# to boot a host and install the package on it
host_packages=(
    debootstrap       # makes it
    systemd-container # boots it
    dpkg-dev debhelper fakeroot # build the package
    lintian git       # look at it; name its sources
)

die() {
    echo "${0##*/}: $*" >&2
    exit 1
}

step() {
    printf '\n== %s\n' "$*"
}

# not another Python's meson, nor another Python for meson
export PATH=/usr/sbin:/usr/bin:/sbin:/bin PYTHONDONTWRITEBYTECODE=1

need_root() {
    [[ $(id -u) -eq 0 ]] || die "must be run as root: it makes namespaces, firewalls and users"
}

# Installs those that are not there; asks the network only then.
install_packages() {
    local missing=() package
    for package in "$@"; do
        [[ $(dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null) == installed ]] || missing+=("$package")
    done
    [[ ${#missing[@]} -gt 0 ]] || return 0
    step "installing ${missing[*]}"
    export DEBIAN_FRONTEND=noninteractive
    apt-get update -q || die "apt-get update failed"
    apt-get install -q -y --no-install-recommends "${missing[@]}" || die "could not install ${missing[*]}"
}

# The second system bus, where the machine has none, for the tests alone: installed it would be the
# machine's own from the next boot on. Its libraries are those of dbus-daemon.
unpack_dbus_broker() {
    local directory=build-dbus-broker
    [[ ! -x /usr/bin/dbus-broker-launch && ! -d $directory ]] || return 0
    step "unpacking dbus-broker"
    rm -rf "$directory.partial"
    mkdir "$directory.partial"
    apt-get update -q || die "apt-get update failed"
    (cd "$directory.partial" && apt-get download -q dbus-broker && dpkg -x dbus-broker_*.deb .) ||
        die "could not unpack dbus-broker"
    mv "$directory.partial" "$directory"
}

# build DIRECTORY [MESON OPTION]...: CC is the compiler. A directory that was set up in the same way is
# brought up to date, any other made anew. Only one at a time.
build() {
    local directory=$1 wanted="$CC ${*:2}" output lock
    shift
    exec {lock}>"$directory.lock"
    flock "$lock"
    if [[ ! -f $directory/build.ninja || $(cat "$directory/set-up-as" 2>/dev/null) != "$wanted" ]]; then
        rm -rf "$directory"
        output=$(meson setup "$directory" "$@" 2>&1) || {
            tail -n 20 <<<"$output" >&2
            die "meson setup $directory failed"
        }
        echo "$wanted" >"$directory/set-up-as"
    fi
    ninja -C "$directory" --quiet || die "building $directory failed"
    exec {lock}>&-
}
