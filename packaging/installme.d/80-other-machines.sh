# ---------------------------------------------------------------- other machines

# What the machine is, seen by whoever logged in; changes nothing.
probe() {
    there 'sh -s' >"$WORK/facts" 2>"$WORK/err" <<'END'
PATH=$PATH:/usr/sbin:/sbin:/usr/local/sbin
exists() { command -v "$1" >/dev/null 2>&1; }
kib() { df -Pk "$1" 2>/dev/null | awk 'NR == 2 { print $4 }'; }
echo "uid=$(id -u)"
echo "system=$(uname -s)"
echo "name=$(uname -n)"
echo "machine=$(uname -m)"
echo "now=$(date +%s)"
echo "client=${SSH_CONNECTION%% *}"
[ -d /run/systemd/system ] && echo systemd=yes
if exists dpkg && exists apt-get; then echo kind=deb; echo "debarch=$(dpkg --print-architecture)"
elif exists rpm && { exists dnf || exists zypper || exists yum; }; then echo kind=rpm
else echo kind=plain; fi
echo "os=$(. /etc/os-release 2>/dev/null; echo "${PRETTY_NAME:-Linux}")"
if exists sudo; then echo sudo=yes; LC_ALL=C sudo -n true 2>/dev/null && echo sudofree=yes; fi
echo "usr=$(kib /usr)"; echo "var=$(kib /var)"; echo "tmp=$(kib /tmp)"
exists tar && echo tar=yes
echo complete=yes
END
    [ "$(fact complete)" = yes ] || die "$HOST did not tell what it is" "$(tail -n 3 "$WORK/err" | tr -cd '[:print:]\n')" \
        "Does the login shell of $LOGIN print something, or end at once?"
}

fact() { sed -n "s/^$1=//p" "$WORK/facts" | head -n 1 | tr -cd '[:print:]'; }

# Refuses what cannot work before anything is copied.
check_facts() {
    [ "$(fact system)" = Linux ] || die "$HOST runs $(fact system), and Assimilation runs on Linux"
    [ "$(fact systemd)" = yes ] || die "no systemd: $HOST was not started by systemd, and the units need it"
    [ "$(fact tar)" = yes ] || die "$HOST has no tar, which takes what is copied" "Install it there."
    R_KIND=${KIND:-$(fact kind)}
    R_ARCH=$(arch_name "$R_KIND" "$(fact machine)")
    [ "$R_KIND" != deb ] || [ -z "$(fact debarch)" ] || R_ARCH=$(fact debarch)
    step "$(fact os), $R_ARCH, $R_KIND"
    directory=$(packages_directory)
    [ -n "$directory" ] || die "there are no packages on this machine" "Unpack the release and run the installme in it, or name the directory with --packages DIR."
    R_PACKAGE=$(package_file "$directory" "$R_KIND" nanoprobe "$R_ARCH") ||
        die "wrong architecture: $directory has no $R_KIND of the nanoprobe for $R_ARCH, which $HOST is" \
            "There is: $(packages_listed "$directory")" "Unpack the release for $R_ARCH and name it with --packages DIR."
    for place in usr var tmp; do
        free=$(fact $place)
        ! is_long_number "$free" || [ "$free" -ge "$SPACE_KIB" ] ||
            die "the disk of $HOST is full: $((free / 1024)) MB are free in /$place, $((SPACE_KIB / 1024)) MB are needed" "Make room there, then run this again."
    done
    R_NAME=$(lower "${NAME:-$(fact name)}")
    is_name "$R_NAME" || die "$HOST has a host name that cannot be used: $R_NAME" "Set another one there (hostnamectl), or give one with --name."
    now=$(date +%s)
    there_now=$(fact now)
    is_long_number "$there_now" || there_now=$now
    off=$((there_now - now))
    if [ "$off" -gt 120 ] || [ "$off" -lt -120 ]; then
        note "the clock of $HOST is off by $off s: times in what it reports will be wrong until it is set (timedatectl set-ntp true)"
    fi
}
is_long_number() { case $1 in '' | *[!0-9]*) return 1 ;; esac }

