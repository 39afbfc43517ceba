# Signals: by name and number, to what takes them and what does not.
script='trap "echo usr1" USR1; trap "echo term; exit 12" TERM; echo up; while :; do sleep 0.05; done'
docker run -d --name kk --network none busybox sh -c "$script"
until [ "$(docker logs kk)" = up ]; do sleep 0.05; done
docker kill -s USR1 kk
until docker logs kk | grep -q usr1; do sleep 0.05; done
docker kill -s SIGUSR1 kk
docker kill -s NOSUCH kk
echo "status $?"
docker kill -s TERM kk
docker wait kk
docker kill kk
echo "status $?"
docker run -d --name hard --network none busybox sleep 100
docker kill hard
docker wait hard
docker run -d --name num --network none busybox sleep 100
docker kill -s 9 num
docker wait num
docker run -d --name soft --network none busybox sh -c 'trap "exit 0" INT; echo up; while :; do sleep 0.05; done'
until [ "$(docker logs soft)" = up ]; do sleep 0.05; done
docker stop -t 5 -s INT soft
docker inspect -f '{{.State.ExitCode}}' soft
docker run -d --name deaf --network none busybox sh -c 'trap "" TERM; echo up; while :; do sleep 0.05; done'
until [ "$(docker logs deaf)" = up ]; do sleep 0.05; done
docker stop -t 1 deaf
docker inspect -f '{{.State.ExitCode}}' deaf
docker stop deaf
docker kill nobody
echo "status $?"
docker ps -a --format '{{.Names}} {{.Status}}'
