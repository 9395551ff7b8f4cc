# What the maintainer scripts of both packages and of both kinds (.deb, .rpm) have in common. The builder puts this file in
# front of each of them, for a package cannot count on files of its own at every moment.
#
# /var/lib/assimilation belongs to root but the CMA's account may make files in it, so nothing in there is trusted: links are
# neither followed nor given away, and a file with a second name is left alone.

STATE=/var/lib/assimilation
KEYS=$STATE/crypto.d
LINK=/usr/share/assimilation/crypto.d

say() { printf 'assimilation: %s\n' "$*" >&2; }

have() { command -v "$1" >/dev/null 2>&1; }

systemd_runs() { [ -d /run/systemd/system ] && have systemctl; }

# account NAME HOME: a system account without a shell, with a group of the same name.
account() {
    if ! getent passwd "$1" >/dev/null 2>&1; then
        if have systemd-sysusers; then
            systemd-sysusers "$3" >/dev/null 2>&1 || true
        fi
        getent passwd "$1" >/dev/null 2>&1 ||
            useradd --system --user-group --no-create-home --home-dir "$2" --shell /usr/sbin/nologin "$1"
    fi
    getent group "$1" >/dev/null 2>&1 || groupadd --system "$1"
}

# private_directory PATH OWNER: makes it with mode 0700 or gives it to OWNER; a link in its place is an error.
private_directory() {
    if [ -L "$1" ]; then
        say "$1 is a symbolic link, and whoever made it would get the keys; remove it and configure the package again"
        return 1
    fi
    [ -d "$1" ] || mkdir -m 0700 "$1"
    chown -h "$2:" "$1"
}

# The real directory of the keys: what the link shows, or a directory that was made by hand.
key_directory() {
    if [ -d "$LINK" ] && [ ! -L "$LINK" ]; then echo "$LINK"; else echo "$KEYS"; fi
}

# key_link: the place of the contract shows into the state directory, so that /usr may be read-only.
key_link() {
    mkdir -p /usr/share/assimilation
    if [ ! -L "$LINK" ] && [ ! -e "$LINK" ]; then
        ln -s "$KEYS" "$LINK"
    fi
}

prepare_cma() {
    account assimilation "$STATE" assimilation-cma.conf
    [ -d "$STATE" ] || mkdir -m 0755 "$STATE"
    chown root:assimilation "$STATE"
    chmod 1775 "$STATE"
    private_directory "$STATE/cma" assimilation
    private_directory "$KEYS" assimilation
    key_link
    keys=$(key_directory)
    [ "$keys" = "$KEYS" ] || chown assimilation: "$keys"
    # What root made: by hand, or for a nanoprobe that was here first. A nanoprobe's own secret is left as it was made.
    find "$keys" -maxdepth 1 -type f -links 1 -user root \( -name '#CMA#*' -o -name '*.pub' \) \
        -exec chown -h assimilation: {} +
    find "$STATE" -maxdepth 1 -type f -links 1 -user root -name 'cma.sqlite*' -exec chown -h assimilation: {} +
    find "$STATE/cma" -xdev -type f -links 1 -user root -exec chown -h assimilation: {} +
    if have systemd-tmpfiles && systemd_runs; then
        systemd-tmpfiles --create assimilation-cma.conf || true
    fi
}

prepare_nanoprobe() {
    account assimilation-net / assimilation-nanoprobe.conf
    [ -d "$STATE" ] || mkdir -m 0755 "$STATE"
    # The CMA's account owns the keys where there is one.
    [ -d "$KEYS" ] || [ -L "$KEYS" ] || private_directory "$KEYS" root
    key_link
}

# handmade PROGRAM: tells of an installation by hand that would be found first.
handmade() {
    for file in "/usr/local/sbin/$1" "/usr/local/bin/$1" /usr/local/bin/assimcli /usr/local/sbin/assimcli; do
        [ ! -e "$file" ] || say "$file comes before the package's program in the PATH; remove it: rm $file"
    done
    if [ -e "/etc/systemd/system/assimilation-$1.service" ] && [ ! -L "/etc/systemd/system/assimilation-$1.service" ]; then
        say "/etc/systemd/system/assimilation-$1.service hides the package's unit; remove it, then systemctl daemon-reload"
    fi
}

# stop_handmade PROGRAM: ends one that was started by hand, which would keep the port and the pid file. True when there was one.
stop_handmade() {
    systemd_runs || return 1
    ! systemctl --quiet is-active "assimilation-$1.service" || return 1
    "/usr/sbin/$1" --status >/dev/null 2>&1 || return 1
    say "a $1 that was started by hand is stopped; systemd starts it from now on"
    "/usr/sbin/$1" --kill || true
}

# has_keys GLOB: whether the unit's condition holds.
has_keys() {
    for key in "$LINK"/$1; do
        [ -e "$key" ] && return 0
    done
    return 1
}

# act VERB UNIT: as the distribution wants it (Debian's policy-rc.d may forbid). A daemon that does not start is no reason for
# a package that is not configured: it says why itself.
act() {
    if have deb-systemd-invoke; then
        deb-systemd-invoke "$1" "$2" >/dev/null || say "$2 did not $1: see journalctl -u $2"
    else
        systemctl "$1" "$2" || say "$2 did not $1: see journalctl -u $2"
    fi
}

