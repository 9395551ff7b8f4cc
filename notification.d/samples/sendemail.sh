#!/bin/sh
#
# Sample notification script: sends a mail when a host, a switch or a service goes down or comes back, when a host breaks a
# best-practice rule or keeps it again, when programs of a host changed, and when something changed around hosts: cables,
# switches, neighbours without a nanoprobe, addresses with two owners. Everything else is ignored.
#
# To use it: set the values below (or in the environment), make the file executable, and copy it to
# /etc/assimilation/notification.d. It needs one of mail (mailutils, bsd-mailx, s-nail), mailx or mutt.
# To try it:
#   echo '{}' | ASSIM_designation=web1 EMAILDESTS=you@example.com sh ./sendemail.sh down Drone
#
# Called as: sendemail.sh <event> <node type>, with the event as JSON on stdin and in ASSIM_ variables.
# Exit status: 0 = sent, or nothing to do; anything else = not sent, and the CMA tries again later.

# Who gets the mails: one or more addresses, separated by blanks or commas.
EMAILDESTS="${EMAILDESTS:-}"
# The sender shown in the mails; empty = what the mail program chooses.
RETURNADDR="${RETURNADDR:-}"
# mail_email, mailx_email or mutt_email; empty = the first of mail, mailx and mutt that is installed.
EMAIL_METHOD="${EMAIL_METHOD:-}"

# ---------------------------------------------------------------------------------------------------------

set -u
set -f # addresses and values are never file name patterns
umask 077
PATH="${PATH:-/usr/sbin:/usr/bin:/sbin:/bin}"
HOME="${HOME:-/}"
# facts of hosts may be UTF-8
LC_ALL="${LC_ALL:-C.UTF-8}"
export PATH HOME LC_ALL
unset IFS

event="${1:-}"
nodetype="${2:-}"

fail() {
    echo "sendemail.sh: $*" >&2
    exit 1
}

# One line without control characters, of a bounded length: fit for a header.
one_line() {
    printf '%s' "$1" | LC_ALL=C tr '\000-\037\177' ' ' | LC_ALL=C cut -c "1-${2:-200}"
}

# The value of an ASSIM_ variable as one line, or the second argument when it is not set or empty.
value() {
    eval "raw=\${ASSIM_$1:-}"
    one_line "${raw:-${2:-}}"
}

# Sets `subject` and `happened`; returns 1 for events that nobody is mailed about.
describe() {
    host=$(value designation 'an unnamed host')
    reason=$(value reason 'no reason given')
    category=$(value category unknown)
    rule=$(value ruleid)
    service=$(value monitorname "$(value designation 'an unnamed service')")
    case "$nodetype:$event" in
        MonitorAction:down)
            subject="WARNING: Service down: $service"
            happened="The service $service does not work: $reason." ;;
        MonitorAction:up)
            subject="HURRAY: Service up: $service"
            happened="The service $service works." ;;
        MonitorAction:warn)
            subject="WARNING: Service in trouble: $service"
            happened="The service $service works, but not as it should: $reason." ;;
        MonitorAction:unwarn)
            subject="HURRAY: Service no longer in trouble: $service"
            happened="The service $service works as it should again." ;;
        Drone:up)
            subject="HURRAY: System $host is back up"
            happened="The system $host is up and reports to the CMA." ;;
        Drone:down)
            if [ "${ASSIM_reason:-}" = HBSHUTDOWN ]; then
                subject="WARNING: System $host was gracefully shut down"
                happened="The system $host, or its nanoprobe, was stopped in an orderly way."
            else
                subject="WARNING: System $host is down [$(value reason)]"
                case "${ASSIM_verdict:-}" in
                    'nanoprobe died')
                        happened="The nanoprobe of $host no longer runs. The system itself answers; nobody looks after its services." ;;
                    *)
                        happened="The system $host is not heard from any more: $reason." ;;
                esac
            fi ;;
        SystemNode:create | SystemNode:delete)
            describe_device ;;
        SystemNode:*)
            describe_outage ;;
        NICNode:* | IPaddrNode:*)
            describe_link ;;
        Drone:warn | Drone:unwarn)
            describe_compliance ;;
        Drone:update)
            describe_checksums ;;
        *)
            return 1 ;;
    esac
}

# An outage of many hosts that has one cause, or of the network of the CMA itself.
describe_outage() {
    hosts=$(value hosts several)
    case "$event" in
        down)
            subject="WARNING: $hosts systems are down together: $host [$(value reason)]"
            happened="$hosts systems went silent at the same moment ($host, $(value verdict outage)). No further mail tells of each of them." ;;
        up)
            subject="HURRAY: $hosts systems are back up: $host"
            happened="$hosts systems that went silent together ($host) are up again. Still down: $(value still_down 0)." ;;
        warn)
            subject="WARNING: $host: $reason"
            happened="$host cannot reach $hosts systems, and cannot tell whether that is its own fault. None of them is called dead." ;;
        unwarn)
            subject="HURRAY: $host: no longer in trouble [$reason]"
            happened="Systems answer $host again." ;;
        *)
            return 1 ;;
    esac
}

