# ---------------------------------------------------------------- putting packages or programs on this system

# Puts packages or programs on this system: install_here KIND ARCH NAME...
install_here() {
    install_kind=$1
    install_arch=$2
    shift 2
    directory=$(packages_directory)
    [ -n "$directory" ] || die "there are no packages beside this program, nor in /usr/share/assimilation/install" \
        "Unpack the release and run the installme in it, or name the directory with --packages DIR."
    files=
    for package in "$@"; do
        file=$(package_file "$directory" "$install_kind" "$package" "$install_arch") ||
            die "wrong architecture: $directory has no $install_kind of $package for $install_arch, or several" \
                "There is: $(packages_listed "$directory")" \
                "Use the release for $install_arch; --packages DIR says where it is."
        files="$files $file"
    done
    # None of the names has a blank: they are made of the patterns above.
    # shellcheck disable=SC2086
    set -- $files
    if [ "$install_kind" = plain ]; then
        install_programs "$directory" "$@"
        return
    fi
    missing=
    for file in "$@"; do
        [ "$install_kind" = deb ] || is_installed_rpm "$directory/$file" || missing="$missing $file"
        [ "$install_kind" = rpm ] || is_installed_deb "$directory/$file" || missing="$missing $file"
    done
    if [ -z "$missing" ]; then
        step "installed already: $*"
        return
    fi
    # shellcheck disable=SC2086
    set -- $missing
    # shellcheck disable=SC2086
    verified "$directory" $missing
    enough_space
    paths=
    case $directory in *[[:space:]]*) die "the path of the packages has blanks in it: $directory" "Move them." ;; esac
    for file in "$@"; do paths="$paths $directory/$file"; done
    step "installing $*"
    waited=0
    # shellcheck disable=SC2086
    until "install_$install_kind" $paths; do
        # One that was cut off may still be at work, without its installme.
        case $TAIL in *[Ll]'ock '* | *' lock'*) ;; *) not_installed "$*" ;; esac
        [ "$waited" -lt "$WAIT" ] || not_installed "$*"
        sleep 3
        waited=$((waited + 3))
    done
    CHANGED=yes
}

not_installed() {
    case $TAIL in
    *'No space left'*) die "the disk is full: $1 could not be installed" "Make room, then run this again." "$TAIL" ;;
    *'dpkg frontend lock'* | *'Could not get lock'* | *'Waiting for process with pid'*)
        die "another program is installing packages: $1 could not be installed" "Run this again when it has finished." ;;
    *'ead-only file system'*) die "a file system is read-only: $1 could not be installed" \
        "Remount it (mount -o remount,rw /usr), or use this distribution's way to change its image." "$TAIL" ;;
    *) die "$1 could not be installed" "$TAIL" "More is in $LOG." ;;
    esac
}

is_installed_deb() {
    # Cut off in the middle of an installation: dpkg knows what is left to do.
    deb_name=$(dpkg-deb -f "$1" Package 2>/dev/null)
    deb_version=$(dpkg-deb -f "$1" Version 2>/dev/null)
    if [ -z "$deb_name" ] || [ -z "$deb_version" ]; then die "$1 is no Debian package" "Copy or download the release again."; fi
    # shellcheck disable=SC2016 # The variables are dpkg-query's.
    state=$(dpkg-query -W -f '${Status} ${Version}' "$deb_name" 2>/dev/null) || return 1
    case $state in
    'install ok installed '*) ;;
    *'half-'* | *unpacked* | *reinst-required* | *triggers-*)
        step "an earlier installation of $deb_name was interrupted"
        run dpkg --configure -a
        return 1
        ;;
    *) return 1 ;;
    esac
    installed=${state##* }
    [ "$installed" != "$deb_version" ] || return 0
    if dpkg --compare-versions "$installed" gt "$deb_version"; then
        note "$deb_name $installed is installed, which is newer than $deb_version; it is left as it is"
        return 0
    fi
    return 1
}

is_installed_rpm() {
    wanted=$(rpm -qp --qf '%{NAME}-%{VERSION}-%{RELEASE}.%{ARCH}' "$1" 2>/dev/null) ||
        die "$1 is no RPM package" "Copy or download the release again."
    rpm -q "$wanted" >/dev/null 2>&1
}