# How to become root there, in BECOME.
become_root() {
    if [ "$(fact uid)" = 0 ]; then
        BECOME=root
        return
    fi
    [ "$(fact sudo)" = yes ] || die "no sudo: $LOGIN is not root on $HOST, and there is no sudo" "Install sudo there, or log in as root:  --user root"
    if [ "$(fact sudofree)" = yes ]; then
        BECOME=free
        return
    fi
    BECOME=password
    [ -z "$DRY" ] || return 0
    [ -n "$PASSWORD" ] || ask_password "Password of $LOGIN on $HOST, for sudo" ||
        die "sudo on $HOST wants a password, and there is no terminal to ask for it" \
            "Run this in a terminal, or let $LOGIN use sudo without a password, or log in as root:  --user root"
    there_as_root true >"$WORK/err" 2>&1 && return
    keep_output "$(cat "$WORK/err")"
    case $(cat "$WORK/err") in
    *'not in the sudoers'* | *'not allowed to'* | *'may not run'*)
        die "sudo is not allowed: $LOGIN may not become root on $HOST" "Let an administrator there add $LOGIN to the group sudo or wheel, or log in as root:  --user root" ;;
    *'must have a tty'*)
        die "sudo on $HOST wants a terminal (requiretty in its sudoers)" "Take that line out, or log in as root:  --user root" ;;
    *'incorrect password'* | *'no password was provided'* | *'a password is required'* | *'try again'*)
        die "wrong password: sudo on $HOST did not take it for $LOGIN" \
            "Run this again. Where sudo wants another password than ssh, log in with a key; only sudo's is asked for then." ;;
    *) die "sudo on $HOST failed" "$TAIL" ;;
    esac
}

# Everything that is copied, in one directory: this program, the package, its checksum, public keys, perhaps a token.
stage() {
    stage_directory=$WORK/stage
    rm -rf "$stage_directory"
    (umask 077 && mkdir "$stage_directory" "$stage_directory/keys")
    cp "$SELF" "$stage_directory/installme"
    verified "$directory" "$R_PACKAGE"
    if [ "$R_KIND" = plain ]; then
        cp -R "$directory/programs" "$stage_directory/" && rm -f "$stage_directory/programs/cma"
    else
        cp "$directory/$R_PACKAGE" "$stage_directory/"
    fi || die "the packages cannot be copied to $WORK: is the disk full?"
    cp "$directory/SHA256SUMS" "$stage_directory/"
    from=${KEYS:-$(at /usr/share/assimilation/crypto.d)}
    for key in "$from"/'#CMA#'*.pub; do
        [ -e "$key" ] || continue
        is_public_key "$key" || die "$key is no public key: it is a link, or has a secret's content" "Nothing was copied to $HOST."
        cp "$key" "$stage_directory/keys/" || die "$key cannot be read" "This needs root: sudo."
    done
    [ "$(count "$stage_directory/keys" "$PUBLIC_KEYS")" -gt 0 ] || die "there is no public key of a CMA in $from" "Is this the CMA's machine? On it:  sudo $0"
    # Asserted once more on what is really sent, whatever the code above came to be.
    forbidden=$(find "$stage_directory" '(' -type l -o -name '*secret*' -o -path '*/keys/*' ! -name '#CMA#*.pub' ')' -print)
    [ -z "$forbidden" ] || die "a secret or a link is among what would be copied, so nothing was: $forbidden"
    enrolment_token
}

# A token for this one host, where the CMA asks for tokens and does not know the host yet.
enrolment_token() {
    R_TOKEN=
    if [ -n "$TOKEN" ]; then
        R_TOKEN=$TOKEN
    elif wants_tokens && [ "$H_STATUS" != up ]; then
        make_token "$R_NAME"
        R_TOKEN=$NEW_TOKEN
    fi
    [ -z "$R_TOKEN" ] || (umask 077 && printf '%s\n' "$R_TOKEN" >"$WORK/stage/enrol.token")
}

# make_token NAME: one for the host of this name, in NEW_TOKEN.
make_token() {
    # The token is in the output, so the output is not logged.
    NEW_TOKEN=$("$(program assimcli)" --root "$ROOT" -o script tokens create --uses 1 --expires 1d --host "$1" 2>"$WORK/err" </dev/null |
        grep -o 'assim-[0-9a-f]\{48\}' | head -n 1)
    [ -n "$NEW_TOKEN" ] || die "the CMA wants enrolment tokens, and none could be made" "$(tr -cd '[:print:]\n' <"$WORK/err")" "See: assimcli tokens --help"
    step "made an enrolment token for $1: one use, valid for a day"
}

