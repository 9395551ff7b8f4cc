# ---------------------------------------------------------------- packages

# The kind of package that this system takes.
kind_here() {
    if [ -n "$KIND" ]; then
        echo "$KIND"
    elif [ "$ROOT" != / ]; then
        echo plain
    elif have dpkg && have apt-get; then
        echo deb
    elif have rpm && { have dnf || have zypper || have yum; }; then
        echo rpm
    else
        echo plain
    fi
}

# The name that packages of a kind have for a machine as `uname -m` calls it.
arch_name() {
    case $1:$2 in
    deb:x86_64) echo amd64 ;;
    deb:aarch64) echo arm64 ;;
    deb:armv7l) echo armhf ;;
    deb:i?86) echo i386 ;;
    deb:ppc64le) echo ppc64el ;;
    rpm:armv7l) echo armv7hl ;;
    *) echo "$2" ;;
    esac
}

# The architecture of this system's packages; on a 64 bit kernel the system may have 32 bits.
arch_here() {
    if [ "$1" = deb ]; then
        dpkg --print-architecture
    else
        arch_name "$1" "$(uname -m)"
    fi
}

packages_directory() {
    [ -z "$PACKAGES" ] || { printf '%s\n' "$PACKAGES"; return; }
    for candidate in "$(dirname "$SELF")" /usr/share/assimilation/install /var/lib/assimilation/install; do
        if [ -f "$candidate/SHA256SUMS" ]; then
            printf '%s\n' "$candidate"
            return
        fi
    done
}

# package_file DIR KIND NAME ARCH: the path, below DIR, of one package; of several versions that of this program.
package_file() {
    case $2 in
    deb) set -- "$1" "$3" "assimilation-$3_*_$4.deb" "assimilation-$3_${VERSION}*_$4.deb" "$4" ;;
    rpm) set -- "$1" "$3" "assimilation-$3-[0-9]*.$4.rpm" "assimilation-$3-${VERSION}*.$4.rpm" "$4" ;;
    plain)
        machine_of_programs=$(program_machine "$1/programs/$3")
        if [ -n "$machine_of_programs" ] && [ "$machine_of_programs" = "$4" ]; then
            echo "programs/$3"
            return 0
        fi
        return 1
        ;;
    esac
    (
        cd "$1" || exit 1
        # shellcheck disable=SC2086 # The pattern is to be expanded.
        set -- "$2" "$3" "$4" "$5" $3
        if [ $# -gt 5 ]; then
            # shellcheck disable=SC2086
            set -- "$1" "$2" "$3" "$4" $3
        fi
        [ $# -eq 5 ] && [ -f "$5" ] && printf '%s\n' "$5"
    )
}

# What machine a program is for, as `uname -m` says it: from its ELF header (elf(5), e_machine).
program_machine() {
    [ -f "$1" ] || return 1
    case $(od -An -tx1 -j18 -N2 "$1" | tr -d ' ') in
    3e00) echo x86_64 ;;
    b700) echo aarch64 ;;
    2800) echo armv7l ;;
    0300) echo i686 ;;
    1500) echo ppc64le ;;
    f300) echo riscv64 ;;
    esac
}

# What there is, for messages.
packages_listed() {
    (cd "$1" 2>/dev/null && for file in *.deb *.rpm programs; do [ ! -e "$file" ] || printf '%s ' "$file"; done)
}

# verified DIR FILE...: the checksums are those of SHA256SUMS. They tell a broken copy, not a forged one.
verified() {
    sums_directory=$1
    shift
    [ -f "$sums_directory/SHA256SUMS" ] ||
        die "$sums_directory has no SHA256SUMS, so nothing tells whether the packages are complete" \
            "Unpack the release again, or name the directory with --packages DIR."
    for verified_file in "$@"; do
        expected=$(awk -v f="$verified_file" '{ name = $2; sub(/^[*]/, "", name); sub(/^[.][\/]/, "", name) }
            name == f { print $1; exit }' "$sums_directory/SHA256SUMS")
        [ -n "$expected" ] || die "$sums_directory/SHA256SUMS does not list $verified_file" \
            "The packages are not of one release: unpack the release again into an empty directory."
        found=$(sha256sum <"$sums_directory/$verified_file" | cut -d ' ' -f 1)
        [ "$expected" = "$found" ] || die "$sums_directory/$verified_file is damaged: its checksum is not that of SHA256SUMS" \
            "Copy or download the release again."
    done
    step "checksums are right: $*"
}
