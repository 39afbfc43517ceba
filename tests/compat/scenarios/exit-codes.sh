# What a client ends with: the container's code, and 125 to 127 for what kept it from starting.
try() { "$@"; echo "status $?"; }
try docker run --rm --network none busybox true
try docker run --rm --network none busybox false
try docker run --rm --network none busybox sh -c 'exit 42'
try docker run --rm --network none busybox sh -c 'exit 255'
try docker run --rm --network none busybox sh -c 'sh -c "kill -9 \$\$"'
try docker run --rm --network none busybox sh -c 'sh -c "kill \$\$"'
try docker run --rm --network none busybox timeout -s KILL 0.2 sleep 5
try docker run --rm --network none --no-such-flag busybox true
try docker run --rm --network none busybox no-such-command
try docker run --rm --network none busybox /no/such/command
try docker run --rm --network none busybox /etc
try docker run --rm --network none busybox /etc/passwd
try docker run --rm --network none -w /etc/passwd busybox true
try docker run --rm --network none -u no-such-user busybox true
try docker run --rm --network container:nobody busybox true
try docker run --rm --network none -m 1k busybox true
docker run -d --name cc --network none busybox sleep 100
try docker exec cc true
try docker exec cc sh -c 'exit 9'
try docker exec cc no-such-command
try docker exec cc /etc
try docker exec nobody true
try docker start nobody
try docker wait nobody
docker ps -a --format '{{.Names}} {{.Status}}'
docker run -d --name killed --network none busybox sleep 100
try docker kill killed
try docker start -a killed &
until [ "$(docker inspect -f '{{.State.Running}}' killed)" = true ]; do sleep 0.05; done
docker kill killed >/dev/null
wait $!
docker run -d --name ended --network none busybox sh -c 'trap "exit 143" TERM; echo up; while :; do sleep 0.05; done'
until [ "$(docker logs ended)" = up ]; do sleep 0.05; done
docker stop ended
docker wait ended