# Whether cma.toml says that hosts need a token or approval.
wants_tokens() {
    policy=$(awk '/^[ \t]*\[/ { inside = ($0 ~ /^[ \t]*\[enrolment\]/) }
        inside && /^[ \t]*policy[ \t]*=/ { sub(/^[^=]*=[ \t]*"?/, ""); sub(/".*$/, ""); print; exit }' "$(at /etc/assimilation/cma.toml)" 2>/dev/null)
    case $policy in token | approve) ;; *) return 1 ;; esac
    "$(program assimcli)" tokens --help >/dev/null 2>&1
}

copy_there() {
    # shellcheck disable=SC2016 # To be expanded there.
    R_DIRECTORY=$(there 'umask 077 && mktemp -d "${TMPDIR:-/tmp}/assimilation-install.XXXXXX"' 2>"$WORK/err" </dev/null)
    case $R_DIRECTORY in
    /*/assimilation-install.*) ;;
    *) die "no directory could be made on $HOST" "$(tail -n 2 "$WORK/err" | tr -cd '[:print:]\n')" "Is its disk full?" ;;
    esac
    tar -C "$WORK/stage" -cf - . | there "tar -C $(quoted "$R_DIRECTORY") --no-same-owner -xf -" >"$WORK/err" 2>&1 ||
        die "copying to $HOST failed" "$(tail -n 2 "$WORK/err" | tr -cd '[:print:]\n')" "If its disk is full, make room there; then run this again."
    step "copied $R_PACKAGE and $(count "$WORK/stage/keys" "$PUBLIC_KEYS") public keys"
    log "copied to $HOST:$R_DIRECTORY: $(cd "$WORK/stage" && find . -type f | tr '\n' ' ')"
}

# What was copied, also after a failure: there may be a token among it.
remove_copy() {
    [ -n "$R_DIRECTORY" ] || return 0
    there "rm -rf $(quoted "$R_DIRECTORY")" </dev/null >/dev/null 2>&1
    R_DIRECTORY=
}

# install_there [WORD]...: this program, on the other machine.
install_there() {
    line="sh $(quoted "$R_DIRECTORY/installme") nanoprobe --from-cma --packages $(quoted "$R_DIRECTORY") --keys $(quoted "$R_DIRECTORY/keys") --kind $R_KIND"
    [ -z "$NAME" ] || line="$line --name $(quoted "$NAME")"
    [ -z "$R_TOKEN" ] || line="$line --token-file $(quoted "$R_DIRECTORY/enrol.token")"
    for word in "$@"; do line="$line $(quoted "$word")"; done
    there_as_root "$line" >"$WORK/out" 2>&1
    code=$?
    tr -cd '[:print:]\n' <"$WORK/out" | grep -v -e '^This machine' -e '^designation=' -e '^restarted=' | while IFS= read -r told; do
        step "  $(printf '%s\n' "$told" | sed 's/^ *//')"
    done
    case $code in
    0) ;;
    255) die "the connection to $HOST was lost" "Run this again: it goes on where it was." ;;
    *)
        told=$(sed -n 's/^installme: //p' "$WORK/out" | head -n 1 | tr -cd '[:print:]')
        die "on $HOST: ${told:-the installation failed with exit status $code}" "The log is there: /var/log/assimilation-install.log"
        ;;
    esac
    told=$(sed -n 's/^designation=//p' "$WORK/out" | head -n 1)
    ! is_name "$told" || R_NAME=$told
    R_RESTARTED=$(sed -n 's/^restarted=//p' "$WORK/out" | head -n 1)
}