# bring_up PROGRAM KEYS: after the files of the package are there. A running daemon is replaced; one that the operator stopped
# stays stopped; on the first installation (FIRST=yes) it starts where it has what it needs.
bring_up() {
    unit=assimilation-$1.service
    handmade "$1"
    systemd_runs || return 0
    systemctl daemon-reload || true
    if systemctl --quiet is-active "$unit"; then
        act restart "$unit"
    elif stop_handmade "$1"; then
        act start "$unit"
    elif [ "$FIRST" = yes ] && systemctl --quiet is-enabled "$unit" 2>/dev/null; then
        if has_keys "$2"; then
            act start "$unit"
        elif [ "$1" = cma ]; then
            say "next: assimcli genkeys && systemctl start assimilation-cma"
        else
            say "next: copy the CMA's public keys (#CMA#*.pub) into $LINK, then systemctl start assimilation-nanoprobe"
        fi
    fi
}

# Both packages bring an assimcli of their own version, so that each works alone; the CMA's is preferred.
offer_assimcli() {
    set -- "$1" "$2" "/usr/lib/assimilation/$1"
    slaves=
    [ ! -e "$3/assimcli.bash" ] ||
        slaves="--slave /usr/share/bash-completion/completions/assimcli assimcli.bash $3/assimcli.bash"
    # shellcheck disable=SC2086 # words without blanks, made above
    update-alternatives --install /usr/bin/assimcli assimcli "$3/assimcli" "$2" $slaves >/dev/null
}

withdraw_assimcli() {
    update-alternatives --remove assimcli "/usr/lib/assimilation/$1/assimcli" >/dev/null || true
}

# What purge removes. Each package leaves what belongs to the other, also when that one was removed and not purged.
purge_cma() {
    keys=$(key_directory)
    rm -f /etc/assimilation/cma.toml
    if [ -d "$STATE" ]; then
        find "$STATE/" -mindepth 1 -maxdepth 1 ! -name nanoprobe ! -name discovery ! -name crypto.d -exec rm -rf {} +
    fi
    if [ -d "$STATE/nanoprobe" ] || [ -e /usr/sbin/nanoprobe ]; then
        # The nanoprobe keeps its own pair and the keys of the CMA that it trusts.
        if [ -d "$keys" ] && [ ! -L "$keys" ]; then
            find "$keys/" -mindepth 1 -maxdepth 1 -name '#CMA#*.secret' -exec rm -f {} +
            for public in "$keys"/*@@*.pub; do
                [ -e "${public%.pub}.secret" ] || rm -f "$public"
            done
            find "$keys/" -maxdepth 1 ! -type l -user assimilation -exec chown -h root:root {} +
        fi
        [ ! -d "$KEYS" ] || chown -h root:root "$KEYS"
        if [ -d "$STATE" ]; then
            chown root:root "$STATE"
            chmod 0755 "$STATE"
        fi
    else
        purge_rest
    fi
}

purge_nanoprobe() {
    keys=$(key_directory)
    rm -f /etc/assimilation/nanoprobe.toml /etc/assimilation/enrol.token
    rm -rf "$STATE/nanoprobe" "$STATE/discovery"
    if [ -e "$STATE/cma" ] || [ -e "$STATE/cma.sqlite" ] || [ -e /usr/sbin/cma ]; then
        # The CMA keeps the public key that it knows this host by.
        if [ -d "$keys" ] && [ ! -L "$keys" ]; then
            find "$keys/" -mindepth 1 -maxdepth 1 -name '*@@*.secret' -exec rm -f {} +
        fi
    else
        purge_rest
    fi
}

purge_rest() {
    rm -rf "$KEYS"
    if [ -L "$LINK" ]; then rm -f "$LINK"; else rm -rf "$LINK"; fi
    rm -rf /run/assimilation
    purge_installer
    # dpkg removes this one itself when nothing is left in it.
    rmdir /usr/share/assimilation 2>/dev/null || true
    for directory in "$STATE" /etc/assimilation; do
        [ ! -d "$directory" ] || rmdir "$directory" 2>/dev/null || say "$directory is kept: there are files in it that no package made"
    done
}

# What installme put there beside the packages: a copy of them with a list of its files, a link to itself, a log. In the copy
# whatever is not in the list, byte for byte, is somebody else's and stays. Killed in between, it goes on with the next purge.
purge_installer() {
    copy=/usr/share/assimilation/install
    kept=.kept-by-installme
    rm -rf "$copy.new" "$copy.old"
    if [ -d "$copy" ] && [ ! -L "$copy" ]; then
        if [ -f "$copy/$kept" ]; then
            (
                cd "$copy" || exit 1
                # A line is a sum of 64 digits, two blanks and the name.
                find . -type f ! -path "./$kept" -exec sha256sum {} + | grep -xF -f "$kept" | cut -c 67- |
                    while IFS= read -r file; do rm -f "$file"; done
                rm -f "$kept"
            )
        fi
        find "$copy" -depth -type d -exec rmdir {} + 2>/dev/null || true
        [ ! -d "$copy" ] || say "$copy is kept: there are files in it that installme did not put there"
    fi
    program=/usr/local/sbin/installme
    # Only ours, and only when it shows nothing any more.
    if [ -L "$program" ] && [ ! -e "$program" ] && [ "$(readlink "$program")" = "$copy/installme" ]; then
        rm -f "$program"
    fi
    rm -f /var/log/assimilation-install.log
}