install_deb() {
    apt_install "$@" && return 0
    case $TAIL in
    *'dpkg --configure -a'*)
        # What a killed run left behind ended in the meantime, and not well.
        step "an installation that was interrupted is finished first"
        run dpkg --configure -a || return 1
        apt_install "$@"
        ;;
    *) return 1 ;;
    esac
}

apt_install() {
    run env DEBIAN_FRONTEND=noninteractive apt-get -y -q --no-install-recommends -o DPkg::Lock::Timeout=120 \
        -o Dpkg::Options::=--force-confold install "$@"
}

install_rpm() {
    if have dnf; then
        run dnf -y install "$@"
    elif have zypper; then
        run zypper --non-interactive install --allow-unsigned-rpm "$@"
    else
        run yum -y install "$@"
    fi
}

enough_space() {
    for place in /usr /var; do
        free=$(df -Pk "$(at $place)" 2>/dev/null | awk 'NR == 2 { print $4 }')
        case ${free:-unknown} in
        unknown | *[!0-9]*) ;;
        *) [ "$free" -ge "$SPACE_KIB" ] || die "only $((free / 1024)) MB are free in $place, $((SPACE_KIB / 1024)) MB are needed" \
            "Make room, then run this again." ;;
        esac
    done
}

# Programs and units where there is no package manager that we know: install_programs DIR programs/cma...
install_programs() {
    program_directory=$1/programs
    sums_root=$1
    shift
    verified "$sums_root" "$@" programs/assimcli
    enough_space
    put_file "$program_directory/assimcli" "$(at /usr/local/bin/assimcli)" 755
    for file in "$@"; do
        program=${file#programs/}
        put_file "$program_directory/$program" "$(at "/usr/local/sbin/$program")" 755
        [ "$ROOT" = / ] || continue
        unit=assimilation-$program
        put_part "$unit.service" "/etc/systemd/system/$unit.service"
        put_part "sysusers.d/$unit.conf" "/etc/sysusers.d/$unit.conf"
        put_part "tmpfiles.d/$unit.conf" "/etc/tmpfiles.d/$unit.conf"
        [ ! -f "/etc/sysusers.d/$unit.conf" ] || run systemd-sysusers "/etc/sysusers.d/$unit.conf" ||
            die "the accounts of /etc/sysusers.d/$unit.conf could not be made" "$TAIL"
    done
    make_directory "$(at /var/lib/assimilation)" 755
    key_directory
    make_directory "$(at /etc/assimilation)" 755
    [ "$ROOT" = / ] || return 0
    for file in "$@"; do
        conf=/etc/tmpfiles.d/assimilation-${file#programs/}.conf
        # What it cannot make is said by the units when they start.
        [ ! -f "$conf" ] || run systemd-tmpfiles --create "$conf"
    done
    [ -z "$CHANGED" ] || run systemctl daemon-reload
}

# put_part NAME TARGET: a unit or a like file of programs/, with the paths of programs that are outside of packages.
put_part() {
    part=$(find "$program_directory" -path "*$1" -type f | head -n 1)
    [ -n "$part" ] || return 0
    verified "$sums_root" "${part#"$sums_root"/}"
    mkdir -p "$WORK/parts"
    sed 's|^\(Exec[A-Za-z]*=[^/]*\)/usr/sbin/\(cma\|nanoprobe\)|\1/usr/local/sbin/\2|' "$part" >"$WORK/parts/part"
    put_file "$WORK/parts/part" "$2" 644
}

# put_file FROM TO MODE: whole or not at all, and nothing when it is there.
put_file() {
    ! cmp -s "$1" "$2" || return 0
    CHANGED=yes
    if [ -n "$DRY" ]; then
        step "would write $2"
        return 0
    fi
    if run mkdir -p "$(dirname "$2")" && run cp "$1" "$2.new" && run chmod "$3" "$2.new" && run mv -f "$2.new" "$2"; then
        step "wrote $2"
    else
        not_installed "$2"
    fi
}