# Where the CMA is as seen from there: the first of our addresses that answers to packets from the machine.
find_way_to_cma() {
    cma_bind
    candidates=$CMAADDR
    [ -n "$candidates" ] || [ -n "$CMA_HOST" ] || candidates="$(bracketed "$(fact client)")"
    candidates="$candidates $(own_candidates)"
    WAY=
    REACHED=
    for candidate in $(printf '%s\n' "$candidates" | tr ', ' '\n' | awk 'NF && !seen[$0]++' | head -n 6); do
        is_address "$candidate" || continue
        told=$(there "PATH=\$PATH:/usr/sbin:/usr/local/sbin nanoprobe reach $(quoted "$candidate")" 2>&1 </dev/null)
        code=$?
        log "from $HOST: $told"
        REACHED="$REACHED
  $(printf '%s\n' "$told" | head -n 1 | tr -cd '[:print:]')"
        if [ "$code" -eq 0 ]; then
            WAY=$candidate
            return 0
        fi
    done
    return 1
}

remote_machine() {
    HOST=${1##*@}
    LOGIN=$SSH_USER
    case $1 in *@*) LOGIN=${1%@*} ;; esac
    TARGET=$LOGIN@$HOST
    PASSWORD='' RESULT='' NOTES='' CHANGED='' RESTARTED='' BECOME='' R_TOKEN='' R_DIRECTORY=''
    say "$HOST:"
    connect
    probe
    check_facts
    become_root
    host_row "$R_NAME" || die "no CMA answers on this machine: $ROW_ERROR" "Start it:  sudo systemctl start $CMA_UNIT    or install it:  sudo $0"
    before=$H_STARTED
    if [ -n "$DRY" ]; then
        plan_there
        echo "would be installed" >"$RESULT_FILE"
        exit 0
    fi
    stage
    copy_there
    if [ -n "$CMAADDR" ]; then install_there --cmaaddr "$CMAADDR"; else install_there; fi
    host_row "$R_NAME"
    [ -n "$R_RESTARTED" ] || before=
    patience=$WAIT
    [ -n "$CMAADDR" ] || [ "$WAIT" -lt 10 ] || patience=10
    await_host "$R_NAME" "$before" "$patience"
    registered=$?
    if [ "$registered" -eq 1 ] && [ "$H_KEY" != MISMATCH ]; then
        way_to_cma "$before"
        registered=$?
    fi
    case $registered in
    0) ;;
    2)
        # Read over ssh, so nobody in between can have put another one in its place.
        fingerprint=$(there_as_root "ls /usr/share/assimilation/crypto.d" 2>/dev/null |
            sed -n "s/^$R_NAME@@\([0-9a-f]*\)[.]secret\$/\1/p" | head -n 1)
        RESULT="waits for approval: assimcli hosts approve $R_NAME${fingerprint:+ --key $fingerprint}"
        remove_copy
        step "$R_NAME $RESULT"
        printf '%s\n' "$RESULT" >"$RESULT_FILE"
        exit 2
        ;;
    *)
        explain_absence "$R_NAME"
        there_as_root "journalctl -u $NANOPROBE_UNIT -n 4 --no-pager -o cat" 2>/dev/null | tr -cd '[:print:]\n' |
            while IFS= read -r told; do hint "$HOST says: $told"; done
        remove_copy
        printf '%s\n' "$RESULT" >"$RESULT_FILE"
        exit 1
        ;;
    esac
    step "$R_NAME is registered: up, at $H_ADDRESS"
    way_back
    remove_copy
    [ -z "$NOTES" ] || { printf 'registered, at %s; see the notes above\n' "$H_ADDRESS" >"$RESULT_FILE"; exit 2; }
    printf 'registered, at %s\n' "$H_ADDRESS" >"$RESULT_FILE"
}

# It did not come by itself: name the CMA's address, if there is one at which it can be reached.
way_to_cma() {
    if ! find_way_to_cma; then
        rule=$(firewall_rule "$CMA_PORT")
        die "a firewall is in the way: packets from $HOST do not reach the CMA's UDP port $CMA_PORT" \
            "From $HOST:$REACHED" \
            "On this machine:  $rule" \
            "If it is in between, let UDP from $HOST to port $CMA_PORT of this machine through. Then run this again."
    fi
    if [ -n "$CMAADDR" ]; then
        # It has this address already, so the way is not what is wrong.
        await_host "$R_NAME" "$1" "$WAIT"
        return
    fi
    step "multicast does not reach it; naming the CMA's address, $WAY"
    install_there --cmaaddr "$WAY"
    await_host "$R_NAME" "$1" "$WAIT"
}

