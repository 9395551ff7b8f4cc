# ---------------------------------------------------------------- units, and what the CMA knows of a host

# The path of one of our programs, as this system has it now.
program() {
    for bin in /usr/sbin /usr/bin /usr/local/sbin /usr/local/bin; do
        if [ -x "$(at "$bin/$1")" ]; then
            at "$bin/$1"
            return
        fi
    done
    printf '%s\n' "$1"
}

start_unit() {
    if [ -n "$DRY" ]; then
        step "would enable and start $1"
        return 0
    fi
    if ! systemctl is-enabled --quiet "$1" 2>/dev/null; then
        run systemctl enable "$1" || die "$1 cannot be enabled" "$TAIL"
    fi
    if ! systemctl is-active --quiet "$1"; then
        run systemctl reset-failed "$1"
        step "starting $1"
        unit_up start "$1"
    elif [ -n "$CHANGED" ]; then
        step "starting $1 again, with what changed"
        unit_up restart "$1"
    fi
}

# unit_up VERB UNIT: until it says that it works, or what it says instead.
unit_up() {
    RESTARTED=yes
    run systemctl --no-block "$1" "$2" || unit_failed "$2" "does not start"
    waited=0
    while :; do
        # A restart that is only queued still shows the old one.
        case $(systemctl is-active "$2" 2>/dev/null):$(systemctl show -p Job "$2" 2>/dev/null) in
        active:Job=?*) ;;
        active:*) return 0 ;;
        failed:*) unit_failed "$2" "does not start" ;;
        esac
        [ "$waited" -lt "$WAIT" ] || unit_failed "$2" "is not ready after $WAIT s"
        sleep 1
        waited=$((waited + 1))
    done
}

unit_failed() {
    unit_log=$(journal "$1")
    die "$1 $2" "$unit_log" "See: systemctl status $1; journalctl -u $1"
}

journal() { journalctl -u "$1" -n 6 --no-pager -o cat 2>/dev/null | tr -cd '[:print:]\n'; }

# host_row NAME: what the CMA on this machine knows of a host, in H_STATUS, H_STARTED, H_ADDRESS and H_KEY.
# Fails when the CMA does not answer; H_STATUS is empty for a host it does not know.
host_row() {
    H_STATUS='' H_STARTED='' H_ADDRESS='' H_KEY=''
    row=$("$(program assimcli)" --root "$ROOT" -o script sql "SELECT status, coalesce(started, '-'), coalesce(address, '-'), \
CASE WHEN rejected_at IS NULL THEN 'ok' ELSE 'MISMATCH' END FROM hosts WHERE host = '$1'" 2>&1 </dev/null)
    row_code=$?
    case $row_code in
    0 | 2) ;;
    127) ROW_ERROR='there is no assimcli'; return 1 ;;
    *) ROW_ERROR=$row; return 1 ;;
    esac
    [ -z "$row" ] || IFS='	' read -r H_STATUS H_STARTED H_ADDRESS H_KEY <<END
$row
END
}

is_pending() {
    # host, key, address, since, last seen, machine, note, approved: the last is empty as long as it waits.
    "$(program assimcli)" --root "$ROOT" -o script hosts pending 2>/dev/null </dev/null |
        awk -F '\t' -v name="$1" '$1 == name && $8 == "" { waits = 1 } END { exit !waits }'
}

# await_host NAME STARTED-BEFORE SECONDS: until the CMA has it as up, registered after we began (STARTED-BEFORE is empty
# where nothing was started anew). Says nothing; 0 registered, 1 not, 2 waits for approval.
await_host() {
    waited=0
    while :; do
        if host_row "$1" && [ "$H_STATUS" = up ] && { [ -z "$2" ] || [ "$H_STARTED" != "$2" ]; }; then
            return 0
        fi
        ! is_pending "$1" || return 2
        [ "$waited" -lt "$3" ] || return 1
        sleep 1
        waited=$((waited + 1))
    done
}

# What to do when a host is not there: explain_absence NAME; sets RESULT for tables.
explain_absence() {
    host_row "$1"
    if [ "$H_KEY" = MISMATCH ]; then
        RESULT="another key has the name $1 already"
        complain "the name $1 is taken: the CMA knows a host of this name with another key"
        hint "If it is the same machine, installed again:  assimcli hosts accept-key $1"
        hint "If it is another machine, give this one another name:  --name OTHER"
        return
    fi
    revoked=$("$(program assimcli)" --root "$ROOT" -o script hosts revoked 2>/dev/null </dev/null | cut -f 1)
    case "
$revoked
" in
    *"
$1
"*)
        RESULT="its key was revoked"
        complain "the key of $1 was revoked: assimcli hosts revoked"
        return
        ;;
    esac
    RESULT="not registered within $WAIT s"
    complain "$1 did not register with the CMA within $WAIT s"
}
hint() { printf '  %s\n' "$*" >&2; log "  $*"; }

# The rule that lets UDP packets to a port in, for the firewall that runs on this machine.
firewall_rule() {
    if have firewall-cmd && firewall-cmd --state >/dev/null 2>&1; then
        echo "firewall-cmd --permanent --add-port=$1/udp && firewall-cmd --reload"
        return
    fi
    if have ufw && ufw status 2>/dev/null | grep -q '^Status: active'; then
        echo "ufw allow $1/udp"
        return
    fi
    if have nft; then
        # table FAMILY NAME { chain NAME { type filter hook input priority N; policy P; } }
        chain=$(nft list chains 2>/dev/null | awk '$1 == "table" { table = $2 " " $3 } $1 == "chain" { chain = $2 }
            /hook input/ && ($0 ~ /policy drop/ || found == "") { found = table " " chain } END { print found }')
        if [ -n "$chain" ]; then
            echo "nft insert rule $chain udp dport $1 accept   (and the same line in /etc/nftables.conf)"
            return
        fi
    fi
    echo "let UDP port $1 in: nft add rule inet filter input udp dport $1 accept; firewall-cmd --permanent --add-port=$1/udp; or ufw allow $1/udp"
}
