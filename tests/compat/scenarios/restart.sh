# Restart, by hand and by policy.
docker run -d --name rr --network none busybox sh -c 'trap "exit 0" TERM; echo up; while :; do sleep 0.05; done'
until [ "$(docker logs rr)" = up ]; do sleep 0.05; done
docker restart -t 2 rr
until [ "$(docker logs rr | wc -l)" = 2 ]; do sleep 0.05; done
docker inspect -f '{{.State.Status}} {{.RestartCount}}' rr
docker stop -t 2 rr
docker restart rr
docker inspect -f '{{.State.Status}}' rr
docker run -d --name ff --network none --restart on-failure:2 busybox sh -c 'echo try; exit 3'
until [ "$(docker logs ff | wc -l)" = 3 ] && [ "$(docker inspect -f '{{.State.Status}}' ff)" = exited ]; do sleep 0.1; done
docker inspect -f '{{.State.ExitCode}} {{.RestartCount}}' ff
docker run -d --name ok --network none --restart on-failure busybox true
docker wait ok
docker inspect -f '{{.State.Status}} {{.RestartCount}}' ok
docker run -d --name always --network none --restart always busybox true
until [ "$(docker inspect -f '{{.RestartCount}}' always)" -ge 2 ]; do sleep 0.05; done
docker stop always
docker inspect -f '{{.State.Restarting}}' always
docker create --network none --restart nonsense busybox true
echo "status $?"
docker create --network none --restart always:3 busybox true
echo "status $?"
docker restart nobody
echo "status $?"