# A switch or another device that tells of itself (LLDP, CDP).
describe_device() {
    device=$(value systemname "$host")
    if [ "$event" = create ]; then
        subject="NOTE: New device at the network: $device"
        happened="The device $device ($host) was seen for the first time, by $(value seen_by 'a host')."
    else
        subject="WARNING: Device gone from the network: $device"
        happened="Nobody sees the device $device ($host) any more. The last who did was $(value seen_by 'a host')."
    fi
}

# A cable that was moved, a neighbour that came or went, an address that is not sure whose it is.
describe_link() {
    case "$nodetype:$event" in
        NICNode:update)
            subject="NOTE: Cable of $host $(value ifname): $reason"
            happened="The interface $(value ifname) of $host is on another cable than it was, or on none: $reason." ;;
        NICNode:warn)
            subject="WARNING: $host [$reason]"
            happened="The address $host goes to and fro between $(value old_macaddr) and $(value new_macaddr)." ;;
        NICNode:unwarn)
            subject="HURRAY: $host no longer in trouble [$reason]"
            happened="The address $host stays where it is." ;;
        IPaddrNode:create)
            subject="NOTE: Unknown system at the network: $host"
            happened="The address $host ($(value macaddr)) appeared near $(value seen_by 'a host'), and nobody told of it before. It has no nanoprobe." ;;
        IPaddrNode:delete)
            subject="NOTE: Gone from the network: $host"
            happened="The address $host ($(value macaddr)) is not heard any more near $(value seen_by 'a host')." ;;
        IPaddrNode:warn)
            subject="WARNING: $host belongs to several systems [$reason]"
            happened="Several systems have the address $host at the same time. Connections to it end at one or the other." ;;
        IPaddrNode:unwarn)
            subject="HURRAY: $host no longer in trouble [$reason]"
            happened="A warning about the address $host is over: $reason." ;;
        *)
            return 1 ;;
    esac
}

# Files of a host changed: with a package, which is worth a line, or without, which is worth getting up for.
describe_checksums() {
    [ "${ASSIM_CHANGETYPE:-}" = checksums ] || return 1
    if [ "${ASSIM_unexplained_count:-0}" = 0 ]; then
        subject="NOTE: System $host has changed programs or libraries"
        happened="Files of the system $host changed. Packages explain it, or the files are new or gone."
    else
        subject="WARNING: System $host has programs that were changed by no package: $(value unexplained_count)"
        happened="Files of the system $host changed although their packages did not. Find out who did it."
    fi
}

# A host's warnings: a rule, or the sum of all rules of a category, or something else that has a reason.
describe_compliance() {
    if [ -n "$rule" ]; then
        if [ "$event" = warn ]; then
            # Broken when it was first looked at: the score's mail counts these.
            [ -n "${ASSIM_oldstatus:-}" ] || return 1
            subject="WARNING: System $host out of compliance with $category best practice $rule"
            happened="The system $host breaks the $category rule $rule."
        else
            subject="HURRAY: System $host now in compliance with $category best practice $rule"
            happened="The system $host keeps the $category rule $rule again."
        fi
    elif [ -n "${ASSIM_newscore:-}" ]; then
        # A score moves with every rule, and the rule's own mail tells more; a first look has no others.
        [ "${ASSIM_first_failures:-0}" -gt 0 ] 2>/dev/null || return 1
        found="$(value first_failures) $category rules ($(value discovery_description "$(value discovery_type)"))"
        subject="NOTE: System $host does not keep $found"
        happened="At the first look the system $host does not keep $found. What they are: assimcli score --host $host"
    elif [ "$event" = warn ]; then
        subject="WARNING: System $host [$reason]"
        happened="The system $host needs attention: $reason."
    else
        subject="HURRAY: System $host no longer in trouble [$reason]"
        happened="A warning about the system $host is over: $reason."
    fi
}

# A heading and the text of a variable, indented; nothing when the variable is not set.
paragraph() {
    eval "raw=\${ASSIM_$2:-}"
    [ -n "$raw" ] || return 0
    printf '\n%s\n' "$1"
    printf '%s\n' "$raw" | LC_ALL=C tr '\000-\010\013-\037\177' ' ' | sed 's/^/    /'
}

