# What containers share: namespaces of another, of the host.
docker run -d --name base --network none --ipc shareable --hostname base busybox sleep 100
docker run --rm --network container:base --pid container:base --ipc container:base busybox sh -c 'hostname; ps | grep -c "[s]leep 100"; ip link | grep -c "^1: lo"'
docker run --rm --network none --pid host busybox sh -c '[ "$(readlink /proc/1/ns/pid)" = "$(readlink /proc/self/ns/pid)" ] && echo same pid namespace'
docker run --rm --network none --uts host busybox hostname | cmp - /etc/hostname >/dev/null; echo "compared"
docker run --rm --network host busybox sh -c 'ip link | grep -c "^1: lo"'
docker run --rm --network container:base --hostname x busybox true
echo "status $?"
docker run --rm --network none --pid container:nobody busybox true
echo "status $?"
docker run --rm --network none --ipc none busybox ls -d /dev/shm
docker stop -t 0 base
docker run --rm --network container:base busybox true
echo "status $?"