# The CMA, and the host's partners, have to reach the nanoprobe's port too.
way_back() {
    have "$(program nanoprobe)" || { log "no nanoprobe here to test the way back with"; return 0; }
    is_address "$H_ADDRESS" || return 0
    told=$("$(program nanoprobe)" reach "$H_ADDRESS" 2>&1 </dev/null) && { step "both ways are open"; return 0; }
    log "$told"
    rule=$(there_as_root "sh $(quoted "$R_DIRECTORY/installme") --firewall-rule ${H_ADDRESS##*:}" 2>/dev/null | head -n 1 | tr -cd '[:print:]')
    note "a firewall is in the way: packets from the CMA do not reach $HOST ($told)"
    hint "Partners cannot watch it, and the CMA cannot call it. On $HOST:  ${rule:-$(firewall_rule "${H_ADDRESS##*:}")}"
    [ "${H_ADDRESS##*:}" = "$DEFAULT_PORT" ] || hint "Its port is any free one, because $DEFAULT_PORT was taken; a fixed one: NANOPROBE_BIND in /etc/default/nanoprobe"
}

plan_there() {
    verified "$directory" "$R_PACKAGE"
    case $BECOME in
    root) step "would work as root" ;;
    free) step "would become root with sudo, which wants no password" ;;
    password) step "would ask for a password, and become root with sudo" ;;
    esac
    step "would copy installme, $R_PACKAGE, and $(count "${KEYS:-$(at /usr/share/assimilation/crypto.d)}" "$PUBLIC_KEYS") public keys of the CMA"
    if wants_tokens && [ "$H_STATUS" != up ]; then step "would make an enrolment token for $R_NAME and copy it"; fi
    step "would run there: installme nanoprobe --kind $R_KIND${NAME:+ --name $NAME}${CMAADDR:+ --cmaaddr $CMAADDR}"
    [ -n "$CMAADDR" ] || step "would name the CMA's address if multicast does not reach it"
    case $H_STATUS in
    '') step "would wait until $R_NAME is registered" ;;
    *) step "the CMA knows $R_NAME already: $H_STATUS" ;;
    esac
}

remote_machines() {
    have ssh || die "there is no ssh on this machine" "Install the package openssh-client (or openssh-clients)."
    [ "$(id -u)" -eq 0 ] || die "this needs root, to read the CMA's public keys: sudo $0 $ORIGINAL"
    [ "$(command -v printf)" = printf ] || die "this shell has no printf of its own, so that passwords could be seen by others" "Run it with another one: dash $0 $ORIGINAL, or bash."
    CALLER_HOME=
    if [ -n "${SUDO_USER:-}" ] && [ "$SUDO_USER" != root ]; then
        CALLER_HOME=$(getent passwd "$SUDO_USER" | cut -d : -f 6)
        case $CALLER_HOME in *[[:space:]]*) CALLER_HOME= ;; esac
    fi
    [ -n "$SSH_USER" ] || SSH_USER=${SUDO_USER:-root}
    host_row none || die "no CMA answers on this machine: $ROW_ERROR" "Start it:  sudo systemctl start $CMA_UNIT    or install it:  sudo $0"
    count_all=0 worst=0
    for remote in $REMOTES; do
        count_all=$((count_all + 1))
        SSH_SOCKET=$WORK/ssh.$count_all RESULT_FILE=$WORK/result.$count_all
        : >"$RESULT_FILE"
        (remote_machine "$remote")
        case $? in
        0) word=ok ;;
        2) word=LOOK; [ "$worst" -ne 0 ] || worst=2 ;;
        *) word=FAILED; worst=1 ;;
        esac
        [ ! -S "$SSH_SOCKET" ] || ssh -o ControlPath="$SSH_SOCKET" -O exit none >/dev/null 2>&1
        rm -rf "$WORK/stage"
        printf '%-24s %-7s %s\n' "${remote##*@}" "$word" "$(head -n 1 "$RESULT_FILE")" >>"$WORK/table"
    done
    RESULT_FILE=
    say ""
    while IFS= read -r line; do say "$line"; done <"$WORK/table"
    exit "$worst"
}
