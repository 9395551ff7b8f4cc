# ---------------------------------------------------------------- options, and what they ask for

ROOT=/ DRY='' LOG='' WORK='' RESULT_FILE='' TAIL='' CHANGED='' RESTARTED='' NOTES='' ECHO_OFF=''
KIND='' PACKAGES='' KEYS='' NAME='' CMAADDR='' TOKEN='' WAIT=60
REMOTES='' SSH_USER='' SSH_PORT='' IDENTITY='' ACCEPT_NEW='' FROM_CMA='' CALLER_HOME='' R_DIRECTORY=''
ROLE=both
RULE_PORT=
SELF=$0
case $SELF in */*) ;; *) SELF=$(command -v "$0" 2>/dev/null || printf '%s\n' "$0") ;; esac
[ ! -h "$SELF" ] || SELF=$(readlink -f "$SELF")
# For messages; a token on the command line is not repeated.
ORIGINAL=$(printf '%s ' "$@" | sed 's/--token[= ][^ ]*/--token TOKEN/g')

while [ $# -gt 0 ]; do
    option=$1
    value=
    case $option in
    --*=*)
        value=${option#*=}
        option=${option%%=*}
        shift
        set -- "$option" "$value" "$@"
        ;;
    esac
    case $option in
    --cmaaddr | --name | --keys | --token | --token-file | --remote | --user | --port | --identity | --packages | --kind | --wait | --root | --firewall-rule)
        [ $# -ge 2 ] || wrong_usage "$option needs a value"
        [ -n "$2" ] || wrong_usage "$option has an empty value"
        value=$2
        shift
        ;;
    esac
    case $option in
    --help | -h) usage; exit 0 ;;
    --version) echo "installme $VERSION"; exit 0 ;;
    --cmaaddr)
        is_address "$value" || wrong_usage "--cmaaddr $value: this is no address such as 192.0.2.1:1984"
        CMAADDR=${CMAADDR:+$CMAADDR,}$value
        ;;
    --name) is_name "$value" || wrong_usage "--name $value: a name has letters, digits, '.', '_' and '-'"; NAME=$(lower "$value") ;;
    --keys) [ -d "$value" ] || wrong_usage "--keys $value: there is no such directory"; KEYS=$value ;;
    --token) TOKEN=$value ;;
    --token-file)
        if [ "$value" = - ]; then
            IFS= read -r TOKEN || true
        else
            [ -r "$value" ] || wrong_usage "--token-file $value: there is no such file"
            IFS= read -r TOKEN <"$value" || true
        fi
        ;;
    --remote)
        case ${value##*@} in '' | -* | *[!A-Za-z0-9.:_-]*) wrong_usage "--remote $value: this is no name of a host" ;; esac
        case $value in *@*) is_name "${value%@*}" || wrong_usage "--remote $value: this is no name of a user" ;; esac
        REMOTES="$REMOTES $value"
        ;;
    --user) is_name "$value" || wrong_usage "--user $value: this is no name of a user"; SSH_USER=$value ;;
    --port) is_number "$value" || wrong_usage "--port $value: this is no port"; SSH_PORT=$value ;;
    --identity) [ -r "$value" ] || wrong_usage "--identity $value: there is no such file"; IDENTITY=$value ;;
    --accept-new-host-keys) ACCEPT_NEW=yes ;;
    --packages) [ -d "$value" ] || wrong_usage "--packages $value: there is no such directory"; PACKAGES=$(cd "$value" && pwd) ;;
    --kind) case $value in deb | rpm | plain) KIND=$value ;; *) wrong_usage "--kind $value: it is deb, rpm or plain" ;; esac ;;
    --wait) is_number "$value" || wrong_usage "--wait $value: this is no number of seconds"; WAIT=$value ;;
    --root) [ -d "$value" ] || wrong_usage "--root $value: there is no such directory"; ROOT=$(cd "$value" && pwd) ;;
    --firewall-rule) is_number "$value" || wrong_usage "--firewall-rule $value: this is no port"; RULE_PORT=$value ;;
    --dry-run) DRY=yes ;;
    # Written by this program on the CMA's machine, which does the waiting.
    --from-cma) FROM_CMA=yes ;;
    nanoprobe) ROLE=nanoprobe ;;
    *) wrong_usage "unknown word: $option" ;;
    esac
    shift
done
if [ -n "$REMOTES" ]; then
    [ "$ROLE" = both ] || wrong_usage "$ROLE and --remote exclude each other: --remote always installs a nanoprobe"
    ROLE=remote
    # shellcheck disable=SC2086
    set -- $REMOTES
    [ -z "$NAME" ] || [ $# -eq 1 ] || wrong_usage "--name $NAME: one name for several machines"
fi
case $TOKEN in *[![:alnum:]._-]*) wrong_usage "the enrolment token has characters that no token has" ;; esac

PATH=$PATH:/usr/sbin:/sbin:/usr/local/sbin:/usr/local/bin
if [ -n "$RULE_PORT" ]; then
    firewall_rule "$RULE_PORT"
    exit 0
fi
umask 022
WORK=$(mktemp -d "${TMPDIR:-/tmp}/installme.XXXXXX") || { echo "installme: no temporary directory can be made; is the disk full?" >&2; exit 1; }
trap cleanup EXIT
trap 'exit 1' HUP INT TERM
if [ -z "$DRY" ]; then
    LOG=$(at /var/log/assimilation-install.log)
    mkdir -p "${LOG%/*}" 2>/dev/null
    (umask 077 && : >>"$LOG") 2>/dev/null || LOG=
    lock=$(at /run/assimilation-install.lock)
    mkdir -p "${lock%/*}" 2>/dev/null
    if have flock && (: >>"$lock") 2>/dev/null; then
        exec 9>>"$lock"
        # Also one that goes on here after the connection from the CMA's machine broke.
        waited=0
        until flock -n 9; do
            [ "$waited" -ne 0 ] || echo "another installme is at work on this machine; waiting for it" >&2
            if [ "$waited" -ge "$WAIT" ]; then
                echo "installme: another installme is still at work on this machine; run this again when it has finished" >&2
                exit 1
            fi
            sleep 1
            waited=$((waited + 1))
        done
    fi
    log "installme $VERSION $ORIGINAL"
fi
case $ROLE in
both) both_here ;;
nanoprobe) nanoprobe_here ;;
remote) remote_machines ;;
esac
[ -z "$NOTES" ] || exit 2
