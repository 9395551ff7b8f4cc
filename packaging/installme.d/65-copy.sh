# ---------------------------------------------------------------- the copy of the packages

# Packages stay on the CMA's machine, so that the second host is one command. A list of what was copied lies beside it
# ($KEPT): the next release replaces, and the purge of the packages removes, what is in the list and nothing else.
keep_copy() {
    from=$(packages_directory)
    to=$(at /usr/share/assimilation/install)
    [ "$from" != "$to" ] || return 0
    if [ -f "$to/SHA256SUMS" ] && cmp -s "$from/SHA256SUMS" "$to/SHA256SUMS"; then
        [ ! -f "$to/$KEPT" ] || link_program
        return 0
    fi
    if [ -e "$to" ] && [ -n "$(not_kept "$to")" ]; then
        note "$to has files that installme did not put there, so it is left as it is; keep $from for installing other machines"
        return 0
    fi
    if [ -n "$DRY" ]; then
        step "would keep a copy of the packages in $to"
        return 0
    fi
    # Killed at any moment, what is half there has another name, and goes with the next run or with the purge.
    rm -rf "$to.new" "$to.old"
    if run mkdir -p "$to.new" && run copy_release "$from" "$to.new" && { [ ! -e "$to" ] || run mv "$to" "$to.old"; } &&
        run mv "$to.new" "$to"; then
        rm -rf "$to.old"
        step "a copy of the packages is in $to"
        link_program
    else
        [ -e "$to" ] || [ ! -e "$to.old" ] || run mv "$to.old" "$to"
        rm -rf "$to.new"
        note "the packages could not be copied to $to ($TAIL); keep $from for installing other machines"
    fi
}

# Into the PATH, unless somebody has put a program of this name there.
link_program() {
    [ "$ROOT" = / ] && [ -z "$DRY" ] && [ ! -e /usr/local/sbin/installme ] || return 0
    run mkdir -p /usr/local/sbin && run ln -sf "$to/installme" /usr/local/sbin/installme
}

copy_release() {
    for entry in "$1"/*.deb "$1"/*.rpm "$1/programs" "$1/SHA256SUMS"; do
        [ ! -e "$entry" ] || cp -R "$entry" "$2/" || return 1
    done
    # shellcheck disable=SC2094 # The list does not list itself.
    cp "$SELF" "$2/installme" && chmod 755 "$2/installme" && chmod -R go-w "$2" &&
        (cd "$2" && find . -type f ! -name "$KEPT" -exec sha256sum {} + >"$KEPT")
}

# not_kept DIR: what is in it that is not, byte for byte, in its list.
not_kept() (
    cd "$1" || exit 1
    list=$KEPT
    [ -f "$list" ] || list=/dev/null
    find . ! -type d ! -type f
    find . -type f ! -path "./$KEPT" -exec sha256sum {} + | grep -vxF -f "$list"
)
