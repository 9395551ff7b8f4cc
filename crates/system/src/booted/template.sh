# Makes a fresh Debian tree into a template of machines. Runs inside of it, with nothing mounted.
set -eu
# What needs hardware, a terminal, the kernel of the machine below, or the network; and what takes time at every start.
for unit in systemd-udevd.service systemd-udevd-control.socket systemd-udevd-kernel.socket systemd-udev-trigger.service \
    systemd-journald-audit.socket systemd-sysctl.service systemd-modules-load.service systemd-remount-fs.service \
    systemd-networkd.service systemd-networkd.socket systemd-timesyncd.service systemd-pstore.service \
    systemd-logind.service getty.target console-getty.service getty-static.service \
    modprobe@configfs.service modprobe@dm_mod.service modprobe@drm.service modprobe@efi_pstore.service \
    modprobe@fuse.service modprobe@loop.service kmod-static-nodes.service \
    dev-hugepages.mount dev-mqueue.mount sys-kernel-debug.mount sys-kernel-tracing.mount sys-kernel-config.mount \
    sys-fs-fuse-connections.mount proc-sys-fs-binfmt_misc.automount \
    apt-daily.timer apt-daily-upgrade.timer dpkg-db-backup.timer e2scrub_all.timer e2scrub_reap.service fstrim.timer \
    systemd-update-utmp.service systemd-update-utmp-runlevel.service; do
    ln -sf /dev/null "/etc/systemd/system/$unit"
done
ln -sf /lib/systemd/system/multi-user.target /etc/systemd/system/default.target
# Without a host key of its own it could not start.
rm -f /etc/systemd/system/multi-user.target.wants/ssh.service /etc/systemd/system/sshd.service
# Mail goes to local users only, and only where a test starts the server.
rm -f /etc/systemd/system/multi-user.target.wants/opensmtpd.service
printf 'listen on lo port 25\naction "local" maildir\nmatch for any action "local"\n' >/etc/smtpd.conf
# The journal outlives the machine, so that a test can print it; the kernel's own audit stays as it is.
mkdir -p /var/log/journal /etc/systemd/journald.conf.d /etc/ssh/sshd_config.d
printf '[Journal]\nAudit=no\nSystemMaxUse=64M\nSyncIntervalSec=1s\nRateLimitBurst=0\n' >/etc/systemd/journald.conf.d/test.conf
printf 'PermitRootLogin yes\nUseDNS no\n' >/etc/ssh/sshd_config.d/test.conf
# Each machine gets its own.
rm -f /etc/ssh/ssh_host_* /etc/hostname
: >/etc/machine-id
rm -f /etc/resolv.conf
useradd --create-home --shell /bin/bash admin
useradd --create-home --shell /bin/bash guest
usermod --append --groups sudo admin
printf 'root:resistance\nadmin:futile\nguest:seven\n' | chpasswd
rm -rf /var/lib/apt/lists/* /var/cache/apt/archives/*.deb