# No line of the body starts with a tilde, which some mail programs take for a command to them.
body() {
    {
        printf '%s\n' "$happened"
        paragraph 'When:' time
        paragraph 'Rule:' title
        paragraph 'Severity:' severity
        paragraph 'Why it matters:' why
        paragraph 'What was found:' comment
        if [ "$event" = up ]; then
            paragraph 'Which ones:' explains_text
        else
            paragraph 'What it is taken for:' verdict
            paragraph 'How that is known:' evidence
            paragraph 'What this explains:' explains_text
        fi
        paragraph 'Who has it:' owners_text
        # what happened has been said
        [ -n "${ASSIM_verdict:-}" ] || paragraph 'What changed:' text
        paragraph 'What the monitor said:' monmsg
        if [ "$event" != unwarn ]; then
            paragraph 'To check by hand:' check
            paragraph 'To mend it now:' fix_now
            paragraph 'To mend it for good:' fix_permanently
        fi
        paragraph 'More about it:' url
        printf '\nAll facts of this event (as JSON too, see %s):\n' "$1"
        LC_ALL=C awk 'BEGIN { for (name in ENVIRON) if (name ~ /^ASSIM_[A-Za-z0-9_]+$/) print name }' | LC_ALL=C sort |
            while read -r name; do
                eval "raw=\${$name:-}"
                printf '    %s=%s\n' "$name" "$(one_line "$raw" 4000)"
            done
    } | sed 's/^~/ ~/'
}

# Which family a mail command belongs to; their options for attachments have nothing in common.
flavour() {
    version=$({ "$1" --version || "$1" -V; } </dev/null 2>/dev/null | head -n 3)
    case "$version" in
        *[Mm]ailutils*) echo mailutils ;;
        *[Ss]-nail* | *[Hh]eirloom* | 1[0-9].[0-9]*) echo nail ;;
        *) echo bsd ;;
    esac
}

# $1 is the command, mail or mailx. bsd-mailx cannot attach files: there the JSON follows the text.
send_with_mail() {
    command=$1
    kind=$(flavour "$command")
    set -- -s "$subject"
    if [ -n "$RETURNADDR" ]; then
        set -- "$@" -r "$RETURNADDR"
    fi
    case "$kind" in
        mailutils)
            # "set escape" takes its meaning from the tilde also where the program would look for it
            [ -z "$RETURNADDR" ] || set -- "$@" -a "From: $RETURNADDR"
            body 'the attachment' | "$command" -E 'set escape' "$@" -A "$json" -- $recipients ;;
        nail)
            # no "--" here: what follows it would go to sendmail as options
            body 'the attachment' | "$command" "$@" -a "$json" $recipients ;;
        bsd)
            { body 'the end'; echo; sed 's/^~/ ~/' "$json"; echo; } | "$command" "$@" -- $recipients ;;
    esac
}

mail_email() {
    send_with_mail mail
}

mailx_email() {
    send_with_mail mailx
}

mutt_email() {
    set -- -e 'set copy=no'
    if [ -n "$RETURNADDR" ]; then
        set -- "$@" -e "set from=\"$RETURNADDR\" use_from=yes use_envelope_from=yes"
    fi
    body 'the attachment' | mutt "$@" -s "$subject" -a "$json" -- $recipients
}

# Refuses what could be read as an option, a second header, or a command of the mail program.
check_address() {
    case "$1" in
        [!A-Za-z0-9_]* | *[!A-Za-z0-9._%+=@-]*) fail "'$(one_line "$1")' in $2 is not a mail address; write name@example.com" ;;
    esac
}

describe || exit 0

recipients=
for address in $(printf '%s' "$EMAILDESTS" | tr ',' ' '); do
    check_address "$address" EMAILDESTS
    recipients="$recipients $address"
done
[ -n "$recipients" ] || fail 'EMAILDESTS is not set; edit the top of this script and name who gets the mails'
[ -z "$RETURNADDR" ] || check_address "$RETURNADDR" RETURNADDR

if [ -z "$EMAIL_METHOD" ]; then
    for command in mail mailx mutt; do
        if command -v "$command" >/dev/null 2>&1; then
            EMAIL_METHOD=${command}_email
            break
        fi
    done
    [ -n "$EMAIL_METHOD" ] || fail 'none of mail, mailx and mutt is installed; install one, for example the package mailutils'
fi
case "$EMAIL_METHOD" in
    mail | mail_email) command=mail ;;
    mailx | mailx_email) command=mailx ;;
    mutt | mutt_email) command=mutt ;;
    *) fail "EMAIL_METHOD is '$(one_line "$EMAIL_METHOD")'; it must be mail_email, mailx_email or mutt_email" ;;
esac
command -v "$command" >/dev/null 2>&1 || fail "the command $command is not installed; install it or set EMAIL_METHOD"

work=$(mktemp -d "${TMPDIR:-/tmp}/assimilation-mail.XXXXXX") || fail 'cannot make a temporary directory; is /tmp full?'
trap 'rm -rf -- "$work"' EXIT
trap 'exit 1' HUP INT TERM
json=$work/event.json
cat >"$json" || fail "cannot store the event in $json; is the disk full?"

"${command}_email" || fail "$command could not hand over the mail (exit status $?)"
