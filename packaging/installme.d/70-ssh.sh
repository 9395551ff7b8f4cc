# ---------------------------------------------------------------- other machines: ssh

# ssh with this run's options; all of one machine goes through one connection, so that a password is typed once.
with_ssh() {
    [ -z "$SSH_PORT" ] || set -- -p "$SSH_PORT" "$@"
    [ -z "$IDENTITY" ] || set -- -i "$IDENTITY" -o IdentitiesOnly=yes "$@"
    [ -z "$ACCEPT_NEW" ] || set -- -o StrictHostKeyChecking=accept-new "$@"
    # sudo made us root, and the person who called it has the keys and knows the servers.
    if [ -n "$CALLER_HOME" ]; then
        [ ! -f "$CALLER_HOME/.ssh/known_hosts" ] ||
            set -- -o "UserKnownHostsFile=~/.ssh/known_hosts $CALLER_HOME/.ssh/known_hosts" "$@"
        for key in id_ed25519 id_ecdsa id_rsa; do
            [ -n "$IDENTITY" ] || [ ! -f "$CALLER_HOME/.ssh/$key" ] || set -- -i "$CALLER_HOME/.ssh/$key" "$@"
        done
    fi
    # Nothing of what people have in their own configuration is to be opened on the way.
    ssh -o ControlPath="$SSH_SOCKET" -o ConnectTimeout=15 -o ServerAliveInterval=15 -o ForwardAgent=no -o ForwardX11=no \
        -o ClearAllForwardings=yes -o LogLevel=ERROR "$@"
}

# A command line for the shell there, through the open connection only.
there() { with_ssh -o ControlMaster=no -o BatchMode=yes "$TARGET" "$1" 9>&-; }

# One as root. The password goes to sudo's standard input; what remains of it nobody reads, because the commands do not.
there_as_root() {
    log "on $HOST as root: $1"
    case $BECOME in
    root) there "$1" </dev/null ;;
    free) there "LC_ALL=C sudo -n $1" </dev/null ;;
    password) printf '%s\n' "$PASSWORD" | there "LC_ALL=C sudo -k -S -p '' $1" ;;
    esac
}

connect() {
    log "ssh to $TARGET"
    if with_ssh -o ControlMaster=yes -o ControlPersist=no -o BatchMode=yes -fN "$TARGET" >/dev/null 2>"$WORK/err" </dev/null 9>&-; then
        step "connected as $LOGIN"
        return
    fi
    keep_output "$(cat "$WORK/err")"
    case $(cat "$WORK/err") in
    *'Permission denied'*password* | *'Permission denied'*keyboard-interactive*) ;;
    *) ssh_failed ;;
    esac
    ask_password "Password of $TARGET" ||
        die "$HOST wants a password, and there is no terminal to ask for it" \
            "Run this in a terminal, or let $LOGIN log in with a key (ssh-copy-id $TARGET), or name one with --identity FILE."
    # ssh asks this program instead of the terminal, and the program reads what we write to ssh's input.
    cat >"$WORK/askpass" <<'END'
#!/bin/sh
case $1 in *[Pp]assword* | *[Vv]erification*) IFS= read -r line && printf '%s\n' "$line" ;; *) exit 1 ;; esac
END
    chmod 700 "$WORK/askpass"
    if ! printf '%s\n' "$PASSWORD" | (
        SSH_ASKPASS=$WORK/askpass SSH_ASKPASS_REQUIRE=force DISPLAY=${DISPLAY:-none:0}
        export SSH_ASKPASS SSH_ASKPASS_REQUIRE DISPLAY
        with_ssh -o ControlMaster=yes -o ControlPersist=no -o NumberOfPasswordPrompts=1 -o PubkeyAuthentication=no -fN "$TARGET" \
            >/dev/null 2>"$WORK/err" 9>&-
    ); then
        keep_output "$(cat "$WORK/err")"
        case $(cat "$WORK/err") in
        *'Permission denied'*) die "$HOST did not take the password of $LOGIN" "Run this again; --user USER logs in as somebody else." ;;
        *) ssh_failed ;;
        esac
    fi
    step "connected as $LOGIN, with a password"
}

ssh_failed() {
    told=$(tail -n 3 "$WORK/err" | tr -cd '[:print:]\n')
    where="$HOST${SSH_PORT:+ port $SSH_PORT}"
    case $(cat "$WORK/err") in
    *'HOST IDENTIFICATION HAS CHANGED'* | *'differs from the key'*)
        die "the host key of $HOST has changed: it was installed again, or somebody is in between" \
            "Find out which (compare with the fingerprint on its console: ssh-keygen -lf /etc/ssh/ssh_host_ed25519_key.pub)." \
            "If it was installed again:  ssh-keygen -R $HOST   and once  ssh $TARGET" ;;
    *'Host key verification failed'*)
        die "the host key of $HOST is not known here, so it could be anybody" \
            "Log in once and compare the fingerprint:  ssh $TARGET   or, on a network that you trust: --accept-new-host-keys" ;;
    *'Could not resolve'*) die "the name $HOST is not known to the resolver" "Check it, or name its address." ;;
    *'Connection refused'*) die "ssh refused: no ssh server listens at $where" "Start it there (systemctl enable --now ssh, or sshd), or name its port with --port." ;;
    *'timed out'* | *'No route to host'* | *'Network is unreachable'*)
        die "$where cannot be reached by ssh" "Is it on? Does a firewall let TCP port ${SSH_PORT:-22} through?" ;;
    *'Too many authentication failures'*) die "$HOST gave up after too many keys" "Name the right one:  --identity FILE" ;;
    *'Permission denied'*) die "$HOST does not let $LOGIN in" "Copy a key there (ssh-copy-id $TARGET), name one with --identity FILE, or another account with --user." ;;
    *) die "ssh to $where failed" "$told" ;;
    esac
}

# ask_password PROMPT: into $PASSWORD, at most once for one machine.
ask_password() {
    # In a shell of its own: some end when a redirection of `:` fails.
    (: </dev/tty) 2>/dev/null || return 1
    printf '%s: ' "$1" >/dev/tty
    ECHO_OFF=yes
    stty -echo </dev/tty
    IFS= read -r PASSWORD </dev/tty || PASSWORD=
    stty echo </dev/tty
    ECHO_OFF=
    printf '\n' >/dev/tty
    [ -n "$PASSWORD" ]
}
