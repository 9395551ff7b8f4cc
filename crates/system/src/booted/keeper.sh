# Turns a machine on and stays beside it: when whoever started this dies or closes our standard input, the power is cut.
# Ends with the status of the machine: 129 (SIGHUP) wants to be started again, 130 (SIGINT) was switched off.
# $1 its control group   $2 its network namespace   $3 machine.sh   $4... arguments of that
set -u
cgroup=$1 namespace=$2
shift 2
exec 3<&0
mkdir -p "$cgroup" || exit 1
(
    echo 0 >"$cgroup/cgroup.procs" &&
        exec nsenter --net="/run/netns/$namespace" unshare --mount --pid --fork --uts --ipc --cgroup --kill-child \
            sh "$@" 3<&- </dev/null
) &
machine=$!
(
    read -r _ <&3
    kill -9 "$machine"
) 2>/dev/null &
watch=$!
exec 3<&-
wait "$machine"
status=$?
kill -9 "$watch" 2>/dev/null
# What was forked in its last moment is gone as soon as the kernel has come to it.
for _ in 1 2 3 4 5 6 7 8 9 10; do
    find "$cgroup" -depth -type d -exec rmdir {} + 2>/dev/null
    [ -d "$cgroup" ] || break
    sleep 0.1
done
exit "$status"
