# ---------------------------------------------------------------- this machine

# Root, Linux, systemd.
check_system() {
    [ "$ROOT" = / ] || return 0
    [ "$(uname -s)" = Linux ] || die "this is $(uname -s), and Assimilation runs on Linux"
    [ -n "$DRY" ] || [ "$(id -u)" -eq 0 ] || die "this needs root: sudo $0 $ORIGINAL"
    [ -d /run/systemd/system ] || die "this system was not started by systemd, and the units need it" \
        "The programs themselves run anywhere: $0 --root DIR puts them below a directory, and says how to start them."
}

begin_here() {
    check_system
    kind=$(kind_here)
    arch=$(arch_here "$kind") || die "this system does not tell its architecture"
    step "$(os_here), $arch, $kind"
}

# shellcheck disable=SC1091 # Not ours.
os_here() { (. /etc/os-release 2>/dev/null && printf '%s\n' "${PRETTY_NAME:-Linux}") | tr -cd '[:print:]'; }

# CMA and nanoprobe.
both_here() {
    say "This machine ($(uname -n)): CMA and nanoprobe"
    begin_here
    install_here "$kind" "$arch" cma nanoprobe
    cma_keys
    keep_copy
    nanoprobe_settings "$kind"
    [ "$ROOT" = / ] || { how_to_start cma nanoprobe; return 0; }
    start_unit "$CMA_UNIT"
    if [ -n "$DRY" ]; then
        start_unit "$NANOPROBE_UNIT"
        step "would wait until $(designation_here) is registered"
        return 0
    fi
    name=$(designation_here)
    waited=0
    until host_row "$name"; do
        [ "$waited" -lt "$WAIT" ] || die "the CMA does not answer" "$ROW_ERROR" "$(journal "$CMA_UNIT")" "See: journalctl -u $CMA_UNIT"
        sleep 1
        waited=$((waited + 1))
    done
    step "the CMA runs"
    # What the CMA asks of all hosts it asks of its own machine too.
    if [ -z "$TOKEN" ] && wants_tokens && [ "$H_STATUS" != up ]; then
        make_token "$name"
        TOKEN=$NEW_TOKEN
        nanoprobe_settings "$kind"
    fi
    before=$H_STARTED RESTARTED=''
    start_unit "$NANOPROBE_UNIT"
    # Packages start units themselves, so that `started` may be of a moment ago: then being up is all that there is to see.
    [ -n "$RESTARTED" ] || before=''
    await_host "$name" "$before" "$((WAIT < 10 ? WAIT : 10))"
    registered=$?
    if [ "$registered" -eq 1 ] && [ "$H_KEY" != MISMATCH ] && [ -z "$CMAADDR" ]; then
        CMAADDR=$(own_address)
        step "no answer to multicast on this machine; naming the CMA's address, $CMAADDR"
        nanoprobe_settings "$kind"
        start_unit "$NANOPROBE_UNIT"
        await_host "$name" '' "$WAIT"
        registered=$?
    fi
    case $registered in
    1)
        explain_absence "$name"
        hint "$(journal "$NANOPROBE_UNIT")"
        exit 1
        ;;
    2)
        note "$name waits for approval:  assimcli hosts approve $name"
        return 0
        ;;
    esac
    step "$name is registered: up, at $H_ADDRESS"
    firewall_here
    say "Done. Other machines:  sudo $(own_program) --remote HOST      What is wrong, if anything:  sudo assimcli doctor"
}

# Whether rules on this machine keep hosts out is seen when the first of them comes; that there are rules is seen now.
firewall_here() {
    port=$(cma_port)
    active=$(firewall_rule "$port")
    case $active in
    'let UDP'*) ;;
    *) step "a firewall runs here; hosts reach the CMA with this rule:  $active" ;;
    esac
}

own_address() {
    cma_bind
    for candidate in $(own_candidates); do
        printf '%s\n' "$candidate"
        return
    done
    printf '127.0.0.1:%s\n' "$CMA_PORT"
}

# Where the CMA listens: CMA_HOST (empty: on all addresses) and CMA_PORT.
cma_bind() {
    bind=$("$(program assimcli)" --root "$ROOT" -o script doctor 2>/dev/null </dev/null | sed -n 's/.* listens on \([^ ,]*\),.*/\1/p' | head -n 1)
    is_address "${bind:-:$DEFAULT_PORT}" || bind=
    CMA_PORT=${bind##*:}
    is_number "$CMA_PORT" || CMA_PORT=$DEFAULT_PORT
    CMA_HOST=${bind%:*}
    case $CMA_HOST in '[::]' | 0.0.0.0) CMA_HOST= ;; esac
}
cma_port() { cma_bind; printf '%s\n' "$CMA_PORT"; }

