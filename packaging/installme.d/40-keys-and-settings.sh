# ---------------------------------------------------------------- keys, settings

make_directory() {
    [ -d "$1" ] || { run mkdir -p "$1" && run chmod "$2" "$1"; } || die "$1 cannot be made" "$TAIL"
}

# The place of keys. Packages make it a link, so that /usr can be read-only; a real directory is kept.
key_directory() {
    crypto=$(at /usr/share/assimilation/crypto.d)
    if [ ! -d "$crypto" ]; then
        if [ "$ROOT" = / ]; then
            make_directory /var/lib/assimilation/crypto.d 700
            make_directory /usr/share/assimilation 755
            run ln -s /var/lib/assimilation/crypto.d "$crypto" || die "$crypto cannot be made" "$TAIL"
        else
            make_directory "$crypto" 700
        fi
    fi
    [ -d "$crypto" ] || return 0
    case $(ls -ldL "$crypto") in
    drwx------*) ;;
    *)
        step "$crypto is readable by others; keys are refused then, so it is closed"
        run chmod 700 "$crypto/." || die "the mode of $crypto cannot be set" "chmod 700 $crypto/."
        ;;
    esac
}

count() { (cd "$1" 2>/dev/null && for f in $2; do [ ! -e "$f" ] || echo; done) | wc -l; }

# The CMA's pairs. Two on the first day: one in use, one for the day on which that is compromised.
cma_keys() {
    crypto=$(at /usr/share/assimilation/crypto.d)
    publics=$(count "$crypto" "$PUBLIC_KEYS")
    secrets=$(count "$crypto" '#CMA#*.secret')
    if [ "$publics" -gt 0 ] && [ "$secrets" -eq 0 ]; then
        die "$crypto has public keys of a CMA, and no secret: this machine belongs to another CMA, or its secrets were taken away" \
            "Put the secret of this CMA back, or, if this machine is to become a CMA of its own:" \
            "  rm $crypto/#CMA#*.pub" "Then run this again."
    fi
    if [ "$publics" -ge 2 ]; then
        step "the CMA has its keys"
    else
        step "making the CMA's keys"
        run "$(program assimcli)" --root "$ROOT" genkeys || die "the CMA's keys could not be made" "$TAIL"
    fi
    # The highest number is the spare.
    spare=$( (cd "$crypto" 2>/dev/null && for f in '#CMA#'*.secret; do [ ! -f "$f" ] || printf '%s\n' "$f"; done) | sort | sed 1d)
    [ -z "$spare" ] || printf '%s\n' "$spare" | while IFS= read -r f; do
        step "TAKE OFF-LINE NOW: copy $crypto/$f to a medium in a drawer, then delete it here"
        step "   (the spare secret: if the one in use is ever stolen, no host has to be visited)"
    done
}

# The CMA's public keys for a nanoprobe: public_keys_from DIR. Never a secret.
public_keys_from() {
    crypto=$(at /usr/share/assimilation/crypto.d)
    copied=0
    for key in "$1"/'#CMA#'*.pub; do
        [ -f "$key" ] || continue
        is_public_key "$key" || die "$key is no public key: it is a link, or has a secret's content" "Nothing was copied."
        copied=$((copied + 1))
        target=$crypto/${key##*/}
        ! cmp -s "$key" "$target" || continue
        [ ! -s "$target" ] || die "$target is another key than that of $1: this host trusts another CMA" \
            "If it is to change to this one, stop the nanoprobe and remove the old keys:" \
            "  systemctl stop $NANOPROBE_UNIT; rm $crypto/#CMA#*.pub" "Then run this again."
        put_file "$key" "$target" 644
        # Where a CMA's account owns the directory, its files are that account's too.
        run chown --reference="$crypto/." "$target"
        CHANGED=yes
    done
    [ "$copied" -gt 0 ] || die "there is no public key of a CMA ($PUBLIC_KEYS) in $1" \
        "Copy them from the CMA's machine: scp 'CMA:/usr/share/assimilation/crypto.d/#CMA#*.pub' $1/"
}

# A regular file of the right name, and not the content of any secret beside it.
is_public_key() {
    case ${1##*/} in '#CMA#'*.pub) ;; *) return 1 ;; esac
    [ -f "$1" ] && [ ! -h "$1" ] && [ -s "$1" ] || return 1
    for secret in "${1%/*}"/*.secret; do
        [ ! -f "$secret" ] || ! cmp -s "$1" "$secret" || return 1
    done
}

# set_variable FILE NAME VALUE: in a file of NAME=VALUE lines; others stay.
set_variable() {
    if [ -f "$1" ] && grep -qxF "$2=$3" "$1"; then
        return 0
    fi
    CHANGED=yes
    if [ -n "$DRY" ]; then
        step "would write $2=$3 into $1"
        return 0
    fi
    [ -d "${1%/*}" ] || run mkdir -p "${1%/*}"
    {
        [ ! -f "$1" ] || sed "/^[[:space:]]*$2=/d" "$1"
        printf '%s=%s\n' "$2" "$3"
    } >"$WORK/variables"
    put_file "$WORK/variables" "$1" 644
    step "$2=$3"
}

# The name in nanoprobe.toml: keys of the file itself stand before its first section.
set_name() {
    toml=$(at /etc/assimilation/nanoprobe.toml)
    [ "$(name_in_toml)" != "$1" ] || return 0
    CHANGED=yes
    {
        printf 'name = "%s"\n' "$1"
        [ ! -f "$toml" ] || awk '/^[ \t]*\[/ { inside = 1 } !inside && /^[ \t]*name[ \t]*=/ { next } { print }' "$toml"
    } >"$WORK/toml"
    put_file "$WORK/toml" "$toml" 644
}

name_in_toml() {
    toml=$(at /etc/assimilation/nanoprobe.toml)
    [ ! -f "$toml" ] || awk '/^[ \t]*\[/ { exit } /^[ \t]*name[ \t]*=/ { sub(/^[^=]*=[ \t]*"?/, ""); sub(/".*$/, ""); print; exit }' "$toml"
}

# The designation of this host.
designation_here() {
    in_toml=$(name_in_toml)
    lower "${NAME:-${in_toml:-$(uname -n)}}"
}

variables_file() {
    if [ "$1" = rpm ] || { [ ! -d "$(at /etc/default)" ] && [ -d "$(at /etc/sysconfig)" ]; }; then
        at /etc/sysconfig/nanoprobe
    else
        at /etc/default/nanoprobe
    fi
}

# Where the CMA is, the name and the token; whatever is not named stays as it is.
nanoprobe_settings() {
    [ -z "$CMAADDR" ] || set_variable "$(variables_file "$1")" NANOPROBE_CMAADDR "$CMAADDR"
    [ -z "$NAME" ] || set_name "$NAME"
    [ -n "$TOKEN" ] || return 0
    token_file=$(at /etc/assimilation/enrol.token)
    CHANGED=yes
    if [ -n "$DRY" ]; then
        step "would write the enrolment token into $token_file"
        return 0
    fi
    make_directory "$(at /etc/assimilation)" 755
    # Not by put_file: the mode has to be right before the first byte.
    if (umask 077 && rm -f "$token_file.new" && printf '%s\n' "$TOKEN" >"$token_file.new") && run mv -f "$token_file.new" "$token_file"; then
        step "the enrolment token is in $token_file"
    else
        die "$token_file cannot be written" "$TAIL"
    fi
}
