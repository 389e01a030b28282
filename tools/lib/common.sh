# SPDX-License-Identifier: GPL-2.0-or-later
# shellcheck shell=bash disable=SC2034
# What tools/demo and tools/test share: the packages, and how to build. Sourced, with the current
# directory at the root of the checkout.

# to build the programs
build_packages=(
    gcc libc6-dev meson ninja-build pkg-config
    libsystemd-dev libmnl-dev libnftnl-dev libgnutls28-dev
)
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

# build DIRECTORY [MESON OPTION]...: CC is the compiler. A directory that was set up in the same way is
# brought up to date, any other made anew.
build() {
    local directory=$1 wanted="$CC ${*:2}" output
    shift
    if [[ ! -f $directory/build.ninja || $(cat "$directory/set-up-as" 2>/dev/null) != "$wanted" ]]; then
        rm -rf "$directory"
        output=$(meson setup "$directory" "$@" 2>&1) || {
            tail -n 20 <<<"$output" >&2
            die "meson setup $directory failed"
        }
        echo "$wanted" >"$directory/set-up-as"
    fi
    ninja -C "$directory" --quiet || die "building $directory failed"
}