# Addresses of this machine that others may use, with the CMA's port, one a line.
own_candidates() {
    if [ -n "$CMA_HOST" ]; then
        printf '%s:%s\n' "$CMA_HOST" "$CMA_PORT"
        return
    fi
    for address in $(ip -o addr show scope global 2>/dev/null | awk '{ sub(/\/.*/, "", $4); print $4 }'); do
        bracketed "$address"
    done
}

bracketed() {
    case $1 in
    '' | fe80:* | *%*) ;;
    ::ffff:*.*) printf '%s:%s\n' "${1#::ffff:}" "$CMA_PORT" ;;
    *:*) printf '[%s]:%s\n' "$1" "$CMA_PORT" ;;
    *) printf '%s:%s\n' "$1" "$CMA_PORT" ;;
    esac
}

own_program() { if [ -x /usr/local/sbin/installme ]; then echo installme; else printf '%s\n' "$0"; fi; }

how_to_start() {
    step "nothing is started below another root; to run it:"
    for what in "$@"; do step "  $(at "/usr/local/sbin/$what") --root $ROOT"; done
}

# A nanoprobe only.
nanoprobe_here() {
    say "This machine ($(uname -n)): nanoprobe"
    begin_here
    install_here "$kind" "$arch" nanoprobe
    key_directory
    if [ -n "$KEYS" ]; then
        public_keys_from "$KEYS"
    elif [ "$(count "$(at /usr/share/assimilation/crypto.d)" "$PUBLIC_KEYS")" -eq 0 ] && [ -z "$DRY" ]; then
        die "the nanoprobe is installed, and lacks the CMA's public keys: without them nobody could tell the CMA from an impostor" \
            "Copy them from the CMA's machine into a directory, for instance:" \
            "  mkdir keys; scp 'root@CMA:/usr/share/assimilation/crypto.d/#CMA#*.pub' keys/" \
            "Then run this again with --keys keys. Or let the CMA's machine do it all:  sudo installme --remote $(uname -n)"
    fi
    nanoprobe_settings "$kind"
    [ "$ROOT" = / ] || { how_to_start nanoprobe; return 0; }
    start_unit "$NANOPROBE_UNIT"
    if [ -n "$FROM_CMA" ] || [ -n "$DRY" ]; then
        # Whether it registered is seen on the CMA's machine. These are for the program there.
        say "designation=$(designation_here)"
        say "restarted=$RESTARTED"
        return 0
    fi
    await_here
}

# As far as it can be seen from here: what the nanoprobe tells systemd of itself. It does that with a pause of seconds, so a host
# that was approved a moment ago may still say that it waits.
await_here() {
    waited=0 pending=0
    while :; do
        status=$(systemctl show -p StatusText "$NANOPROBE_UNIT" 2>/dev/null | sed 's/^StatusText=//' | tr -cd '[:print:]')
        case $status in
        'registered with the CMA'*) break ;;
        'refused by the CMA'*approv*) pending=$((pending + 1)) ;;
        *) pending=0 ;;
        esac
        if [ "$pending" -gt 3 ] || { [ "$pending" -gt 0 ] && [ "$waited" -ge "$WAIT" ]; }; then
            note "this host waits for approval; on the CMA's machine:  assimcli hosts approve $(designation_here)"
            return 0
        fi
        [ "$waited" -lt "$WAIT" ] || not_registered_here
        sleep 1
        waited=$((waited + 1))
    done
    step "$(designation_here) is $status"
}

not_registered_here() {
    complain "the nanoprobe runs, and did not register with the CMA within $WAIT s"
    [ -z "$status" ] || hint "It says: $status"
    journal "$NANOPROBE_UNIT" | while IFS= read -r line; do hint "$line"; done
    addresses=$CMAADDR
    [ -n "$addresses" ] || addresses=$(sed -n 's/^NANOPROBE_CMAADDR=//p' "$(variables_file "$kind")" 2>/dev/null)
    [ -n "$addresses" ] || hint "Nobody answers to multicast here; name the CMA:  --cmaaddr ADDR"
    for address in $(printf '%s\n' "$addresses" | tr ',' ' '); do
        hint "$("$(program nanoprobe)" reach "$address" 2>&1)"
        hint "If it does not answer, the CMA's machine has to let UDP port ${address##*:} in; there:  installme --firewall-rule ${address##*:}"
    done
    exit 1
}
