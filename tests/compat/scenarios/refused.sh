# What the daemon refuses: bad names, references, options; the message is what is compared.
no() { "$@" >/dev/null; echo "$? $*" | cut -c 1-60; }
new() { no docker create --network none "$@"; }
new --name a busybox true
new --name '/slash' busybox true
new --name 'with space' busybox true
new --name '.dot' busybox true
new --name 'é' busybox true
new -w relative busybox true
new --stop-signal NOSUCH busybox true
new --stop-signal 99 busybox true
new -m 1m busybox true
new --memory-swap 10m busybox true
new -m 10m --memory-swap 5m busybox true
new -m 10m --memory-reservation 20m busybox true
new --memory-swappiness 101 busybox true
new --cpus 1000 busybox true
new --cpus 1 --cpu-quota 1000 busybox true
new --cpus 1 --cpu-period 1000 busybox true
new --cpu-period 1 busybox true
new --cpu-quota 1 busybox true
new --cpuset-cpus 99 busybox true
new --cpuset-cpus x busybox true
new --cpuset-mems 99 busybox true
new --blkio-weight 5 busybox true
new --oom-score-adj 2000 busybox true
new --shm-size 0 busybox true
new --cap-add NO_SUCH busybox true
new --cap-drop NO_SUCH busybox true
new --security-opt nonsense busybox true
new --security-opt nonsense=1 busybox true
new --security-opt no-new-privileges:maybe busybox true
new --log-opt nonsense=1 busybox true
new --log-opt max-size=x busybox true
new --log-opt max-file=x busybox true
new --log-driver none --log-opt max-size=1m busybox true
new --runtime nonsense busybox true
new --restart always:x busybox true
new --restart on-failure:-1 busybox true
new --ipc nonsense busybox true
new --pid nonsense busybox true
new --uts nonsense busybox true
new --userns nonsense busybox true
new --cgroupns nonsense busybox true
new --pid container:nobody busybox true
new --ipc container:nobody busybox true
new --volumes-from nobody busybox true
new --volumes-from a:nonsense busybox true
new --volumes-from '' busybox true
new -v / busybox true
new -v /a:/ busybox true
new -v /a:/b:nonsense busybox true
new -v /a:/b:ro,rw busybox true
new -v /a:/b:shared,slave busybox true
new -v nn:/b:rshared busybox true
new -v xx:/b -v yy:/b busybox true
new -v xx:/b --tmpfs /b busybox true
new -v 'bad name:/b' busybox true
new -v x/y:/b busybox true
new --mount type=bind,source=/no/such,target=/b busybox true
new --mount type=bind,source=relative,target=/b busybox true
new --mount type=tmpfs,target=relative busybox true
new --mount type=volume,source=xx,target=relative busybox true
new --mount type=volume,source='bad name',target=/b busybox true
new --tmpfs relative busybox true
new --tmpfs /t:nonsense busybox true
new --tmpfs / busybox true
new --device /no/such busybox true
new --device-cgroup-rule 'c 1:1 x' busybox true
new --sysctl kernel.nonsense.x=1 --uts host busybox true
new --sysctl net.ipv4.ip_forward=1 --network host busybox true
new --hostname "$(printf 'x%.0s' $(seq 70))" busybox true
new --health-interval 1us --health-cmd true busybox
new --health-timeout 1us --health-cmd true busybox
new --health-retries -1 --health-cmd true busybox
new --storage-opt nonsense=1 busybox true
new --gpus all busybox true
new --dns nonsense busybox true
new --add-host nonsense busybox true
new --ulimit nonsense=1 busybox true
new --group-add nonsense busybox true
new --network nonsense busybox true
new --network container:nobody busybox true
new --network container:a -p 80:80 busybox true
new --network container:a --hostname x busybox true
new --network host --network-alias x busybox true
new --ip 10.0.0.1 busybox true
new --mac-address nonsense busybox true
new --pull never 'BAD:name' true
new --pull never 'busybox:bad tag' true
new --pull never 'busybox@sha256:short' true
new --pull never sha256:0000 true
new --pull never busybox:absent true
new ''
docker rm -f $(docker ps -aq) >/dev/null
no docker run --network none busybox ''
no docker run --network none --name nothing --entrypoint '' busybox
docker ps -a --format '{{.Names}} {{.Status}}' | sed 's/^[a-z]*_[a-z]*[0-9]* /random /'
docker volume prune -f >/dev/null
docker volume rm xx yy nn >/dev/null 2>&1
