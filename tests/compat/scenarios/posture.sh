# What a process meets in a default container, in a privileged one, and as somebody else.
show='grep -E "^(Cap|NoNewPrivs|Seccomp:)" /proc/self/status; id; pwd; ls -l /proc/self/fd | wc -l; ls /dev; umask; ulimit -n >/dev/null
for p in /proc/sys/kernel/hostname /proc/sysrq-trigger /sys/kernel; do [ -w $p ] && touch $p 2>&1; done; mount -t tmpfs x /mnt 2>&1; cat /proc/kcore 2>&1 | wc -c'
docker run --rm --network none --hostname box busybox sh -c "$show"
docker run --rm --network none --hostname box -u 1000:1000 busybox sh -c "$show"
docker run --rm --network none --hostname box -u user --cap-drop ALL --security-opt no-new-privileges busybox sh -c "$show"
docker run --rm --network none --hostname box --cap-add SYS_ADMIN --security-opt seccomp=unconfined busybox sh -c 'grep -E "^(Cap|Seccomp:)" /proc/self/status'
docker run --rm --network none --hostname box busybox sh -c 'mount | sed "s/ type overlay .*/ type overlay/" | grep -v cgroup | cut -d" " -f 3,5 | sort'
docker run --rm --network none --hostname box busybox sh -c 'cat /proc/1/cmdline | tr "\0" " "; echo; hostname; cat /etc/hostname; cat /etc/hosts'
docker run --rm --network none --hostname box.example --domainname example busybox sh -c 'hostname; cat /etc/hosts | tail -n 1'
docker run --rm --network none --init busybox sh -c 'cat /proc/1/cmdline | tr "\0" " " | cut -c 1-11'
docker run --rm --network none --sysctl net.ipv4.ip_forward=1 busybox cat /proc/sys/net/ipv4/ip_forward
docker run --rm --network none --ulimit nofile=100:200 busybox sh -c 'ulimit -Sn; ulimit -Hn'
docker run --rm --network none --device /dev/fuse busybox ls /dev/fuse
docker run --rm --network none --group-add audio --group-add 77 busybox id
docker run --rm --network none -e A=1 -e B busybox env | sort | grep -v HOSTNAME
docker run --rm --network none --entrypoint echo busybox a b
docker run --rm --network none -w /new/folder busybox sh -c 'pwd; ls -ld . | cut -c 1-10'
docker run --rm --network none busybox ip link | grep -o '^[0-9]*: [a-z0-9]*:'
