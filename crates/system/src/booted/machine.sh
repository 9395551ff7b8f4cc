# The file system of a machine, then $6... in it: runs with mount, PID, UTS, IPC and cgroup namespaces of its own.
# $1 how: overlay or plain   $2 template   $3 the machine's own files   $4 where its root is put together
# $5 init: becomes PID 1 of it; shell: only chroot, for the machine while it is off
set -eu
how=$1 template=$2 own=$3 place=$4 as=$5
shift 5
if [ "$how" = overlay ]; then
    mount -t overlay overlay -o "lowerdir=$template,upperdir=$own/files,workdir=$own/work" "$place"
else
    mount --bind "$own/files" "$place"
fi
mount -t proc -o nosuid,nodev,noexec proc "$place/proc"
# The kernel is everybody's: a machine may change its own network and nothing else of it.
mount --bind "$place/proc/sys" "$place/proc/sys"
mount --bind "$place/proc/sys/net" "$place/proc/sys/net"
mount -o remount,bind,ro "$place/proc/sys"
mount -o remount,bind,rw "$place/proc/sys/net"
# Each start has another name, as on hardware.
cat /proc/sys/kernel/random/uuid >"$own/boot_id"
mount --bind "$own/boot_id" "$place/proc/sys/kernel/random/boot_id"
if [ -e "$place/proc/sysrq-trigger" ]; then
    mount --bind "$place/proc/sysrq-trigger" "$place/proc/sysrq-trigger"
    mount -o remount,bind,ro "$place/proc/sysrq-trigger"
fi
mount -t sysfs -o ro,nosuid,nodev,noexec sysfs "$place/sys"
mount -t tmpfs -o mode=755,nosuid tmpfs "$place/dev"
mkdir "$place/dev/pts" "$place/dev/shm"
mount -t devpts -o newinstance,ptmxmode=0666,mode=620,gid=5 devpts "$place/dev/pts"
mount -t tmpfs -o mode=1777,nosuid,nodev tmpfs "$place/dev/shm"
mknod -m 666 "$place/dev/null" c 1 3
mknod -m 666 "$place/dev/zero" c 1 5
mknod -m 666 "$place/dev/full" c 1 7
mknod -m 666 "$place/dev/random" c 1 8
mknod -m 666 "$place/dev/urandom" c 1 9
mknod -m 666 "$place/dev/tty" c 5 0
ln -s pts/ptmx "$place/dev/ptmx"
ln -s /proc/self/fd "$place/dev/fd"
ln -s /proc/self/fd/0 "$place/dev/stdin"
ln -s /proc/self/fd/1 "$place/dev/stdout"
ln -s /proc/self/fd/2 "$place/dev/stderr"
mount -t tmpfs -o mode=755,nosuid,nodev tmpfs "$place/run"
if [ "$as" = init ]; then
    mount -t cgroup2 -o nosuid,nodev,noexec cgroup2 "$place/sys/fs/cgroup"
fi
cd "$place"
# Both on one mount point; the machine's own is the lower one once the old root is taken off.
pivot_root . .
umount -l .
# systemd asks this variable whether the hardware is somebody else's.
exec env -i PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME=/root container=assimilation "$@"
