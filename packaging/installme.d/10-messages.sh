# ---------------------------------------------------------------- messages and the log

# Prints a line, and logs it.
say() { printf '%s\n' "$*"; log "$*"; }
# A step of what is done on one machine.
step() { say "   $*"; }
note() { printf '%s\n' "   note: $*"; log "note: $*"; NOTES=yes; }
complain() { printf '%s\n' "installme: $*" >&2; log "error: $*"; }
# Ends this program, or the work on one machine: everything about that happens in a subshell.
die() {
    DIE_RESULT=$1
    complain "$1"
    shift
    for hint_line in "$@"; do
        printf '  %s\n' "$hint_line" >&2
        log "  $hint_line"
    done
    [ -z "$RESULT_FILE" ] || printf '%s\n' "$DIE_RESULT" >"$RESULT_FILE"
    remove_copy
    exit 1
}
wrong_usage() { printf 'installme: %s\n  installme --help shows the options.\n' "$*" >&2; exit 1; }

log() {
    [ -n "$LOG" ] || return 0
    printf '%s %s\n' "$(date '+%Y-%m-%dT%H:%M:%S%z')" "$1" >>"$LOG" 2>/dev/null || LOG=
}

# Runs a command that changes something, without input; with --dry-run only says so. What it prints goes to the log,
# its last lines into $TAIL.
run() {
    if [ -n "$DRY" ]; then
        step "would run: $*"
        return 0
    fi
    log "run: $*"
    # 9 is the lock: whatever stays in the background must not hold it.
    # Into a file: if this program is killed, what it started can still write, and comes to its end.
    "$@" >"$WORK/output" 2>&1 </dev/null 9>&-
    run_code=$?
    keep_output "$(cat "$WORK/output")"
    log "exit status $run_code"
    return "$run_code"
}

keep_output() {
    TAIL=$(printf '%s\n' "$1" | grep -v '^[[:space:]]*$' | tail -n 5 | tr -cd '[:print:]\n\t')
    [ -z "$LOG" ] || [ -z "$1" ] || printf '%s\n' "$1" | sed 's/^/    | /' >>"$LOG"
}

# Prints an absolute path below --root.
at() { printf '%s%s\n' "${ROOT%/}" "$1"; }
have() { command -v "$1" >/dev/null 2>&1; }
lower() { printf '%s\n' "$1" | tr '[:upper:]' '[:lower:]'; }
# One argument as a word of a shell's command line.
quoted() { printf "'%s'" "$(printf '%s\n' "$1" | sed "s/'/'\\\\''/g")"; }

is_address() {
    case $1 in
    '' | -* | *[!][[:alnum:].:_-]*) return 1 ;;
    esac
}
is_name() {
    case $1 in
    '' | -* | .* | *[!A-Za-z0-9._-]*) return 1 ;;
    esac
    [ "${#1}" -le 253 ]
}
is_number() {
    case $1 in
    '' | *[!0-9]* | ??????*) return 1 ;;
    esac
}

cleanup() {
    [ -z "${ECHO_OFF:-}" ] || stty echo </dev/tty 2>/dev/null
    [ -n "${WORK:-}" ] || return 0
    for socket in "$WORK"/ssh.*; do
        [ ! -S "$socket" ] || ssh -o ControlPath="$socket" -O exit none >/dev/null 2>&1
    done
    rm -rf "$WORK"
}
