# A detached loop, watched, entered and stopped: the walk of the issue.
docker run -d --name loop --network none busybox /bin/sh -c \
  'trap "exit 143" TERM; echo hello world; until [ -e /go ]; do sleep 0.05; done; echo went; while :; do sleep 0.05; done'
until [ "$(docker logs loop)" = "hello world" ]; do sleep 0.05; done
docker logs loop
docker ps
docker attach --sig-proxy=false loop >attached &
attach=$!
sleep 0.5
docker exec loop touch /go
until grep -q went attached; do sleep 0.05; done
# The shell says "Killed" or does not, by when it comes to know.
{ kill -KILL $attach; wait $attach || true; } 2>/dev/null
cat attached
docker ps --format '{{.Names}} {{.Image}} {{.Command}} {{.State}}'
docker stop -t 5 loop
docker ps
docker ps -a
docker inspect -f '{{.State.Status}} {{.State.ExitCode}} {{.State.Running}}' loop
docker rm loop
docker ps -aq
